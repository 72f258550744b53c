"""Does the bench weigh a headgate that is at rest, and all of what it uses?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bench import report
from tests.bench.cluster import Size
from tests.bench.idle import Idle, idle
from tests.bench.processes import processor_seconds
from tests.bench.results import Report
from tests.bench.targets import IDLE_SIZE, targets
from tests.lab import modes, sandbox

SMALLEST = Size(20, 3)
AT_REST = Idle("nftables", *IDLE_SIZE, 60.0, 0.3, 60.0, 50.0, 70.0)

BUSY = """
import os, time
def burn():
    while time.process_time() < 0.3:
        pass
child = os.fork()
burn()
if child:
    os.waitpid(child, 0)
    print("done", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    """What is measured leaves its rules: each test, and who comes after, has a network without."""
    sandbox.enter_private()
    yield
    sandbox.enter_private()


@pytest.mark.parametrize("back_end", [name for name in modes.offered() if name != "ipvs"])
def test_the_real_program_is_weighed(back_end: str) -> None:
    found = idle(back_end, SMALLEST, seconds=0.5)
    assert (found.back_end, found.size) == (back_end, SMALLEST)
    assert found.seconds >= 0.5
    assert 20 < found.resident_megabytes <= found.peak_megabytes
    assert found.proportional_megabytes is not None
    assert 10 < found.proportional_megabytes <= found.resident_megabytes
    assert 0 <= found.percent < 100


def test_children_count_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        tick = 1 / os.sysconf("SC_CLK_TCK")
        assert processor_seconds(process.pid) > 0.6 - 4 * tick
        process.stdin.close()


@pytest.mark.parametrize(
    ("used", "resident", "met"),
    [(0.6, 100.0, [True, True]), (0.61, 100.0, [True, False]), (0.6, 100.1, [False, True])],
)
def test_both_targets_are_judged(used: float, resident: float, met: list[bool]) -> None:
    found = Idle("nftables", *IDLE_SIZE, 60.0, used, resident, None, resident)
    judged = targets([], [], [found])
    assert [(target.what, target.met) for target in judged] == [
        ("idle, RSS", met[0]),
        ("idle, of one processor", met[1]),
    ]


def test_another_size_promises_nothing() -> None:
    assert targets([], [], [Idle("nftables", *SMALLEST, 60.0, 9.0, 999.0, None, 999.0)]) == []


def test_the_report_tells_of_rest() -> None:
    lines = report.text(Report("here", [], [], [], [AT_REST])).splitlines()
    assert lines[-1].split() == ["nftables", "1,000", "x", "10", "60", "0.50", "60", "50", "70"]
