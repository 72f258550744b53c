"""What did pytest say that ran on another kernel? Pure, but for the reading of its reports."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

_OPTIONS = ("-v", "--color=no", "--tb=short", "--durations=3", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Inner:
    """One test that ran there."""

    name: str
    """Module and function with its parameters, as in JUnit's format."""
    complaint: str
    """Why it failed, or why it was skipped; empty if it passed."""

    def __str__(self) -> str:
        """The name, and the complaint below it."""
        return f"{self.name}: {self.complaint}"


def command(folder: Path, runs: Iterable[Sequence[str]]) -> str:
    """One pytest after the other, each with these arguments and a report in the folder."""
    return "".join(f"{shlex.join(_words(folder, n, run))} || true\n" for n, run in enumerate(runs))


def _words(folder: Path, number: int, arguments: Sequence[str]) -> Iterator[str]:
    yield from (sys.executable, "-m", "pytest", *_OPTIONS, f"--junitxml={_report(folder, number)}")
    yield from arguments


def _report(folder: Path, number: int) -> Path:
    return folder / f"junit-{number}.xml"


def results(folder: Path, number: int) -> list[Inner]:
    """The tests of run `number`; none if pytest wrote no report or found no test."""
    report = _report(folder, number)
    if not report.exists():
        return []
    cases = ET.parse(report).iter("testcase")  # noqa: S314 -- written by our own pytest
    return [
        Inner(f"{case.get('classname')}::{case.get('name')}", _complaint(case)) for case in cases
    ]


def _complaint(case: ET.Element) -> str:
    """A test that fails and one that fails to set up or tear down; a skip says why."""
    return "\n".join(
        f"{part.tag}: {part.get('message')}\n{part.text or ''}".rstrip()
        for part in case
        if part.tag in ("failure", "error", "skipped")
    )
