"""Does a change cost what it is large: one program for each family that it touches?"""

from __future__ import annotations

import re

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Delta
from modes.iptables import service_chains
from modes.iptables.mode import IptablesMode
from modes.xtables import names
from modes.xtables.delta import BULK
from modes.xtables.transaction import CHAINS_IN_A_BLOCK
from modes.xtables.variant import Variant
from tests.kernel.iptables import programs, tables
from tests.kernel.rulesets import Clustered, named, plans, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import cluster_ip, plan_of, pods

S1 = ObjectName("shop", "s1")

OUTSIDE = 300
"""A Service whose cluster IP is outside of the network that holds those that are there."""


@pytest.fixture
def running(mode: IptablesMode) -> IptablesMode:
    """Forty Services of three endpoints."""
    mode.start(NODE_A)
    mode.replace(services(*range(1, 41), endpoints=3))
    return mode


def restore(variant: Variant, family: Family) -> str:
    return f"{tables.COMMAND[family]}-{variant}-restore"


def written_chains(text: str) -> set[str]:
    """The chains that are made, emptied or written anew."""
    return set(re.findall(r"^:(\S+) ", text, re.MULTILINE))


def touched_chains(text: str) -> set[str]:
    """These, and those that single rules are put into or taken out of."""
    return written_chains(text) | set(re.findall(r"^-[ADIX] (\S+)", text, re.MULTILINE))


def blocks(text: str) -> list[str]:
    return text.split("COMMIT\n")[:-1]


def chains_of(*endpoints: str) -> set[str]:
    port = named("s1")
    return {service_chains.endpoint_chain(port, *pods(address)) for address in endpoints}


