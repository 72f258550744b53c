"""Is the README true? Every command in it is run, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab import sandbox

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
ANYTHING = "..."


class Example(NamedTuple):
    """A command of the README and what it is said to print."""

    command: str
    printed: tuple[str, ...]


def examples(text: str) -> Iterator[list[Example]]:
    """The console blocks; the commands of a block depend on each other."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        yield [Example(lines[0], tuple(lines[1:])) for lines in map(str.splitlines, parts)]


BLOCKS = list(examples(README))


def without_chance(line: str) -> str:
    """A line without what differs from run to run: figures, bars, and which pod chance chose."""
    line = re.sub(r"all to pod-\w+", "all to a pod", line)
    return re.sub(r"[\d.,%]+|#+| +", " ", line)


def is_as_said(printed: str, said: tuple[str, ...]) -> bool:
    """Whether the output has the lines that are shown; `...` stands for any others."""
    pattern = "".join(
        "(?:.*\n)*" if line == ANYTHING else re.escape(without_chance(line)) + "\n" for line in said
    )
    lines = "".join(without_chance(line) + "\n" for line in printed.splitlines())
    return re.fullmatch(pattern, lines) is not None


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[0].command)
def test_every_command_prints_what_the_readme_shows(block: list[Example]) -> None:
    sandbox.require_sandbox()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for example in block:
        done = subprocess.run(
            ["/bin/sh", "-c", example.command],
            cwd=ROOT,
            env=os.environ | {"PATH": path, "MAKEFLAGS": "--silent --no-print-directory"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert is_as_said(done.stdout, example.printed), done.stdout


def test_a_different_output_is_noticed() -> None:
    assert is_as_said("took 3 ms\nall to pod-a1\nend\n", ("took 12 ms", "all to pod-c2", "end"))
    assert is_as_said("a\nb\nend\n", ("...", "end"))
    assert not is_as_said("DROP\nend\n", ("FORWARD", "end"))
    assert not is_as_said("FORWARD\n", ("FORWARD", "end"))


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"\bmake (\w+)", README))
    assert {"demo", "test", "bench"} <= named
    assert named <= set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def test_every_command_that_is_named_exists() -> None:
    named = set(re.findall(r"\bheadgate ([a-z]+)\b", README)) - {"is", "services", "run"}
    listed = subprocess.run(
        [sys.executable, "-m", "proxy", "--help"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))
    assert named <= known
    assert known - {"version", "run"} <= named


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
