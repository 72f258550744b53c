"""Does the observer tell what the kernel holds, no sooner and no later? No figure is judged here."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from endpoints.decode import decode_list
from endpoints.events import Replace
from endpoints.objects import Kind
from endpoints.state import ClusterState
from proxy.sync import Sync
from tests.bench import cluster
from tests.bench.cluster import LOCAL_ADDRESSES, Json, Size
from tests.bench.whole import content
from tests.bench.whole.content import Wanted, wanted
from tests.bench.whole.observer import Observer, held_at, open_observer
from tests.bench.whole.server import ApiServer, serving
from tests.bench.whole.subject import Subject
from tests.lab import modes, sandbox

OF = Size(12, 6)
HINTED, PLAIN = 0, 7
"""Numbers of Services; the first one keeps to the node's zone."""
ZONE, OTHER_ZONE = cluster.ZONES[:2]
META = {"resourceVersion": "1"}
ENOUGH = 30.0
"""Seconds; nothing takes so long."""
KUBE_PROXY = os.environ.get("KUBE_PROXY")


class Cluster:
    """What an API server would hold, and a headgate that makes the kernel agree at each change."""

    def __init__(self, back_end: str) -> None:
        self.mode = modes.create(back_end)
        state = ClusterState(cluster.settings(self.mode.name), LOCAL_ADDRESSES)
        self._sync = Sync(state, self.mode, Kind, time.monotonic)
        self.lacking: Mapping[int, Collection[str]] = {}
        self.zone = ZONE
        self.gone = -1
        """The number of a Service that is not there."""
        self.apply()

    def apply(self) -> None:
        """Returns when the kernel has acknowledged."""
        numbers = [number for number in range(OF.services) if number != self.gone]
        services = [content.service(OF, number) for number in numbers]
        slices = [one for n in numbers for one in content.slices(OF, n, self.lacking.get(n, ()))]
        listed = (
            (Kind.NODE, [content.node(self.zone)]),
            (Kind.SERVICE, services),
            (Kind.ENDPOINT_SLICE, slices),
        )
        outcome = self._sync.run([_replacement(kind, documents) for kind, documents in listed])
        assert outcome is not None
        assert not outcome.fault, outcome.fault
        assert not outcome.refused, outcome.refused


def _replacement(kind: Kind, documents: list[Json]) -> Replace:
    version = documents[0]["apiVersion"]
    listed = {"kind": f"{kind}List", "apiVersion": version, "metadata": META, "items": documents}
    return Replace(kind, decode_list(msgspec.json.encode(listed), kind).objects)


