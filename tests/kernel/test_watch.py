"""Is it heard at once, and with its author, when somebody else changes our tables?"""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator

import pytest

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import Delta, Foreign
from modes.commits import LOST
from modes.nftables import elements
from modes.nftables.codec import Found
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from tests.kernel.ear import Ear, listening
from tests.kernel.rulesets import add, nft, remember, services
from tests.unit.endpoints.build import NODE_A

LAST = "delete table ip6 headgate"


@pytest.fixture
def ear(mode: NftablesMode) -> Iterator[Ear]:
    """Who listens from before the start on; three Services are programmed."""
    with listening(mode) as made:
        mode.start(NODE_A)
        mode.replace(services(1, 2, 3))
        yield made


CHANGES = {
    "delete element ip headgate services { 10.96.0.3 . tcp . 80 }": "1 element of map ip headgate services deleted",
    "add element ip headgate cluster-ips { 10.96.9.9, 10.96.9.10 }": "2 elements of set ip headgate cluster-ips added",
    "flush map ip6 headgate services": "3 elements of map ip6 headgate services deleted",
    "flush chain ip headgate pick-2": "3 rules of chain ip headgate pick-2 deleted",
    "insert rule ip headgate postrouting accept": "1 rule of chain ip headgate postrouting added",
    "add chain ip headgate stranger": "chain ip headgate stranger added or changed",
    "add table ip headgate { flags dormant; }": "table ip headgate added or changed",
    "add counter ip headgate cc": "object ip headgate cc added or changed",
    "delete table ip headgate": "table ip headgate deleted",
    "flush ruleset": "table ip headgate deleted, table ip6 headgate deleted",
    "delete table ip headgate; add table ip headgate": "table ip headgate deleted and made anew",
}


@pytest.mark.parametrize(("command", "told"), CHANGES.items(), ids=CHANGES.values())
def test_a_change_is_heard_with_its_author(
    ear: Ear, mode: NftablesMode, command: str, told: str
) -> None:
    nft("-f", "-", text=command)
    (heard,) = ear.next()
    assert (heard.what, heard.author) == (told, "nft")
    assert heard.pid > 0
    mode.start(NODE_A)
    assert mode.replace(services(1, 2, 3)).messages > 0
    assert not mode.verify()
    assert mode.replace(services(1, 2, 3)).messages == 0


def test_much_is_told_in_a_few_words(ear: Ear) -> None:
    nft(
        "flush map ip headgate services; flush map ip headgate endpoints;"
        "flush set ip headgate cluster-ips; flush set ip headgate hairpin;"
        "flush map ip6 headgate services; flush map ip6 headgate endpoints"
    )
    (heard,) = ear.next()
    assert heard.what == (
        "3 elements of map ip headgate services deleted, "
        "6 elements of map ip headgate endpoints deleted, "
        "3 elements of set ip headgate cluster-ips deleted, and 2 more"
    )


def test_what_others_do_to_what_is_theirs_is_no_news(ear: Ear) -> None:
    nft("add table ip headgate-other; delete table ip headgate-other; add table inet headgate")
    subprocess.run(["iptables-nft", "-t", "nat", "-A", "PREROUTING", "-j", "ACCEPT"], check=True)
    subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True)
    nft(LAST)
    assert [heard.what for heard in ear.next()] == ["table ip6 headgate deleted"]


def test_a_random_history_of_our_own_is_no_news(ear: Ear, mode: NftablesMode) -> None:
    chance = random.Random(16)
    there = set(services(1, 2, 3))
    for _ in range(150):
        wanted = services(*chance.sample(range(1, 30), 4), endpoints=chance.randrange(4))
        gone = frozenset(
            chance.sample(sorted(there - wanted.keys()), len(there - wanted.keys()) // 2)
        )
        mode.apply(Delta(wanted, gone))
        there = (there | wanted.keys()) - gone
    mode.start(_other_node())
    mode.replace(services(1, 2))
    nft(LAST)
    assert [heard.what for heard in ear.next()] == ["table ip6 headgate deleted"]


def _other_node() -> NodeView:
    return NodeView(name="node-b", zone="", addresses=NODE_A.addresses)


def test_who_closes_wakes_who_waits(mode: NftablesMode) -> None:
    for _ in range(50):
        with listening(mode):
            pass
    watch = mode.watch()
    assert watch is not None
    watch.close()
    watch.close()
    assert watch.wait() == ()


def test_one_burst_is_one_piece_of_news(mode: NftablesMode) -> None:
    watch = mode.watch()
    assert watch is not None
    mode.start(NODE_A)
    mode.replace(services(1))
    nft("flush map ip headgate services")
    nft("delete table ip6 headgate")
    heard = watch.wait()
    assert len(heard) == 2
    assert len({(one.author, one.pid) for one in heard}) == 2
    watch.close()


def test_what_runs_out_is_no_news(mode: NftablesMode, kernel: Kernel) -> None:
    """Entries that somebody added are told, their end is not: the kernel's own doing."""
    mode.start(NODE_A)
    mode.replace(services(1))
    key = (
        elements.key_prefix(Family.IPV4, S.AFFINITY) + bytes(4) + bytes(4) + b"\x06\0\0\0\0\x50\0\0"
    )
    remember(kernel, [Found(key, bytes(8), 100, 100)])
    with listening(mode) as ear:
        while list(kernel.elements(Family.IPV4, S.AFFINITY)):
            threading.Event().wait(0.01)
        nft("add rule ip headgate pick-2 counter")  # a commit also collects what has run out
        nft("delete table ip headgate")
        heard = [*ear.next()]
        while "table ip headgate deleted" not in heard[-1].what:
            heard += ear.next()
    assert not any("affinity" in one.what for one in heard)


def test_that_news_was_lost_is_told(mode: NftablesMode, kernel: Kernel) -> None:
    watch = mode.watch()
    assert watch is not None
    mode.start(NODE_A)
    mode.replace(services(1))
    prefix = elements.key_prefix(Family.IPV4, S.CLUSTER_IPS)
    for high in range(8):
        many = {prefix + bytes((10, 97 + high, n >> 8, n & 255)): b"" for n in range(60_000)}
        add(kernel, many)
    heard: list[Foreign] = []
    while LOST not in heard:
        heard += watch.wait()
    watch.close()


def test_a_service_that_goes_is_no_news(ear: Ear, mode: NftablesMode) -> None:
    mode.apply(Delta({}, frozenset({ObjectName("shop", "s1")})))
    mode.cleanup()
    mode.start(NODE_A)
    mode.replace(services(1))
    nft(LAST)
    assert [heard.what for heard in ear.next()] == ["table ip6 headgate deleted"]
