"""What did pytest say that ran on another kernel? Pure, but for the reading of its reports."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

_OPTIONS = ("-v", "--color=no", "--tb=short", "--durations=3", "-p", "no:cacheprovider")


def command(folder: Path, runs: Iterable[Sequence[str]]) -> str:
    """One pytest after the other, each with these arguments; their reports go to the folder."""
    return "".join(
        f"{shlex.join(_words(folder, n, run))} 2>&1 | tee {shlex.quote(str(_log(folder, n)))}\n"
        for n, run in enumerate(runs)
    )


def _words(folder: Path, number: int, arguments: Sequence[str]) -> Iterator[str]:
    yield from (sys.executable, "-m", "pytest", *_OPTIONS, f"--junitxml={_report(folder, number)}")
    yield from arguments


def _report(folder: Path, number: int) -> Path:
    return folder / f"junit-{number}.xml"


def _log(folder: Path, number: int) -> Path:
    return folder / f"pytest-{number}.log"


def complaints(folder: Path, number: int) -> list[str]:
    """Each test of run `number` that did not pass, and why; a run without a test is a complaint."""
    report, log = _report(folder, number), _log(folder, number)
    # It is written by our own pytest.
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314
    if not cases:
        said = log.read_text() if log.exists() else "nothing, it was not started"
        return [f"no test ran; pytest said\n{said}"]
    found = [
        f"{case.get('classname')}::{case.get('name')}: {complaint}"
        for case in cases
        if (complaint := _complaint(case))
    ]
    return [f"{len(found)} of {len(cases)} tests did not pass", *found] if found else []


def _complaint(case: ET.Element) -> str:
    """A test may fail, and fail to tear down as well; a skip says why."""
    return "\n".join(
        f"{part.tag}: {part.text or part.get('message')}"
        for part in case
        if part.tag in ("failure", "error", "skipped")
    )
