"""Does the bench ask every command, and judge the slowest?"""

from __future__ import annotations

from tests.bench import commands, report
from tests.bench.cluster import Size
from tests.bench.commands import Answered
from tests.bench.program import Launched
from tests.bench.results import Report
from tests.bench.targets import COMMANDS_SIZE, LARGE_COMMANDS_SIZE, targets
from tests.lab import sandbox


def test_commands_are_asked_alive_and_of_a_file() -> None:
    sandbox.enter_private()
    found = commands.answered("nftables", Size(20, 3), rounds=1)
    sandbox.enter_private()
    assert {of.size for of in found} == {Size(20, 3)}
    words = {of.what for of in found}
    assert {what.partition(" ")[0] for what in words} == {
        "dump",
        "diff",
        "explain",
        "render",
        "snapshot",
    }
    live = {what for what in words if not what.endswith(" --snapshot")}
    assert words == live | {f"{what} --snapshot" for what in live - {"snapshot"}}
    assert all(of.cost.seconds > 0 < of.cost.peak_megabytes for of in found)


def cost(what: str, seconds: float, of: Size) -> Answered:
    return Answered("nftables", *of, what, Launched(seconds, seconds, 0.0, 40.0))


def test_the_slowest_is_judged() -> None:
    small, large = COMMANDS_SIZE, LARGE_COMMANDS_SIZE
    answers = [
        *(cost("dump of a Service", 0.4, small), cost("diff --snapshot", 1.01, small)),
        *(cost("dump of a Service", 1.0, large), cost("explain of a packet", 0.9, large)),
        *(cost("dump", 3.01, large), cost("dump --snapshot", 9.0, large)),
        cost("dump", 99.0, Size(20, 3)),
    ]
    assert [(of.what, of.figure, of.met) for of in targets([], [], [], answers)] == [
        ("any command: diff --snapshot", "1.01 s", False),
        ("a command of one Service: dump of a Service", "1.00 s", True),
        ("any command: dump", "3.01 s", False),
    ]


def test_the_report_tells_of_each() -> None:
    lines = report.text(
        Report("here", [], [], answers=[cost("dump", 0.5, COMMANDS_SIZE)])
    ).splitlines()
    assert lines[-1].split() == ["dump", "nftables", "1,000", "x", "10", "0.50", "0.50", "40"]