@pytest.fixture(params=modes.offered())
def back_end(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def written(back_end: str) -> Iterator[Cluster]:
    """A cluster in the kernel; who comes after has a network without any."""
    sandbox.enter_private()
    given = Cluster(back_end)
    yield given
    given.mode.close()
    sandbox.enter_private()


@pytest.fixture
def observer(written: Cluster, back_end: str) -> Iterator[Observer]:
    """It sees the same network."""
    assert written.zone == ZONE
    opened = open_observer(back_end, "headgate")
    yield opened
    opened.close()


def test_every_service_is_held_as_it_is(observer: Observer) -> None:
    for number in range(OF.services):
        assert observer.holds(wanted(OF, number, ZONE)), number


def test_nothing_else_is_held(observer: Observer) -> None:
    pods = cluster.pods(OF, PLAIN)
    stranger = "10.200.0.1"
    for wrong in (pods[1:], [*pods, stranger], [stranger, *pods[1:]], [stranger], []):
        assert not observer.holds(Wanted(PLAIN, frozenset(wrong))), wrong
    assert not observer.holds(Wanted(PLAIN, None))


def test_an_endpoint_goes_and_comes_back(written: Cluster, observer: Observer) -> None:
    lacking = cluster.pods(OF, PLAIN)[2:3]
    before, after = wanted(OF, PLAIN, ZONE), wanted(OF, PLAIN, ZONE, lacking)
    for given, held, gone in (({PLAIN: lacking}, after, before), ({}, before, after)):
        written.lacking = given
        mark = observer.mark()
        written.apply()
        assert observer.mark() != mark
        assert observer.holds(held)
        assert not observer.holds(gone)


def test_a_service_without_endpoints_is_another_thing_than_none(
    written: Cluster, observer: Observer
) -> None:
    absent, empty = Wanted(PLAIN, None), Wanted(PLAIN, frozenset())
    written.lacking = {PLAIN: cluster.pods(OF, PLAIN)}
    written.apply()
    assert (observer.holds(empty), observer.holds(absent)) == (True, False)
    written.gone = PLAIN
    written.apply()
    assert (observer.holds(empty), observer.holds(absent)) == (False, True)
    assert not observer.holds(wanted(OF, PLAIN, ZONE))


def test_a_zone_is_that_of_the_node(written: Cluster, observer: Observer) -> None:
    here, there = wanted(OF, HINTED, ZONE), wanted(OF, HINTED, OTHER_ZONE)
    assert here != there
    assert (observer.holds(here), observer.holds(there)) == (True, False)
    written.zone = OTHER_ZONE
    written.apply()
    assert (observer.holds(here), observer.holds(there)) == (False, True)


def test_commits_are_counted_where_the_kernel_counts_them(
    written: Cluster, observer: Observer
) -> None:
    before = observer.commits()
    written.lacking = {PLAIN: cluster.pods(OF, PLAIN)[:1]}
    written.apply()
    after = observer.commits()
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after > before


def test_the_time_of_a_change_lies_behind_its_beginning(
    written: Cluster, observer: Observer
) -> None:
    lacking = {number: cluster.pods(OF, number)[:1] for number in (PLAIN, PLAIN + 1)}
    pending = [wanted(OF, number, ZONE, lacking[number]) for number in lacking]
    began: list[float] = []

    def change() -> None:
        written.lacking = lacking
        began.append(time.monotonic())
        written.apply()
        began.append(time.monotonic())

    later = threading.Timer(0.05, change)
    later.start()
    times = held_at(observer, pending, time.monotonic() + ENOUGH, lambda: None)
    later.join()
    assert began[0] < times[1] <= times[0]
    assert times[0] < began[1] + 1


def test_what_is_held_already_has_the_time_of_the_call(observer: Observer, back_end: str) -> None:
    pending = [wanted(OF, number, ZONE) for number in range(OF.services)]
    before = time.monotonic()
    times = held_at(observer, pending, before + ENOUGH, lambda: None)
    # The mark of IPVS moves with the Service that is asked for.
    assert len(set(times)) == 1 or back_end == "ipvs"
    assert before <= min(times) <= max(times) <= time.monotonic()


def test_a_timeout_names_the_service(observer: Observer) -> None:
    pending = [Wanted(PLAIN + 1, None), Wanted(PLAIN, None), wanted(OF, 0, ZONE)]
    said = r"after 0\.\d s team-7/service-7:http \(10\.96\.0\.17:80\) is still there .*; 1 other"
    with pytest.raises(TimeoutError, match=said):
        held_at(observer, pending, time.monotonic() + 0.02, lambda: None)


def test_nobody_waits_for_a_proxy_that_died(observer: Observer) -> None:
    def alive() -> None:
        raise ProcessLookupError("the proxy died")

    with pytest.raises(ProcessLookupError, match="the proxy died"):
        held_at(observer, [Wanted(PLAIN, None)], time.monotonic() + ENOUGH, alive)


@pytest.mark.skipif(KUBE_PROXY is None, reason="KUBE_PROXY names no kube-proxy")
def test_the_rules_of_kube_proxy_are_understood(back_end: str, tmp_path: Path) -> None:
    sandbox.enter_private()
    with serving(OF, tmp_path, fake=True) as server:
        subject = Subject("kube-proxy", KUBE_PROXY, back_end, server, tmp_path)
        observer = open_observer(back_end, "kube-proxy")
        try:
            subject.start()
            _follows(observer, subject, server)
        finally:
            subject.stop()
            observer.close()
            sandbox.enter_private()


def _follows(observer: Observer, subject: Subject, server: ApiServer) -> None:
    """Change one thing after the other; what was held before must not be held any more."""

    def wait(*pending: Wanted) -> None:
        times = held_at(observer, pending, time.monotonic() + ENOUGH, subject.check)
        assert times == sorted(times, reverse=True)

    wait(*[wanted(OF, number, content.NOWHERE) for number in range(OF.services)])
    server.write("PUT", content.node(OTHER_ZONE))
    wait(*[wanted(OF, number, OTHER_ZONE) for number in range(OF.services)])
    assert not observer.holds(wanted(OF, HINTED, ZONE))
    pods = cluster.pods(OF, PLAIN)
    states = [wanted(OF, PLAIN, ZONE, pods[:gone]) for gone in (0, 1, OF.endpoints, 0)]
    for before, after, gone in zip(states, states[1:], (1, OF.endpoints, 0), strict=False):
        (document,) = content.slices(OF, PLAIN, pods[:gone])
        server.write("PUT", document)
        wait(after)
        assert not observer.holds(before)
        assert not observer.holds(Wanted(PLAIN, None))
    for document in (*content.slices(OF, PLAIN), content.service(OF, PLAIN)):
        server.write("DELETE", document)
    wait(Wanted(PLAIN, None))
    assert not any(observer.holds(state) for state in states)


class Scripted:
    """An observer of a ruleset that may change at each look at its mark; an `Observer`."""

    def __init__(self, *held: set[int]) -> None:
        self._held = held
        self._at = -1
        self._mark = 0
        self.checks = 0

    def mark(self) -> int:
        before = self._held[max(0, self._at)]
        self._at = min(self._at + 1, len(self._held) - 1)
        self._mark += self._held[self._at] != before
        return self._mark

    def holds(self, wanted: Wanted) -> bool:
        self.checks += 1
        return wanted.number in self._held[self._at]

    def commits(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def _times(observer: Scripted, count: int) -> list[float]:
    pending = [Wanted(number, frozenset()) for number in range(count)]
    return held_at(observer, pending, time.monotonic() + ENOUGH, lambda: None)


def test_a_mark_costs_few_looks_however_many_are_pending() -> None:
    others = [{1000 + number} for number in range(50)]
    observer = Scripted(*others, set(range(1000)))
    times = _times(observer, 1000)
    assert (len(times), len(set(times))) == (1000, 1)
    assert observer.checks == 1000 + 50


def test_an_unchanged_ruleset_is_not_looked_at_again() -> None:
    observer = Scripted(*[set[int]()] * 50, {0})
    _times(observer, 1)
    assert observer.checks == 3


def test_the_largest_time_is_when_all_were_held() -> None:
    observer = Scripted(set(), {0, 1}, {1, 2}, {1, 2}, {1, 2}, {0, 1, 2})
    times = _times(observer, 3)
    assert times[0] > times[1] == times[2]


def test_a_change_while_others_are_looked_at_is_not_dated_back() -> None:
    observer = Scripted(set(), {1}, {1}, {0, 1})
    times = _times(observer, 2)
    assert times[0] > times[1]


def test_what_all_of_a_sample_came_with_is_not_dated_later() -> None:
    whole = set(range(1000))
    observer = Scripted(set(), *[whole] * 500, whole | {1000})
    assert len(set(_times(observer, 1000))) == 1
    observer = Scripted(set(), *[whole] * 50, whole | {1000})
    assert len(set(_times(observer, 1000))) == 2


def test_what_is_missing_behind_a_sample_has_the_time_of_its_own() -> None:
    whole = set(range(1000))
    observer = Scripted(set(), *[whole - {0}] * 500, whole - {1}, *[whole - {1}] * 600, whole)
    times = _times(observer, 1000)
    assert len(set(times)) == 2
    assert max(times) == times[0] == times[1]


def test_what_is_missing_once_is_not_dated_by_the_sample() -> None:
    class Hesitating(Scripted):
        hesitated = False

        def holds(self, wanted: Wanted) -> bool:
            if wanted.number == 1 and not self.hesitated:
                self.hesitated = True
                return False
            return super().holds(wanted)

    whole = set(range(1000))
    times = _times(Hesitating(set(), *[whole] * 500, whole | {1000}), 1000)
    assert times[0] == times[1] > times[2]


def test_nothing_is_waited_for_where_nothing_is_pending() -> None:
    assert _times(Scripted(set()), 0) == []


def test_a_mark_that_is_ahead_of_its_ruleset_is_looked_at_again() -> None:
    class Ahead(Scripted):
        def holds(self, wanted: Wanted) -> bool:
            return super().holds(wanted) and self.checks > 2

    observer = Ahead(set(), {0})
    assert (len(_times(observer, 1)), observer.checks) == (1, 3)
