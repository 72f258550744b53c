"""Is a large first load, written in parts, what one transaction would have made, and nothing else?"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from endpoints.names import Family, ObjectName
from modes.base import ApplyReport, KernelFault, Plans
from modes.nftables import adopt, parts
from modes.nftables import netlink as nl
from modes.nftables.kernel import Kernel, Sent
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from tests.kernel.ear import listening
from tests.kernel.rulesets import counted, kinds, named, nft, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

BRACKETS = 40
"""Bytes of a transaction besides its messages."""
BAD = ObjectName("shop", "bad")


def of_every_kind() -> dict[ObjectName, Plans]:
    """Services whose elements are in every map that plans fill."""
    made = plan_of(
        cluster_ip("10.96.1.1"),
        external_ip("192.0.2.1", policy=LOCAL),
        node_port(30080, LOCAL),
        balancer("198.51.100.4", ranges=("10.0.0.0/8",)),
        cluster=pods("10.244.1.2", "10.244.1.3", "10.244.2.4"),
        affinity_seconds=60,
        name=named("all"),
    )
    return {ObjectName("shop", "all"): (made,), **services(*range(1, 5), endpoints=3)}


def refused() -> dict[ObjectName, Plans]:
    """A Service that the kernel refuses; no plan has ranges like these."""
    ranges = ("10.0.0.0/8", "10.1.0.0/16")
    frontends = (cluster_ip("10.96.1.9"), balancer("198.51.100.9", ranges=ranges))
    return {BAD: (plan_of(*frontends, cluster=pods("10.244.2.1"), name=named("bad")),)}


def held() -> list[str]:
    return sorted(nft("list", "ruleset").split())


@pytest.fixture
def started(mode: NftablesMode) -> NftablesMode:
    mode.start(NODE_A)
    return mode


@pytest.fixture
def whole(started: NftablesMode, kernel: Kernel) -> tuple[ApplyReport, list[str]]:
    """What one transaction says and makes; it is gone again."""
    generation = kernel.generation()
    report = started.replace(of_every_kind())
    assert kernel.generation() == generation + 1
    found = held()
    started.cleanup()
    return report, found


@pytest.fixture
def small_parts(whole: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on each message with elements is a transaction."""
    del whole
    monkeypatch.setattr(parts, "ELEMENTS_IN_A_PART", 1)


