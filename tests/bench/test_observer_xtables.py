"""Does the observer of iptables tell chains from each other, in each layout that there is?

What holds of every back end is in `test_observer`; here are other layouts than headgate's of a small
cluster, and what legacy iptables does not tell by itself.
"""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from modes.iptables.service_chains import cluster_chain
from modes.xtables.names import SERVICES
from tests.bench import cluster, kube_proxy, test_observer
from tests.bench.cluster import PORT, Size
from tests.bench.whole import content, legacy, translation
from tests.bench.whole.content import Wanted
from tests.bench.whole.lock import Lock
from tests.bench.whole.observer import Observer, open_observer
from tests.bench.whole.xtables import Legacy
from tests.lab import sandbox

VARIANTS = ("nft", "legacy")
LARGE, SMALL = Size(14, 100), Size(20, 3)
"""headgate's rules are short in the first: it has more than 1,000 endpoints."""
LARGE_NODES = 14
"""One of so many pods that follow each other is on the node."""
SERVICE = 7
ENOUGH = 10.0


class Rules:
    """The rules of one variant of iptables, written by its own programs."""

    def __init__(self, variant: str) -> None:
        self._program = f"iptables-{variant}"
        self.back_end = f"iptables-{variant}"

    def restore(self, text: bytes) -> None:
        """Give iptables-restore a script."""
        command = [f"{self._program}-restore", "--noflush"]
        subprocess.run(command, input=text, check=True, capture_output=True)

    def nat(self, *lines: str) -> None:
        """Change the table nat."""
        self.restore("\n".join(["*nat", *lines, "COMMIT", ""]).encode())

    def saved(self) -> list[str]:
        """The rules of the table nat."""
        command = [f"{self._program}-save", "-t", "nat"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(
            "\n"
        )


@pytest.fixture(params=VARIANTS)
def rules(request: pytest.FixtureRequest) -> Iterator[Rules]:
    """No rule yet; who comes after has none either."""
    sandbox.enter_private()
    yield Rules(request.param)
    sandbox.enter_private()


@pytest.fixture
def legacy_rules() -> Iterator[Rules]:
    sandbox.enter_private()
    yield Rules("legacy")
    sandbox.enter_private()


def _opened(rules: Rules, request: pytest.FixtureRequest) -> Observer:
    observer = open_observer(rules.back_end, "kube-proxy")
    request.addfinalizer(observer.close)
    return observer


def _write_as_kube_proxy(rules: Rules) -> None:
    rules.restore(kube_proxy.JUMPS.encode())
    rules.restore(kube_proxy.first(SMALL))


def _all(of: Size, number: int = SERVICE) -> Wanted:
    return Wanted(number, frozenset(cluster.pods(of, number)))


CHAIN = cluster_chain(cluster.service_port(SERVICE))
OTHER = "10.97.0.1"


def _leads(to: str = cluster.cluster_ip(SERVICE)) -> str:
    """What a rule says that leads to the Service, without its place."""
    return f"-d {to}/32 -p tcp -m tcp --dport {PORT} -j {CHAIN}"


def _replaced(to: str) -> str:
    """The rule of the Service becomes one for this address: as long as it was."""
    return f"-R {SERVICES} {SERVICE + 1} {_leads(to)}"


def _wrong(of: Size) -> Iterator[Wanted]:
    """What the kernel does not hold of a Service that has all of its endpoints."""
    first, *others = cluster.pods(of, SERVICE)
    for wrong in (others, [first, *others, "10.200.0.1"], ["10.200.0.1", *others], [first], []):
        yield Wanted(SERVICE, frozenset(wrong))
    yield Wanted(SERVICE, None)


def test_short_rules_are_read(
    rules: Rules, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(test_observer, "OF", LARGE)
    written = test_observer.Cluster(rules.back_end)
    request.addfinalizer(written.mode.close)
    own = [line for line in rules.saved() if line.startswith(f"-A {CHAIN} ")]
    assert sum("-j DNAT" in line for line in own) > 80
    assert sum("-j KUBE-SEP-" in line for line in own) > 3
    observer = _opened(rules, request)
    zone = test_observer.ZONE
    numbers = range(LARGE.services)
    assert all(observer.holds(content.wanted(LARGE, number, zone)) for number in numbers)
    assert not any(map(observer.holds, _wrong(LARGE)))
    for lacking in cluster.pods(LARGE, SERVICE)[:LARGE_NODES]:
        written.lacking = {SERVICE: [lacking]}
        written.apply()
        assert not observer.holds(_all(LARGE))
        assert observer.holds(content.wanted(LARGE, SERVICE, zone, [lacking]))


def test_kube_proxys_layout_is_read(rules: Rules, request: pytest.FixtureRequest) -> None:
    observer = _opened(rules, request)
    assert not observer.holds(_all(SMALL))
    assert observer.holds(Wanted(SERVICE, None))
    _write_as_kube_proxy(rules)
    assert all(observer.holds(_all(SMALL, number)) for number in range(SMALL.services))
    assert not any(map(observer.holds, _wrong(SMALL)))
    assert observer.holds(Wanted(SMALL.services, None))
    gone, back = kube_proxy.changes(SMALL, 2)
    first = _all(SMALL, 0)
    for text, held in ((gone, False), (back, True)):
        rules.restore(text)
        assert observer.holds(first) == held
        assert observer.holds(Wanted(0, frozenset(cluster.pods(SMALL, 0)[1:]))) != held


def test_a_chain_that_nothing_leads_to_is_not_held(
    rules: Rules, request: pytest.FixtureRequest
) -> None:
    _write_as_kube_proxy(rules)
    observer = _opened(rules, request)
    rules.nat(f"-D {SERVICES} {_leads()}")
    assert not observer.holds(_all(SMALL))
    assert observer.holds(Wanted(SERVICE, None))
    rules.nat(f"-A {SERVICES} {_leads(OTHER)}")
    assert not observer.holds(_all(SMALL))
    rules.nat(f"-A {SERVICES} {_leads()}")
    assert observer.holds(_all(SMALL))


def test_endpoints_are_not_told_by_the_names_of_their_chains(
    rules: Rules, request: pytest.FixtureRequest
) -> None:
    _write_as_kube_proxy(rules)
    observer = _opened(rules, request)
    pod = cluster.pods(SMALL, SERVICE)[0]
    (rule,) = [line for line in rules.saved() if f"--to-destination {pod}:" in line]
    for other in (f"{pod}:1", "10.200.0.1:8080"):
        changed = rule.rpartition(" ")[0] + f" {other}"
        rules.nat(rule.replace("-A", "-D", 1), changed)
        assert not observer.holds(_all(SMALL))
        rules.nat(changed.replace("-A", "-D", 1), rule)
        assert observer.holds(_all(SMALL))


def test_what_is_not_understood_is_no_answer(rules: Rules, request: pytest.FixtureRequest) -> None:
    _write_as_kube_proxy(rules)
    observer = _opened(rules, request)
    rules.nat(f"-A {CHAIN} -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.9:8080")
    with pytest.raises(RuntimeError, match="more than one"):
        observer.holds(_all(SMALL))


@pytest.mark.parametrize("revision", [0, 1, 2])
def test_every_revision_of_the_target_is_read(revision: int) -> None:
    def told(ranges: int, first: bytes, last: bytes) -> bytes:
        if revision == 0:
            return struct.pack("=II4s4s4s", ranges, 3, first, last, b"\x1f\x90\x1f\x90")
        return struct.pack("=I16s16s4s4x", 3, first, last, b"\x1f\x90\x1f\x90")

    one = bytes([10, 0, 0, 1])
    assert translation.destination(revision, told(1, one, one)) == one + b"\x1f\x90"
    with pytest.raises(RuntimeError, match="more than one"):
        translation.destination(revision, told(1, one, bytes([10, 0, 0, 9])))


# What legacy iptables does not tell by itself.


def test_a_table_that_is_replaced_by_one_as_large_moves_the_mark(
    legacy_rules: Rules, request: pytest.FixtureRequest
) -> None:
    _write_as_kube_proxy(legacy_rules)
    observer = _opened(legacy_rules, request)
    kernel = legacy.Kernel("nat")
    request.addfinalizer(kernel.close)
    size = kernel.size()
    for to, held in ((OTHER, Wanted(SERVICE, None)), (cluster.cluster_ip(SERVICE), _all(SMALL))):
        mark = observer.mark()
        assert not observer.holds(held)
        legacy_rules.nat(_replaced(to))
        assert kernel.size() == size
        _wait_until(lambda mark=mark: observer.mark() != mark)  # type: ignore[misc]
        assert observer.holds(held)


def test_what_is_replaced_is_read_again_without_a_look_at_the_mark(
    legacy_rules: Rules, request: pytest.FixtureRequest
) -> None:
    _write_as_kube_proxy(legacy_rules)
    observer = _opened(legacy_rules, request)
    assert observer.holds(_all(SMALL))
    legacy_rules.nat(_replaced(OTHER))
    assert not observer.holds(_all(SMALL))


def _wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENOUGH
    while not what():
        assert time.monotonic() < deadline


def test_the_lock_tells_of_its_turns(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    lock = Lock(file)
    try:
        assert lock.turns() == (False, 0)
        with file.open():
            assert lock.turns() == (True, 0)
        assert lock.turns() == (False, 1)
        for _ in range(2):
            file.open("a").close()
        assert lock.turns() == (False, 2)
        assert lock.turns() == (False, 0)
    finally:
        lock.close()


class Moment(NamedTuple):
    """What the kernel tells at one look: of the lock, and how many entries there are."""

    is_busy: int = 0
    given_back: int = 0
    entries: int = 1


TAKEN, WRITTEN, ENDED, LATER = Moment(1), Moment(1, 0, 2), Moment(0, 1, 2), Moment(0, 0, 2)


@pytest.mark.usefixtures("legacy_rules")
@pytest.mark.parametrize(
    ("moments", "moved"),
    [
        ([TAKEN, WRITTEN, ENDED, LATER], [0, 1, 1, 1]),  # the size has told it already
        ([TAKEN, ENDED, LATER], [0, 1, 1]),
        ([TAKEN, Moment(1, 1), WRITTEN, ENDED, LATER], [0, 0, 1, 1, 1]),  # another table first
        ([TAKEN, Moment(0, 1), Moment()], [0, 1, 1]),  # one that is just as large
        ([TAKEN, WRITTEN, Moment(1, 2, 2), LATER, LATER], [0, 1, 1, 2, 2]),  # and one after it
    ],
)
def test_a_mark_moves_once_for_each_change(
    monkeypatch: pytest.MonkeyPatch, moments: list[Moment], moved: list[int]
) -> None:
    observer = Legacy("kube-proxy")
    observer.close()
    scripted = Scripted(moments)
    monkeypatch.setattr(observer, "_lock", scripted)
    monkeypatch.setattr(observer, "_nat", scripted)
    monkeypatch.setattr(observer, "_size", legacy.Size(1, 0))
    monkeypatch.setattr(observer, "QUIET_SECONDS", 0.0)
    assert [observer.mark() for _ in moments] == moved


class Scripted:
    """A lock and a table that are what a test says, one moment after the other."""

    def __init__(self, moments: list[Moment]) -> None:
        self._moments = iter(moments)
        self._now = Moment()

    def turns(self) -> tuple[bool, int]:
        self._now = next(self._moments)
        return bool(self._now.is_busy), self._now.given_back

    def size(self) -> legacy.Size:
        return legacy.Size(self._now.entries, 0)


def test_a_table_outside_of_any_is_refused_with_its_name() -> None:
    sandbox.enter_private()
    kernel = legacy.Kernel("none")
    with pytest.raises(OSError, match="table none: "):
        kernel.size()
    kernel.close()
