"""Is it said in one line that an answer cannot be written?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.proxy.build import endpoints, node, service, together

HEADGATE = f"{sys.executable} -m proxy"
LARGE = 400
"""Services, whose program no buffer holds."""


def typed(line: str) -> tuple[int, str]:
    """A command line of the shell: exit status and what went to standard error."""
    done = subprocess.run(
        ["sh", "-c", line],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("many") / "many.yaml"
    names = [(f"s{n}", f"10.97.{n // 250}.{n % 250 + 1}") for n in range(LARGE)]
    shown = (together(service(*of), endpoints("10.244.1.2", of=of[0])) for of in names)
    path.write_text(together(*shown, node()))
    return f"{HEADGATE} render --mode=nftables --node=node-a --manifests={path}"


COMMANDS = ["version", "--help", "diff --help", "completion bash", "cleanup --mode=nftables"]


@pytest.mark.parametrize(
    ("where", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_an_answer_that_nobody_takes(render: str, where: str, why: str) -> None:
    for command in (*(f"{HEADGATE} {one}" for one in COMMANDS), render, f"{render} -o json"):
        assert typed(f"{command} {where}") == (2, f"headgate: standard output: {why}\n"), command


def test_without_any_place_for_a_word(render: str) -> None:
    assert typed(f"{render} >&- 2>&-") == (2, "")
    assert typed(f"{HEADGATE} frobnicate >&- 2>&-") == (2, "")


def test_what_needs_no_place_does_its_work(tmp_path: Path) -> None:
    """Somebody else's file or socket must not become standard output."""
    path = tmp_path / "config"
    status, said = typed(f"{HEADGATE} run --write-config-to={path} >&-")
    assert (status, "Traceback" in said) == (0, False)
    assert path.read_text().startswith("apiVersion: kubeproxy.config.k8s.io/")


def test_an_answer_is_the_same_for_every_kind_of_place(render: str, tmp_path: Path) -> None:
    path = tmp_path / "answer"
    assert typed(f"{render} >{path}") == (0, "")
    piped = subprocess.run(render.split(), stdout=subprocess.PIPE, check=True).stdout
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    at_once = subprocess.run(render.split(), stdout=subprocess.PIPE, env=unbuffered, check=True)
    assert path.read_bytes() == piped == at_once.stdout
    assert piped.count(b"\n") > LARGE
