"""Does docs/log.md tell which lines there are, and at which level?"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy import log

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "log.md").read_text()
PACKAGES = ("conntrack", "endpoints", "modes", "proxy")
TREES = [
    ast.parse(path.read_bytes()) for of in PACKAGES for path in sorted((ROOT / of).rglob("*.py"))
]


class Said(NamedTuple):
    """A line that is written at a level that can be read off the code."""

    text: str
    level: int


def said() -> Iterator[Said]:
    """What `log.info` is called with."""
    for tree in TREES:
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr="info"),
                    args=[ast.Constant(value=str(text))],
                ):
                    given = {keyword.arg: keyword.value for keyword in node.keywords}
                    level = given.get("v", ast.Constant(0))
                    if isinstance(level, ast.Constant):
                        assert isinstance(level.value, int)
                        yield Said(text, level.value)


CONSTANTS = {
    node.value
    for tree in TREES
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}
LEVELS = {
    int(level): set(re.findall(r'`"([^`]+)"`', told))
    for level, told in re.findall(r"^\| (\d) \| (.*) \|$", TEXT, re.MULTILINE)
}
KNOWN = re.findall(r'^\| `"([^`]+)"` \| ([EWI]) \|', TEXT, re.MULTILINE)


def test_every_line_that_has_to_be_asked_for_is_in_the_table() -> None:
    asked_for = {line for line in said() if line.level > 0}
    assert asked_for
    assert {line for line in asked_for if line.text not in LEVELS.get(line.level, ())} == set()
    assert {line.level for line in asked_for} == set(LEVELS) - {0, 1}


def test_every_line_that_is_named_is_one() -> None:
    assert len(KNOWN) > 10
    named = {text for text, _ in KNOWN}.union(*LEVELS.values())
    assert named - CONSTANTS == set()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Where lines may be written; the log is then as it was before."""
    root, ours = logging.getLogger(), logging.getLogger("headgate")
    before = root.handlers, root.level, ours.level
    yield io.StringIO()
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_the_expression_reads_a_line(written: io.StringIO) -> None:
    (pattern,) = re.findall(r"^```\n(\^.*\$)\n```$", TEXT, re.MULTILINE)
    (example,) = re.findall(r"^```\n(I\d.*)\n```$", TEXT, re.MULTILINE)
    log.setup(2, written)
    log.info('Says "no"', v=2, mode="nftables", took="1.2 ms")
    log.warning("Degraded")
    log.error("Sync failed")
    lines = [example, *written.getvalue().splitlines()]
    found = [match.groups() for line in lines if (match := re.match(pattern, line))]
    assert [groups[0] for groups in found] == ["I", "I", "W", "E"]
    assert found[1][3] == "test_log_page.py"
    assert [json.loads(groups[5]) for groups in found[1:3]] == ['Says "no"', "Degraded"]
    assert found[1][6] == ' mode=nftables took="1.2 ms"'


def test_the_keys_of_json_are_those_that_are_told(written: io.StringIO) -> None:
    log.setup(0, written, "json")
    log.info("A")
    log.warning("B")
    log.error("C", exc_info=OSError("no"))
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    table = TEXT.partition("## JSON")[2].partition("## How much")[0]
    told = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert set().union(*lines) == told
    assert [line.get("severity") for line in lines] == [None, "warning", "error"]
    assert [line.get("v") for line in lines] == [0, None, None]
