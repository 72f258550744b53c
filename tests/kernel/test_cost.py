"""Does a change cost what it is large, and nothing else: one system call, no process?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from endpoints.names import ObjectName
from modes.base import Delta
from modes.nftables import netlink as nl
from modes.nftables.kernel import Kernel
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from tests.kernel.rulesets import counted, kinds, plans, services
from tests.unit.endpoints.build import NODE_A

_STARTING = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "subprocess.Popen"}
_watched: list[list[str]] = []


def _audit(event: str, _: tuple[object, ...]) -> None:
    if _watched and event in _STARTING:
        _watched[-1].append(event)


@pytest.fixture(scope="module", autouse=True)
def _auditing() -> None:
    """An audit hook stays for good; it does nothing unless somebody watches."""
    sys.addaudithook(_audit)


@contextmanager
def processes_started() -> Iterator[list[str]]:
    """What was started meanwhile, by any thread."""
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


def test_the_watch_sees_a_process() -> None:
    import subprocess  # noqa: PLC0415 -- only to see what the watch sees

    with processes_started() as started:
        subprocess.run(["true"], check=True)
    assert "subprocess.Popen" in started


def test_every_apply_is_one_system_call_and_one_commit(mode: NftablesMode, kernel: Kernel) -> None:
    mode.start(NODE_A)
    mode.replace(services(*range(1, 50)))
    sending, generation = counted(mode), kernel.generation()
    rounds = range(50, 80)
    with processes_started() as started:
        for n in rounds:
            mode.apply(
                Delta(
                    services(n) | services(1, endpoints=n),
                    frozenset({ObjectName("shop", f"s{n - 48}")}),
                )
            )
    assert len(sending.sent) == len(rounds)
    assert kernel.generation() == generation + len(rounds)
    assert started == []
    assert not mode.verify()


def test_what_is_applied_already_is_not_sent(mode: NftablesMode, kernel: Kernel) -> None:
    mode.start(NODE_A)
    mode.replace(services(1, 2))
    sending, generation = counted(mode), kernel.generation()
    report = mode.apply(Delta(services(1, 2), frozenset({ObjectName("shop", "unknown")})))
    assert (report.messages, report.added, report.deleted) == (0, 0, 0)
    assert (sending.sent, kernel.generation()) == ([], generation)


def test_one_endpoint_among_two_thousand_is_one_slot(mode: NftablesMode) -> None:
    mode.start(NODE_A)
    (plan, _) = plans(1, endpoints=2)
    many = tuple(
        msgspec.structs.replace(plan.cluster[0], address=f"10.244.{n // 250}.{n % 250 + 1}")
        for n in range(2000)
    )
    name = ObjectName("shop", "s1")
    mode.replace({name: (msgspec.structs.replace(plan, cluster=many),)})
    (told,) = look().services
    assert set(told.frontends[0].endpoints) == {f"{e.address}:8080" for e in many}
    sending = counted(mode)
    moved = msgspec.structs.replace(many[1234], address="10.244.99.99")
    after = sorted((*many[:1234], moved, *many[1235:]))
    report = mode.apply(Delta({name: (msgspec.structs.replace(plan, cluster=tuple(after)),)}))
    assert (report.added, report.deleted) == (1, 1)
    (data,) = sending.sent
    assert kinds(data) == [
        nl.NFNL_MSG_BATCH_BEGIN,
        nl.DELSETELEM,
        nl.NEWSETELEM,
        nl.NFNL_MSG_BATCH_END,
    ]
    assert len(data) < 400
    assert not mode.verify()


def test_rules_do_not_grow_with_services(mode: NftablesMode, kernel: Kernel) -> None:
    mode.start(NODE_A)
    mode.replace(services(1))
    few = len(kernel.dump(nl.GETRULE, 0))
    mode.apply(Delta(services(*range(2, 200))))
    assert len(kernel.dump(nl.GETRULE, 0)) == few
    mode.apply(Delta(services(*range(1, 200), endpoints=3)))
    # pick-3 in two families, three rules each, however many Services use it.
    assert len(kernel.dump(nl.GETRULE, 0)) == few + 6


def test_nothing_starts_a_process(mode: NftablesMode) -> None:
    with processes_started() as started:
        mode.start(NODE_A)
        mode.replace(services(1, 2))
        mode.verify()
        look()
        mode.cleanup()
    assert started == []
