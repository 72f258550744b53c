"""Is it noticed when somebody else changes our rules, and nothing else?"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator

import pytest

from endpoints.names import Family
from modes.base import Delta, Foreign, Glance
from modes.iptables.mode import IptablesMode
from modes.xtables.variant import Variant
from modes.xtables.witness import Witness, legacy_tables
from tests.kernel.ear import Ear, listening
from tests.kernel.iptables import tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

LAST = "iptables-nft -t nat -F KUBE-MARK-MASQ"
SAID_LAST = "1 rule of chain ip nat KUBE-MARK-MASQ deleted"


def run(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)


def start(mode: IptablesMode) -> None:
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))


@pytest.fixture
def heard_mode(network: None) -> Iterator[tuple[IptablesMode, Ear]]:  # noqa: ARG001
    """A mode that runs, and who listens from before the start on."""
    mode = tables.mode_of(Variant.NFT)
    with listening(mode) as ear:
        start(mode)
        yield mode, ear
    mode.close()


CHANGES = {
    "iptables-nft -t nat -F KUBE-MARK-MASQ": SAID_LAST,
    "ip6tables-nft -t nat -A KUBE-SERVICES -j ACCEPT": "1 rule of chain ip6 nat KUBE-SERVICES added",
    "iptables-nft -t nat -F PREROUTING": "rule of chain nat PREROUTING (IPv4) to KUBE-SERVICES deleted",
    "ip6tables-nft -t filter -F FORWARD": "rule of chain filter FORWARD (IPv6) to KUBE-",
    "nft delete table ip nat": "table ip nat deleted",
    "nft flush ruleset": "table ip nat deleted",
}


@pytest.mark.parametrize(("command", "told"), CHANGES.items(), ids=CHANGES)
def test_a_change_is_heard_with_its_author_and_repaired(
    heard_mode: tuple[IptablesMode, Ear], command: str, told: str
) -> None:
    mode, ear = heard_mode
    run(command)
    (heard,) = ear.next()
    assert told in heard.what
    assert heard.author == command.split(maxsplit=1)[0]
    assert heard.pid > 0
    assert mode.verify()
    start(mode)
    assert not mode.verify()
    run(LAST)
    assert [one.what for one in ear.next()] == [SAID_LAST]


def test_all_of_a_table_is_told_in_a_few_words(heard_mode: tuple[IptablesMode, Ear]) -> None:
    mode, ear = heard_mode
    run("iptables-nft -t nat -F")
    (heard,) = ear.next()
    assert heard.what.startswith("rule of chain nat OUTPUT (IPv4) to KUBE-SERVICES deleted, ")
    assert re.search(r", and \d+ more$", heard.what)
    start(mode)
    assert not mode.verify()


def test_chains_of_others_are_no_news(heard_mode: tuple[IptablesMode, Ear]) -> None:
    _, ear = heard_mode
    run(
        "iptables-nft -t nat -N CNI-0123456789",
        "iptables-nft -t nat -A CNI-0123456789 -j ACCEPT",
        "iptables-nft -t nat -A POSTROUTING -s 10.244.1.7 -j CNI-0123456789",
        "iptables-nft -t nat -D POSTROUTING -s 10.244.1.7 -j CNI-0123456789",
        "iptables-nft -t nat -F CNI-0123456789",
        "iptables-nft -t nat -X CNI-0123456789",
        "iptables-nft -t mangle -N KUBE-KUBELET-CANARY",
        "ip6tables-nft -t filter -P FORWARD DROP",
        "nft add table ip headgate",
        "nft delete table ip headgate",
        LAST,
    )
    assert [one.what for one in ear.next()] == [SAID_LAST]


def test_a_random_history_of_our_own_is_no_news(heard_mode: tuple[IptablesMode, Ear]) -> None:
    mode, ear = heard_mode
    chance = random.Random(16)
    there = set(services(1, 2, 3))
    for _ in range(15):
        wanted = services(*chance.sample(range(1, 20), 4), endpoints=chance.randrange(4))
        old = sorted(there - wanted.keys())
        gone = frozenset(chance.sample(old, len(old) // 2))
        mode.apply(Delta(wanted, gone))
        there = (there | wanted.keys()) - gone
    for _ in range(3):
        start(mode)
    run(LAST)
    assert [one.what for one in ear.next()] == [SAID_LAST]


def test_what_takes_all_before_our_jumps_is_news(heard_mode: tuple[IptablesMode, Ear]) -> None:
    mode, ear = heard_mode
    run("iptables-nft -t nat -I PREROUTING -s 192.0.2.1 -j ACCEPT")
    run("iptables-nft -t nat -I PREROUTING -j ACCEPT")
    (heard,) = ear.next()
    assert heard.what == (
        "rule of chain nat PREROUTING (IPv4) to KUBE-SERVICES is behind one that takes all"
    )
    assert mode.verify()
    start(mode)
    assert not mode.verify()
    run(LAST)
    assert [one.what for one in ear.next()] == [SAID_LAST]


def test_a_host_that_moves_to_nft_is_heard_from_then_on(network: None) -> None:  # noqa: ARG001
    mode = tables.mode_of("auto")
    run("iptables-legacy -t mangle -N KUBE-IPTABLES-HINT")
    with listening(mode) as ear:
        assert mode.start(NODE_A).reason.startswith("legacy: ")
        mode.replace(services(1))
        run("iptables-legacy -t mangle -X KUBE-IPTABLES-HINT")
        run("iptables-nft -t mangle -N KUBE-IPTABLES-HINT")
        assert mode.start(NODE_A).reason.startswith("nft: ")
        mode.replace(services(1))
        run(LAST)
        assert [one.what for one in ear.next()] == [SAID_LAST]
    mode.close()


# iptables-legacy.


@pytest.fixture
def legacy(network: None) -> Iterator[IptablesMode]:  # noqa: ARG001
    """A mode that runs on tables of which the kernel tells nobody anything."""
    mode = tables.mode_of(Variant.LEGACY)
    with listening(mode):
        start(mode)
        yield mode
    mode.close()


def looked(mode: IptablesMode) -> tuple[str, ...]:
    glance = mode.glance()
    assert glance.again_in_seconds == 0.5
    assert all(one == Foreign(one.what) for one in glance.foreign)
    return tuple(one.what for one in glance.foreign)


LEGACY = {
    "iptables-legacy -t nat -F": "table nat (IPv4) has ",
    "ip6tables-legacy -t filter -F": "table filter (IPv6) has ",
    "iptables-legacy -t nat -A POSTROUTING -j ACCEPT": "table nat (IPv4) has ",
}


@pytest.mark.parametrize(("command", "told"), LEGACY.items(), ids=LEGACY)
def test_a_glance_tells_once_and_all_is_repaired(
    legacy: IptablesMode, command: str, told: str
) -> None:
    assert looked(legacy) == ()
    run(command)
    (seen,) = looked(legacy)
    assert seen.startswith(told)
    assert looked(legacy) == ()
    start(legacy)
    assert looked(legacy) == ()
    assert not legacy.verify()


def test_what_came_before_a_change_of_ours_is_told(legacy: IptablesMode) -> None:
    run("iptables-legacy -t nat -F KUBE-MARK-MASQ")
    legacy.apply(Delta(services(4), frozenset()))
    (seen,) = looked(legacy)
    assert seen.startswith("table nat (IPv4) has ")


def test_a_random_history_is_not_seen(legacy: IptablesMode) -> None:
    chance = random.Random(16)
    for _ in range(12):
        numbers = chance.sample(range(1, 20), 4)
        legacy.apply(Delta(services(*numbers, endpoints=chance.randrange(4)), frozenset()))
        assert looked(legacy) == ()
        start(legacy)
        assert looked(legacy) == ()


def test_no_table_is_made_by_looking(network: None) -> None:  # noqa: ARG001
    run("iptables-legacy -t filter -N KUBE-SERVICES")
    witness = Witness()
    for _ in range(3):
        assert witness.glance(Variant.LEGACY) == Glance((), 0.5)
    assert (legacy_tables(Family.IPV4), legacy_tables(Family.IPV6)) == (("filter",), ())
    run("iptables-legacy -t filter -X KUBE-SERVICES")
    assert len(witness.glance(Variant.LEGACY).foreign) == 1


@pytest.mark.parametrize("variant", Variant)
def test_nothing_is_written_where_nothing_differs(mode: IptablesMode) -> None:
    start(mode)
    mode.start(NODE_A)
    report = mode.replace(services(1, 2, 3))
    assert (report.added, report.deleted, report.messages) == (0, 0, 0)