@pytest.mark.parametrize("family", Family)
def test_one_endpoint_is_one_program_and_one_service(
    running: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    before = dict(zip(Family, plans(1, endpoints=3), strict=True))
    after = dict(zip(Family, plans(1, endpoints=4), strict=True))
    changed = tuple((after if of is family else before)[of] for of in Family)
    texts = tables.Texts(monkeypatch)
    with programs.started() as started:
        report = running.apply(Delta({S1: changed}))
    assert started == [restore(variant, family)]
    (text,) = texts.of(family)
    new = {service_chains.endpoint_chain(named("s1"), after[family].cluster[3])}
    assert touched_chains(text) == {service_chains.cluster_chain(named("s1"))} | new
    assert len(blocks(text)) == 1
    # KUBE-SVC: masquerade and four endpoints; KUBE-SEP: one rule.
    assert (report.added, report.deleted) == (6, 0)
    assert (report.messages, report.bytes_sent) == (text.count("\n"), len(text))
    assert not running.verify()


def test_an_endpoint_that_moves(running: IptablesMode, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = plan_of(
        cluster_ip("10.96.0.1"),
        cluster=pods("10.244.2.1", "10.244.2.2", "10.244.2.9"),
        name=named("s1"),
    )
    texts = tables.Texts(monkeypatch)
    running.apply(Delta({S1: (moved, plans(1, endpoints=3)[1])}))
    (text,) = texts.of(Family.IPV4)
    assert touched_chains(text) == chains_of("10.244.2.3", "10.244.2.9") | {
        service_chains.cluster_chain(named("s1"))
    }
    assert f"-X {chains_of('10.244.2.3').pop()}\n" in text
    assert texts.of(Family.IPV6) == []
    assert not running.verify()


@pytest.mark.parametrize("number", [50, OUTSIDE])
def test_a_new_service_does_not_rewrite_what_all_share(
    running: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The first one outside of the network that held all cluster IPs so far widens that."""
    v4 = plan_of(
        cluster_ip(f"10.96.{number // 200}.{number % 200}"),
        cluster=pods("10.244.2.1"),
        name=named("new"),
    )
    texts = tables.Texts(monkeypatch)
    with programs.started() as started:
        running.apply(Delta({ObjectName("shop", "new"): (v4,)}))
    assert started == [restore(variant, Family.IPV4)]
    (text,) = texts.of(Family.IPV4)
    port = named("new")
    own = {service_chains.cluster_chain(port), service_chains.endpoint_chain(port, v4.cluster[0])}
    widened = {names.UNKNOWN_PORTS} if number == OUTSIDE else set()
    assert written_chains(text) == own | widened
    cover = {names.SERVICES, names.CLUSTER_IPS}
    assert touched_chains(text) == own | cover | widened
    assert len(re.findall(rf"^-I {names.SERVICES} ", text, re.MULTILINE)) == 1
    assert not running.verify()


def test_what_is_applied_already_is_not_sent(running: IptablesMode, variant: Variant) -> None:
    before = tables.everything(variant)
    with programs.started() as started:
        report = running.apply(
            Delta(services(1, 2, endpoints=3), frozenset({ObjectName("shop", "unknown")}))
        )
    assert (report.messages, report.added, report.deleted, started) == (0, 0, 0, [])
    assert tables.everything(variant) == before


def test_many_services_at_once_rewrite_what_all_share_once(
    running: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tables.Texts(monkeypatch)
    many = {name: of[:1] for name, of in services(*range(41, 100)).items()}
    more: Clustered = {
        ObjectName("shop", f"t{n}"): (
            plan_of(
                cluster_ip(f"10.96.{1 + n // 200}.{n % 200}"),
                cluster=pods("10.244.2.1"),
                name=named(f"t{n}"),
            ),
        )
        for n in range(300)
    }
    running.apply(Delta(many))
    running.apply(Delta(more))
    few, all_ = texts.of(Family.IPV4)
    assert len(many) < BULK < len(more)
    assert f":{names.SERVICES} " not in few
    for chain in (names.SERVICES, names.CLUSTER_IPS):
        assert all_.count(f":{chain} ") == 1
    assert "\n-I " not in all_
    assert "\n-D " not in all_
    assert not running.verify()
    with programs.started() as started:
        running.apply(Delta({}, frozenset(more)))
    assert started == [restore(variant, Family.IPV4)]
    assert texts.of(Family.IPV4)[2].count(f":{names.SERVICES} ") == 1
    assert not running.verify()
    running.apply(Delta({}, frozenset(many)))
    straight = tables.state(variant)
    running.cleanup()
    running.start(NODE_A)
    running.replace(services(*range(1, 41), endpoints=3))
    assert tables.state(variant) == straight


def large_service() -> Clustered:
    """One with affinity, so that each endpoint has a chain however many there are."""
    addresses = [f"10.244.{2 + n // 200}.{n % 200 + 1}" for n in range(600)]
    plan = plan_of(
        cluster_ip("10.96.9.9"), cluster=pods(*addresses), name=named("big"), affinity_seconds=60
    )
    return {ObjectName("shop", "big"): (plan,)}


@pytest.mark.parametrize(
    "listed",
    [services(*range(1, 200), endpoints=4), large_service()],
    ids=["many Services", "a large Service"],
)
def test_the_first_sync_is_one_program_and_in_blocks_for_nft(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, listed: Clustered
) -> None:
    mode.start(NODE_A)
    texts = tables.Texts(monkeypatch)
    with programs.started() as started:
        mode.replace(listed)
    assert started == [restore(variant, family) for family in Family]
    (text,) = texts.of(Family.IPV4)
    sizes = [len(written_chains(block)) for block in blocks(text)]
    assert sum(sizes) > 2 * CHAINS_IN_A_BLOCK
    if variant is Variant.NFT:
        assert max(sizes) <= CHAINS_IN_A_BLOCK
        # What refuses comes last, and before it what links all that was made.
        *made, linked, refusing = sizes
        assert len(made) == -(-sum(made) // CHAINS_IN_A_BLOCK)
        assert linked + refusing < CHAINS_IN_A_BLOCK
        assert names.SERVICES in written_chains(blocks(text)[-2])
    else:
        assert len(sizes) == 2
    assert not mode.verify()


@pytest.mark.parametrize("way", ["apply", "replace", "cleanup"])
def test_many_chains_go_by_one_program_and_in_blocks_for_nft(
    mode: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    mode.start(NODE_A)
    few, many = services(1), services(*range(2, 120), endpoints=3)
    mode.replace(few)
    straight = tables.state(variant) if way != "cleanup" else {family: {} for family in Family}
    mode.replace(few | many)
    texts = tables.Texts(monkeypatch)
    if way == "apply":
        mode.apply(Delta({}, frozenset(many)))
    elif way == "replace":
        mode.replace(few)
    else:
        mode.cleanup()
    (text,) = texts.of(Family.IPV4)
    sizes = [len(written_chains(block)) for block in blocks(text)]
    assert sum(sizes) >= 118 * 4 > CHAINS_IN_A_BLOCK
    assert max(sizes) <= CHAINS_IN_A_BLOCK or variant is Variant.LEGACY
    left = tables.state(variant)
    if way == "cleanup":
        left = {family: {c: of for c, of in left[family].items() if of} for family in Family}
        assert all(
            chain.name in tables.BUILT_IN for f in Family for chain in tables.held(variant, f)
        )
    assert left == straight
