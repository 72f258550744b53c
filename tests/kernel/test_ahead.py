"""Is what was read beside other work the truth, whatever changed meanwhile?"""

from __future__ import annotations

import queue
import threading

import pytest

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.base import Adopted, ApplyReport, Delta, Drift, EnvironmentFault, Plans
from modes.nftables import ahead
from modes.nftables import netlink as nl
from modes.nftables.elements import Elements, key_prefix, pack_port
from modes.nftables.expressions import native32
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S, set_specs
from tests.kernel.rulesets import CountingSocket, add, counted, delete, kinds, plans, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import balancer, plan_of, pods

_PATIENCE_SECONDS = 20.0
S1 = pack("10.96.0.1") + b"\x06\0\0\0" + pack_port(80)
SERVICE = key_prefix(Family.IPV4, S.SERVICES) + S1
SLOT = key_prefix(Family.IPV4, S.ENDPOINTS) + S1 + native32(1)
STRANGER = key_prefix(Family.IPV4, S.CLUSTER_IPS) + pack("10.96.0.77")


@pytest.fixture
def held() -> Elements:
    """What the kernel holds of three Services; their mode is gone."""
    before = NftablesMode()
    before.start(NODE_A)
    before.replace(services(1, 2, 3))
    found = before._applied.elements()
    before.close()
    return found


def read(mode: NftablesMode) -> None:
    """Read ahead, to the end."""
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    mode.read_ahead(lambda: done.put(None))
    done.get(timeout=_PATIENCE_SECONDS)
    assert done.empty()


def change(number: int) -> Delta[ObjectName, Plans]:
    """One endpoint more for a Service."""
    return Delta({ObjectName("shop", f"s{number}"): plans(number, endpoints=3)})


def elements_asked(sending: CountingSocket) -> int:
    """How often the kernel was asked for elements."""
    return sum(kinds(data).count(nl.GETSETELEM & 0xFF) for data in sending.sent)


def restarted(mode: NftablesMode) -> tuple[Adopted, ApplyReport]:
    return mode.start(NODE_A), mode.replace(services(1, 2, 3))


CLIENTS = len(Family) * sum(1 for spec in set_specs(Family.IPV4) if spec.dynamic_size)
"""Sets that packets fill: `replace` looks at these at the end."""


def test_a_start_asks_for_nothing_that_was_read(mode: NftablesMode, held: Elements) -> None:
    sending = counted(mode)
    read(mode)
    adopted, report = restarted(mode)
    assert adopted.kept
    assert adopted.elements == len(held)
    assert (report.added, report.deleted) == (0, 0)
    assert elements_asked(sending) == CLIENTS


