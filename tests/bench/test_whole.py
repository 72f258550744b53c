"""Is a whole proxy followed as it is said? Figures of time are never judged here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.bench.cluster import Size
from tests.bench.path.results import NONE, Figure, Spread
from tests.bench.path.results import Path as Way
from tests.bench.path.targets import targets as targets_of_ways
from tests.bench.report import text
from tests.bench.results import Report
from tests.bench.whole import content, measure
from tests.bench.whole.observer import open_observer
from tests.bench.whole.results import Calls, Latency, Memory, Sustained, Whole
from tests.bench.whole.server import serving
from tests.bench.whole.story import Amount, Contender, Story
from tests.bench.whole.targets import HUGE, LARGE, SMALL, targets
from tests.lab import modes, sandbox

SMALLEST = Size(24, 6)
AMOUNT = Amount(changes=6, seconds=30)


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> Iterator[None]:
    """What is measured leaves its rules: the tests after these ones get a network without any."""
    yield
    sandbox.enter_private()


def nothing(_: str) -> None:
    """Who tells nobody."""


@pytest.mark.parametrize("back_end", modes.offered())
def test_headgate_is_followed_from_its_start_to_its_restart(back_end: str) -> None:
    told: list[str] = []
    (found,) = measure.measured([measure.HEADGATE], back_end, SMALLEST, told.append, amount=AMOUNT)
    assert (found.program, found.back_end, found.size) == ("headgate", back_end, SMALLEST)
    assert found.start > 0 < found.restart
    assert found.changed.count == 6
    assert found.changed.p50 <= found.changed.p90 <= found.changed.p99
    assert found.zone is not None
    assert found.zone.count == found.hundred.count == 6
    assert found.memory.own > 20
    assert any("restart" in line for line in told)
    shown = text(Report("here", wholes=[found]))
    assert f"headgate {found.version.split()[-1]}" in shown
    if back_end == "nftables":
        assert found.restart_commits == 1  # the one endpoint that changed meanwhile
        assert found.calls is not None
        assert found.calls.child_processes == 0
        assert 1 < found.calls.messages < 6


@pytest.mark.skipif("KUBE_PROXY" not in os.environ, reason="KUBE_PROXY names no kube-proxy")
def test_a_peer_is_followed_alike_and_stands_below() -> None:
    who = measure.contenders(os.environ["KUBE_PROXY"])
    found = measure.measured(who, "nftables", SMALLEST, nothing, amount=AMOUNT)
    assert [one.program for one in found] == ["headgate", "kube-proxy"]
    assert found[1].memory.children > 0
    assert "kube-proxy / headgate" in text(Report("here", wholes=found))


def test_a_peer_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="KUBE_PROXY=/no/such: there is no such file"):
        measure.contenders("/no/such")


def test_what_takes_a_peer_minutes_is_left_out_and_said() -> None:
    told: list[str] = []
    peer = Contender("kube-proxy", "/no/such")
    assert measure.measured([peer], "nftables", Size(50_000, 1), told.append) == []
    assert told == [
        "nftables, 50,000 x 1: kube-proxy left out: it takes minutes; FULL=1 measures it too"
    ]
    assert measure.takes_minutes(peer, "iptables-nft", Size(5_000, 10))
    assert not measure.takes_minutes(peer, "iptables-legacy", Size(10_000, 10))
    assert not measure.takes_minutes(measure.HEADGATE, "nftables", Size(50_000, 1))


def test_changes_at_a_constant_rate_are_followed() -> None:
    found = measure.sustained("nftables", SMALLEST, nothing, rate=200, seconds=2)
    assert found.rate > 150
    assert len(found.lags) == len(found.megabytes) > 3
    assert min(found.megabytes) > 20


def test_a_zone_leads_to_the_endpoints_in_it(tmp_path: Path) -> None:
    sandbox.enter_private()
    with (
        serving(SMALLEST, tmp_path, nothing, fake=True) as server,
        Story(measure.HEADGATE, "nftables", SMALLEST, server, tmp_path) as story,
    ):
        story.start()
        answered, pending = story.relocation(0)
        assert {one.number for one in pending} == {0, 10, 20}
        assert max(story._held(pending)) > answered
        observer = open_observer("nftables", "headgate")
        assert observer.holds(content.wanted(SMALLEST, 10, "eu-1a"))
        assert not observer.holds(content.wanted(SMALLEST, 10, "eu-1b"))
        observer.close()


def latency(p50: float, cpu: float = 1.0) -> Latency:
    """Where only the median matters."""
    return Latency(5, p50, p50, p50, cpu)


def whole(program: str, size: Size, start: float, change: float, megabytes: float) -> Whole:
    """A proxy with these figures; its changes take all of a processor."""
    return Whole(
        program=program,
        version="1",
        server="here",
        back_end="nftables",
        services=size.services,
        endpoints=size.endpoints,
        start=start,
        start_cpu=start,
        changed=latency(change, change),
        added=latency(change),
        hundred=latency(change),
        zone=None,
        restart=start,
        restart_cpu=start,
        restart_commits=1,
        memory=Memory(megabytes, 0.0),
        calls=Calls(1.0, 3.0, 300.0, 0.0),
    )


def test_promises_against_a_peer_are_judged() -> None:
    ours, its = whole("headgate", LARGE, 1.0, 4.0, 100), whole("kube-proxy", LARGE, 6.5, 1990, 410)
    judged = {one.what: one.met for one in targets([ours, its], [])}
    assert judged == {
        "one endpoint, p50": True,
        "restart": True,
        "commits of a restart, one endpoint changed meanwhile": True,
        "start, kube-proxy / headgate": True,
        "one endpoint, p50, kube-proxy / headgate": False,
        "CPU of one endpoint, kube-proxy / headgate": False,
        "peak RSS of all processes, kube-proxy / headgate": True,
    }


def test_promises_of_huge_clusters_are_judged() -> None:
    found = [whole("headgate", SMALL, 1.0, 1.0, 50), whole("headgate", HUGE[0], 10.5, 1.4, 50)]
    judged = {one.what: one.met for one in targets(found, [])}
    assert judged == {"start": False, "one endpoint, p50, against 1,000 x 10": True}


@pytest.mark.parametrize(("lags", "met"), [([5, 5, 6, 6], True), ([5, 5, 9, 30], False)])
def test_a_lag_that_grows_is_no_promise_kept(lags: list[float], met: bool) -> None:
    found = Sustained("headgate", "nftables", *SMALL, 5000, 4, lags, [50, 50, 50, 50], 80)
    judged = targets([], [found])
    assert [one.met for one in judged] == [True, met, True]


def test_a_first_packet_is_held_against_no_proxy() -> None:
    def figure(ratio: float) -> Figure:
        spread = Spread(ratio, ratio, ratio)
        return Figure(spread, spread, spread)

    way = Way("headgate", "nftables", 10, figure(1.09), figure(1.11), figure(1), 10, 10)
    none = msgspec.structs.replace(way, variant=NONE, back_end="", services=0)
    assert [one.met for one in targets_of_ways([none, way])] == [True, False]