Transact = Callable[[Kernel, list[nl.Message]], Sent]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Do something before each transaction of the mode; it is told how many there were."""
    transact: Transact = Kernel.transact

    def does(what: Callable[[int], None]) -> None:
        counting: Iterator[int] = iter(range(1000))

        def late(self: Kernel, messages: list[nl.Message]) -> Sent:
            what(next(counting))
            return transact(self, messages)

        monkeypatch.setattr(Kernel, "transact", late)

    return does


@pytest.mark.usefixtures("small_parts")
def test_parts_make_what_one_transaction_makes(
    started: NftablesMode, kernel: Kernel, whole: tuple[ApplyReport, list[str]]
) -> None:
    of_one, found = whole
    sending, generation = counted(started), kernel.generation()
    report = started.replace(of_every_kind())
    count = kernel.generation() - generation
    assert count > 20
    assert held() == found
    assert (report.added, report.messages) == (of_one.added, of_one.messages)
    assert report.bytes_sent == of_one.bytes_sent + BRACKETS * (count - 1)
    begin = nl.NFNL_MSG_BATCH_BEGIN
    sent = [len(data) for data in sending.sent if begin in kinds(data)[:1]]
    assert (len(sent), sum(sent)) == (count, report.bytes_sent)
    assert not started.verify()
    after = NftablesMode()
    assert after.start(NODE_A).kept
    assert after.replace(of_every_kind()).messages == 0
    after.close()


def test_as_many_elements_as_a_part_has_are_one_commit(
    started: NftablesMode, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = started.replace(services(1, 2)).added
    started.cleanup()
    monkeypatch.setattr(parts, "ELEMENTS_IN_A_PART", added)
    generation = kernel.generation()
    started.replace(services(1, 2))
    assert kernel.generation() == generation + 1
    started.cleanup()
    monkeypatch.setattr(parts, "ELEMENTS_IN_A_PART", added - 1)
    generation = kernel.generation()
    started.replace(services(1, 2))
    assert kernel.generation() > generation + 2


def test_ten_thousand_elements_take_four_commits(started: NftablesMode, kernel: Kernel) -> None:
    generation = kernel.generation()
    report = started.replace(services(*range(1, 101), endpoints=50))
    assert report.added > 100 * 2 * 50
    assert kernel.generation() == generation + 4
    assert len(look().services) == 2 * 100
    assert not started.verify()


@pytest.mark.usefixtures("small_parts")
def test_the_hooks_come_last(
    started: NftablesMode, kernel: Kernel, between: Callable[[Callable[[int], None]], None]
) -> None:
    hooked: list[bool] = []

    def note(_: int) -> None:
        tables = [kernel.table(family) for family in Family]
        hooked.append(any(c.base for t in tables if t for c in t.chains.values()))

    between(note)
    generation = kernel.generation()
    started.replace(of_every_kind())
    assert len(hooked) == kernel.generation() - generation
    assert not any(hooked)
    note(0)
    assert hooked.pop()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("gone", [(), ("ip",), ("ip6",)], ids=["none", "ip", "ip6"])
def test_where_a_table_is_all_is_one_commit(
    started: NftablesMode, kernel: Kernel, gone: tuple[str, ...]
) -> None:
    started.replace({})
    for family in gone:
        nft("delete", "table", family, "headgate")
    started.start(NODE_A)
    generation = kernel.generation()
    started.replace(of_every_kind())
    assert kernel.generation() == generation + 1
    assert not started.verify()


@pytest.mark.usefixtures("small_parts")
def test_a_service_that_is_refused_is_named_and_no_other_is_harmed(
    started: NftablesMode, whole: tuple[ApplyReport, list[str]]
) -> None:
    of_one, found = whole
    report = started.replace({**refused(), **of_every_kind()})
    assert report.failed == {
        BAD: "ip lb-sources 198.51.100.9 . tcp . 80 . 10.1.0.0/16: File exists (EEXIST)"
    }
    assert held() == found
    assert (report.added, report.messages, report.bytes_sent) == (
        of_one.added,
        of_one.messages,
        of_one.bytes_sent,
    )
    assert not started.verify()


@pytest.mark.usefixtures("small_parts")
def test_where_the_last_part_is_refused_it_is_one_commit(
    started: NftablesMode,
    whole: tuple[ApplyReport, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nonsense = nl.Message(99, 0, Family.IPV4, b"")
    monkeypatch.setattr(adopt, "hooks", lambda _: [nonsense])
    assert started.replace(of_every_kind()) == whole[0]
    assert held() == whole[1]


@pytest.mark.usefixtures("small_parts")
def test_what_nobody_is_to_blame_for_leaves_no_table(
    started: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = nl.Message(99, 0, Family.IPV4, b"")
    monkeypatch.setattr(adopt, "hooks", lambda _: [nonsense])
    monkeypatch.setattr(adopt, "rebuilding", lambda *_, **__: [nonsense])
    with pytest.raises(KernelFault, match="the kernel refused a change"):
        started.replace(of_every_kind())
    assert held() == []


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("command", ["flush ruleset", "delete table ip headgate"])
def test_who_takes_tables_away_meanwhile_is_no_hindrance(
    started: NftablesMode,
    whole: tuple[ApplyReport, list[str]],
    between: Callable[[Callable[[int], None]], None],
    command: str,
) -> None:
    """Of one table the deletion is refused, and so the other one stays, half filled."""

    def take(number: int) -> None:
        if number == 5:
            nft(command)

    between(take)
    started.replace(of_every_kind())
    assert held() == whole[1]
    assert not started.verify()


def killed_before(number: int, between: Callable[[Callable[[int], None]], None]) -> None:
    """A process that loads is killed before it sends this transaction; the first has number 0."""

    def die(reached: int) -> None:
        if reached == number:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            between(die)
            loading = NftablesMode()
            loading.start(NODE_A)
            loading.replace(of_every_kind())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("back", [0, 1, 12, 20], ids="{} parts before the last".format)
def test_the_next_process_finishes_what_one_that_was_killed_began(
    started: NftablesMode,
    kernel: Kernel,
    whole: tuple[ApplyReport, list[str]],
    between: Callable[[Callable[[int], None]], None],
    back: int,
) -> None:
    generation = kernel.generation()
    started.replace(of_every_kind())
    last = kernel.generation() - generation - 1
    started.cleanup()
    killed_before(last - back, between)
    adopted = started.start(NODE_A)
    assert not adopted.kept
    assert adopted.reason == "IPv4: chain input is missing, IPv6: chain input is missing"
    assert (adopted.elements == whole[0].added) == (back == 0)
    generation = kernel.generation()
    report = started.replace(of_every_kind())
    assert kernel.generation() == generation + 1
    assert (report.added, report.deleted) == (whole[0].added - adopted.elements, 0)
    assert held() == whole[1]
    assert not started.verify()


@pytest.mark.usefixtures("small_parts")
def test_our_own_parts_are_no_news(started: NftablesMode) -> None:
    with listening(started) as ear:
        started.replace(of_every_kind())
        nft("flush", "chain", "ip", "headgate", "pick-3")
        (heard,) = ear.next()
    assert (heard.what, heard.author) == ("3 rules of chain ip headgate pick-3 deleted", "nft")
