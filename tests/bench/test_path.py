"""Do packets go where the bench of their way says, and is every figure there?"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as FilePath

import msgspec
import pytest

from tests.bench.path import rules, table, traffic
from tests.bench.path.measure import Effort, echoing, measured
from tests.bench.path.results import NONE, RULE, STRAIGHT, TRACKED, Figure, Path, Spread
from tests.bench.path.world import PODS, World, built
from tests.lab import modes

LITTLE = Effort(turns=2, datagrams=60, connects=60, batches=2, connections=20)
FLOWS = 2 * 2 * (60 + 60 + 2 * 20)
"""Of a variant, in two rounds."""
BACK_ENDS = [name for name in modes.offered() if name != "ipvs"]
NOTHING_PASSES = """\
table ip wall {
    chain forward {
        type filter hook forward priority 0; policy drop
    }
}
"""
KUBE_PROXY = os.environ.get("KUBE_PROXY")


@pytest.fixture
def world(tmp_path: FilePath) -> Iterator[World]:
    with built(tmp_path / "world") as one, echoing([one]):
        yield one


def silent(_: str) -> None:
    """Nobody is told."""


def check(found: list[Path], variants: list[tuple[str, str, int]]) -> None:
    """Everything is there that was asked for, and every pod had its part in it."""
    assert [(path.variant, path.back_end, path.services) for path in found] == variants
    for path in found:
        assert (path.pods, path.packets) == (len(PODS), FLOWS), path
        for figure in (path.datagram, path.connect, path.connections):
            others = [figure.to_straight] if figure.to_straight else []
            assert bool(others) is (path.variant == "headgate")
            for spread in (figure.value, figure.to_none, figure.to_tracked, *others):
                assert 0 < spread.low <= spread.median <= spread.high, path
        assert 1 < path.datagram.value.median < 100_000
        assert 1 < path.connect.value.median < 100_000
        assert 10 < path.connections.value.median < 1_000_000


def is_one(figure: Figure, to: str) -> bool:
    spread = getattr(figure, to)
    return (spread.low, spread.median, spread.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_every_figure_of_every_variant_is_there(back_end: str) -> None:
    told: list[str] = []
    found = measured([back_end], [1, 12], 2, None, told.append, LITTLE)
    check(
        found,
        [
            (NONE, "", 0),
            (TRACKED, "", 0),
            (RULE, "", 0),
            (STRAIGHT, back_end, 1),
            (STRAIGHT, back_end, 12),
            ("headgate", back_end, 1),
            ("headgate", back_end, 12),
        ],
    )
    assert f"path: headgate {back_end}, 12 Services: its rules" in told
    none, tracked, *others = found
    assert is_one(none.datagram, "to_none")
    assert is_one(tracked.connections, "to_tracked")
    assert not any(is_one(path.connect, "to_none") for path in others)


@pytest.mark.skipif(not KUBE_PROXY, reason="KUBE_PROXY names no kube-proxy")
@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_peer_is_measured_beside(back_end: str) -> None:
    found = measured([back_end], [5], 2, KUBE_PROXY, silent, LITTLE)
    programs = (STRAIGHT, "headgate", "kube-proxy")
    check(found[3:], [(program, back_end, 5) for program in programs])


def test_a_peer_that_takes_minutes_is_left_out() -> None:
    told: list[str] = []
    found = measured(["iptables-nft"], [1_001], 2, "/nowhere/kube-proxy", told.append, LITTLE)
    assert [path.variant for path in found[3:]] == [STRAIGHT, "headgate"]
    assert [line for line in told if "left out" in line] == [
        "path: kube-proxy iptables-nft, 1,001 Services left out: it takes minutes; FULL=1 measures it too"
    ]


@pytest.mark.parametrize("services", [1, 12, 10_000])
def test_services_are_asked_from_the_first_to_the_last(services: int) -> None:
    numbers = rules.asked(services)
    assert (numbers[0], numbers[-1]) == (0, services - 1)
    assert len(numbers) == min(services, rules.TARGETS)


def test_nothing_is_tracked_where_there_is_no_proxy(world: World) -> None:
    assert traffic.datagrams(world, 10)
    assert world.run(["conntrack", "-L"]) == ""
    assert set(world.answers) == set(PODS)


def test_what_goes_to_a_service_is_translated(world: World) -> None:
    rules.write_by_headgate(world, "nftables", 12)
    traffic.datagrams(world, 48)
    traffic.connects(world, 48)
    traffic.connections(world, 12)
    flows = world.run(["conntrack", "-L"]).splitlines()
    assert len(flows) == 48 + 48 + 12
    pods = set()
    for flow in flows:
        asked, answered = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", flow)
        assert (asked[1], int(asked[3])) in world.targets
        assert (answered[1], answered[2]) == (asked[0], "8080")
        assert answered[1] == asked[0], "masqueraded"
        pods.add(answered[0])
    assert pods == set(world.answers) <= set(PODS)
    assert world.answers.total() == len(flows)


def test_an_answer_that_does_not_come_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "_PATIENCE", struct.pack("ll", 0, 100_000))
    world.run(["nft", "--file", "-"], NOTHING_PASSES)
    with pytest.raises(BlockingIOError):
        traffic.connects(world, 1)


def test_a_figure_is_shown_with_its_spread() -> None:
    spread = Spread(1234.56, 1.04, 2000)
    figure = Figure(spread, Spread(1, 1, 1), Spread(0.956, 0.9, 1.1))
    besides = msgspec.structs.replace(figure, to_straight=Spread(1.2, 1.1, 1.3))
    header, *lines = table.rows(
        [
            Path(NONE, "", 0, figure, figure, figure, 10, 100),
            Path("headgate", "nftables", 10_000, besides, besides, besides, 10, 100),
        ]
    )
    assert [line[:2] for line in lines] == [[NONE, "-"], ["headgate nftables", "10,000"]]
    cells = ["1234.6 (1.0-2000.0)", "1.00 (1.00-1.00)", "0.96 (0.90-1.10)"]
    straight = ["-", "1.20 (1.10-1.30)"]
    assert [line[2:10] for line in lines] == [[*cells, last] * 2 for last in straight]
    assert [line[10] for line in lines] == ["1,235 (1-2,000)"] * 2
    assert {len(line) for line in lines} == {len(header)}


def test_it_runs_alone() -> None:
    command = [sys.executable, "-m", "tests.bench.path", "--services=1", "--rounds=2", "-o", "json"]
    environment = {name: value for name, value in os.environ.items() if name != "KUBE_PROXY"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    found = msgspec.json.decode(done.stdout, type=list[Path])
    assert [path.services for path in found] == [0, 0, 0, 1, 1]
    assert b"headgate nftables, 1 Services" in done.stderr
