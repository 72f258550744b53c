"""Does what a file, a kernel or an operator says reach a terminal only as text?"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.desired.snapshot import recall
from proxy.every import aside
from proxy.settings.refusal import printable
from tests.lab import sandbox
from tests.unit.proxy.build import endpoints, node, service, together
from tests.unit.proxy.running import running

EVIL = "\x1b[31mE\x1b]0;pwn\x07\nV"
HARMLESS = "?[31mE?]0;pwn??V"


def replaced(document: Any, old: str, new: str) -> Any:  # noqa: ANN401 (JSON)
    """The same JSON with one word for another, wherever it stands as a value."""
    if isinstance(document, dict):
        return {key: replaced(value, old, new) for key, value in document.items()}
    if isinstance(document, list):
        return [replaced(value, old, new) for value in document]
    return new if document == old else document


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A snapshot that says something to the terminal wherever it may say anything."""
    sandbox.enter_private()
    path = tmp_path / "node.hgs"
    with running(together(service(), endpoints("10.244.1.2"), node())):
        assert main(["snapshot", "-o", str(path)]) == 0
    document = json.loads(gzip.decompress(path.read_bytes()))
    for known in (document["origin"], document["version"], "eu-1a", "node-b"):
        document = replaced(document, known, EVIL)
    document["missing"]["iptables"] = EVIL
    document["held"].pop("iptables", None)
    rule = {"kind": "drop", "text": EVIL, "number": 1}
    chain = {"tool": "nft", "family": "ip", "table": EVIL, "name": EVIL, "rules": [rule]}
    document["foreign"] = [chain | {"hook": "prerouting", "type": "filter", "priority": -400}]
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    recall.cache_clear()
    return path


@pytest.mark.parametrize(
    "command",
    [
        "diff",
        "diff --mode=ebpf" + EVIL.replace("\n", ""),
        "explain 10.96.7.7:80",
        "dump --mode=nftables",
        "dump --mode=iptables",
        "dump --mode=nftables -o native",
        "render",
    ],
)
def test_a_snapshot_says_nothing_to_a_terminal(
    file: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main([*command.split(" "), "--snapshot", str(file)])
    out, err = capsys.readouterr()
    assert out or err
    assert all(line == printable(line) for line in (out + err).split("\n"))
    if command.startswith("explain"):
        assert HARMLESS in out


def test_what_is_said_besides_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    aside(f"chain {EVIL}", name=EVIL)
    assert capsys.readouterr().err == f"headgate: chain {HARMLESS}, name {HARMLESS}\n"