def test_a_start_waits_for_what_is_still_read(
    mode: NftablesMode, held: Elements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads is held up until the start has come to wait for him."""
    waits, join = threading.Event(), threading.Thread.join
    listed = Kernel.listed

    def late(self: Kernel, family: Family, set_id: S) -> tuple[list[bytes], bool]:
        assert waits.wait(_PATIENCE_SECONDS)
        return listed(self, family, set_id)

    def joined(self: threading.Thread, timeout: float | None = None) -> None:
        waits.set()
        join(self, timeout)

    monkeypatch.setattr(Kernel, "listed", late)
    monkeypatch.setattr(threading.Thread, "join", joined)
    mode.read_ahead()
    assert mode.start(NODE_A).elements == len(held)


@pytest.mark.usefixtures("held")
def test_a_start_reads_again_what_changed_since(mode: NftablesMode, kernel: Kernel) -> None:
    read(mode)
    delete(kernel, [SLOT])
    add(kernel, {STRANGER: b""})
    _, report = restarted(mode)
    assert (report.added, report.deleted) == (1, 1)
    assert mode.verify() == Drift()


@pytest.mark.usefixtures("held")
def test_what_was_read_is_used_once(mode: NftablesMode, kernel: Kernel) -> None:
    read(mode)
    restarted(mode)
    delete(kernel, [SLOT])
    assert mode.verify(from_ahead=True).missing == ("ip endpoints 10.96.0.1 . tcp . 80 . 1",)


@pytest.mark.usefixtures("held")
def test_a_look_for_a_reason_does_not_trust_what_was_read_before(
    mode: NftablesMode, kernel: Kernel
) -> None:
    restarted(mode)
    read(mode)
    delete(kernel, [SLOT])
    lost = ("ip endpoints 10.96.0.1 . tcp . 80 . 1",)
    assert mode.verify().missing == lost
    sending = counted(mode)
    assert not mode.verify(from_ahead=True)
    assert elements_asked(sending) == CLIENTS
    assert mode.verify(from_ahead=True).missing == lost


@pytest.mark.usefixtures("held")
def test_a_repair_reads_what_is_there_now(mode: NftablesMode, kernel: Kernel) -> None:
    restarted(mode)
    read(mode)
    delete(kernel, [SLOT])
    _, report = restarted(mode)
    assert (report.added, report.deleted) == (1, 0)
    assert not mode.verify(from_ahead=True)


@pytest.mark.usefixtures("held")
def test_without_a_thread_it_is_read_as_ever(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    read(mode)
    adopted, report = restarted(mode)
    assert adopted.kept
    assert (report.added, report.deleted) == (0, 0)


@pytest.mark.usefixtures("held")
def test_a_look_asks_for_nothing_that_was_read(mode: NftablesMode, kernel: Kernel) -> None:
    restarted(mode)
    delete(kernel, [SLOT])
    add(kernel, {STRANGER: b""})
    read(mode)
    sending = counted(mode)
    drift = mode.verify(from_ahead=True)
    assert drift.missing == ("ip endpoints 10.96.0.1 . tcp . 80 . 1",)
    assert drift.extra == ("ip cluster-ips 10.96.0.77",)
    assert elements_asked(sending) == 0


@pytest.mark.usefixtures("held")
def test_our_own_changes_meanwhile_are_no_drift(mode: NftablesMode) -> None:
    restarted(mode)
    read(mode)
    mode.apply(change(2))
    sending = counted(mode)
    assert mode.verify(from_ahead=True) == Drift()
    assert 0 < elements_asked(sending) <= 2 * 4 + CLIENTS  # per family: services, two slots, a pod


@pytest.mark.usefixtures("held")
def test_drift_is_found_beside_our_own_changes(mode: NftablesMode, kernel: Kernel) -> None:
    restarted(mode)
    delete(kernel, [SLOT])
    add(kernel, {STRANGER: b""})
    read(mode)
    mode.apply(change(2))
    drift = mode.verify(from_ahead=True)
    assert drift.missing == ("ip endpoints 10.96.0.1 . tcp . 80 . 1",)
    assert drift.extra == ("ip cluster-ips 10.96.0.77",)
    assert not drift.different


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("several", [1, ahead._ASKED_SINGLY])
def test_a_torn_reading_gives_no_false_alarm(
    mode: NftablesMode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, several: int
) -> None:
    """Half of it is missing; `several`: what differs is asked for singly, or all is read again."""
    restarted(mode)
    delete(kernel, [SLOT])
    monkeypatch.setattr(ahead, "_ASKED_SINGLY", several)

    def half(of: Kernel) -> ahead.Raw:
        payloads = {(f, s.id): of.listed(f, s.id)[0] for f in Family for s in set_specs(f)}
        lost = [S.SERVICES, S.HAIRPIN, S.NODEPORT_IPS, S.ENDPOINTS]
        kept = {key: told for key, told in payloads.items() if key[1] not in lost}
        return ahead.Raw(kept, None)

    monkeypatch.setattr(ahead, "read", half)
    read(mode)
    assert mode.verify(from_ahead=True) == Drift(missing=("ip endpoints 10.96.0.1 . tcp . 80 . 1",))


def test_intervals_are_read_again(mode: NftablesMode, kernel: Kernel) -> None:
    """A lookup of an interval finds others that overlap it."""
    ranges = balancer("203.0.113.1", ranges=("10.0.0.0/8", "192.0.2.0/24"))
    guarded = {ObjectName("shop", "s1"): (plan_of(ranges, cluster=pods("10.244.2.1")),)}
    mode.start(NODE_A)
    mode.replace(guarded)
    assert mode.verify() == Drift()
    read(mode)
    mode.apply(Delta({}, frozenset(guarded)))
    sending = counted(mode)
    assert mode.verify(from_ahead=True) == Drift()
    assert elements_asked(sending) > CLIENTS
    assert not any(kernel.elements(Family.IPV4, S.LB_SOURCES))


@pytest.mark.usefixtures("held")
def test_what_cannot_be_read_ahead_is_read_later(
    mode: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Kernel) -> ahead.Raw:
        raise EnvironmentFault("not now")

    monkeypatch.setattr(ahead, "read", refused)
    read(mode)
    assert mode._ahead is not None
    assert mode._ahead.result() is ahead.NOTHING
    adopted, report = restarted(mode)
    assert adopted.kept
    assert (report.added, report.deleted) == (0, 0)


def test_a_kernel_that_has_nothing_of_ours(mode: NftablesMode) -> None:
    read(mode)
    adopted, report = restarted(mode)
    assert not adopted.kept
    assert report.added > 0
    assert mode.verify(from_ahead=True) == Drift()
