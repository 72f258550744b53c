"""Does the kernel hold what the last cluster means, whatever was there before?

"The same state" is the same elements, but that each list of endpoints may be in another order:
a mode leaves an endpoint in its slot when others come and go. Numbered chains that no element
names any more may linger; they are as they were made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family
from endpoints.node import NodeSettings
from modes.base import Delta
from modes.held import DifferenceKind, Only
from modes.nftables.elements import Elements, Value, Verdict, key_prefix, set_of
from modes.nftables.kernel import Kernel
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET
from tests.kernel.rulesets import delete, nft
from tests.laws.clusters import (
    Cluster,
    Clustered,
    Objects,
    change,
    clusters,
    compiled,
    node_settings,
    objects,
)
from tests.laws.effort import effort

_SLOTS_OF = {S.SERVICES: S.ENDPOINTS, S.NODEPORTS: S.NODEPORT_ENDPOINTS}
_CHOOSES = re.compile(r"goto (np-)?pick-")
SLOTTED = (S.ENDPOINTS, S.NODEPORT_ENDPOINTS)
OTHERS = """
table ip headgate-other { set cluster-ips { type ipv4_addr; elements = { 10.96.0.1 }; }; }
table inet filter { chain forward { type filter hook forward priority 0; tcp dport 22 accept; }; }
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


@pytest.fixture(scope="module")
def nftables() -> Iterator[NftablesMode]:
    made = NftablesMode()
    yield made
    made.cleanup()
    made.close()


def held(kernel: Kernel) -> Elements:
    return {k: v for family in Family for k, v in kernel.all_elements(family).items()}


def normalised(elements: Elements) -> dict[bytes, Value | Counter[Value]]:
    """Elements with the order of every list of endpoints taken out; a list has its slots, all.

    Who chooses among none refuses, as who is said to have none (decision 0023).
    """
    out: dict[bytes, Value | Counter[Value]] = {}
    lists: dict[bytes, Counter[Value]] = {}
    slots: dict[bytes, list[int]] = {}
    for key, value in elements.items():
        if set_of(key)[1] not in SLOTTED:
            out[key] = value
            continue
        slot = int.from_bytes(key[-4:], "little")
        which = key[:-4] + (b"local" if slot >= LOCAL_OFFSET else b"cluster")
        lists.setdefault(which, Counter())[value] += 1
        slots.setdefault(which, []).append(slot % LOCAL_OFFSET)
    for which, numbers in slots.items():
        assert sorted(numbers) == list(range(len(numbers)))
        assert max(lists[which].values()) == 1
    for key, value in elements.items():
        if isinstance(value, Verdict) and _CHOOSES.match(value.verdict):
            family, set_id = set_of(key)
            if key_prefix(family, _SLOTS_OF[set_id]) + key[1:] + b"cluster" not in lists:
                out[key] = value._replace(verdict="goto no-endpoints")
    return {**out, **lists}


@effort(20)
@given(node_settings, objects(), objects(), objects())
def test_the_way_does_not_matter(
    kernel: Kernel,
    nftables: NftablesMode,
    settings: NodeSettings,
    first: Objects,
    second: Objects,
    third: Objects,
) -> None:
    """Empty -> a -> b -> c leaves what empty -> c leaves, and every step what was asked for."""
    node, at_once = compiled(Cluster(settings, third))
    nftables.cleanup()
    nftables.start(node)
    assert not nftables.replace(at_once).failed
    straight = normalised(held(kernel))

    nftables.cleanup()
    nftables.start(node)
    nftables.replace({})
    before: Clustered = {}
    for listed in (first, second, third):
        _, after = compiled(Cluster(settings, listed))
        assert not nftables.apply(change(before, after)).failed
        assert not nftables.verify()
        before = after
    assert normalised(held(kernel)) == straight


@effort(15)
@given(clusters, clusters)
def test_twice_is_once(
    kernel: Kernel, nftables: NftablesMode, first: Cluster, second: Cluster
) -> None:
    """Also for another node than before, and for a process that knows nothing yet."""
    for cluster in (first, second):
        node, plans = compiled(cluster)
        nftables.start(node)
        nftables.replace(plans)
        generation, elements = kernel.generation(), held(kernel)
        for report in (
            nftables.apply(Delta(plans, frozenset())),
            nftables.replace(plans),
            nftables.apply(Delta(plans, frozenset())),
        ):
            assert (report.messages, report.bytes_sent) == (0, 0)
        after_a_crash = NftablesMode()
        assert after_a_crash.start(node).kept
        assert after_a_crash.replace(plans).messages == 0
        after_a_crash.close()
        assert kernel.generation() == generation
        assert held(kernel) == elements


@effort(8)
@given(clusters)
def test_cleanup_leaves_nothing_of_ours_and_everything_of_others(
    nftables: NftablesMode, cluster: Cluster
) -> None:
    nftables.cleanup()
    nft("-f", "-", text=OTHERS)
    before = nft("-a", "list", "ruleset")
    node, plans = compiled(cluster)
    nftables.start(node)
    nftables.replace(plans)
    listed = nft("list", "ruleset")
    assert "table ip headgate {" in listed
    assert "table ip6 headgate {" in listed
    assert nftables.cleanup()
    assert nft("-a", "list", "ruleset") == before
    nft("flush", "ruleset")


@effort(20)
@given(clusters)
def test_dump_tells_what_the_plans_say(nftables: NftablesMode, cluster: Cluster) -> None:
    node, plans = compiled(cluster)
    nftables.start(node)
    nftables.replace(plans)
    wanted = Counter(
        (str(plan.name), plan.name.protocol.value, plan.family.value, f.address or "node", f.port)
        for listed in plans.values()
        for plan in listed
        for f in plan.frontends
    )
    told = Counter(
        (service.name, service.protocol, service.family, f.address, f.port)
        for service in look().services
        for f in service.frontends
    )
    assert told == wanted


@effort(15)
@given(clusters, st.randoms(use_true_random=False))
def test_a_comparison_tells_of_damage_and_of_nothing_else(
    kernel: Kernel, nftables: NftablesMode, cluster: Cluster, chance: Random
) -> None:
    """Every element that somebody deletes is told; where nobody did anything nothing is."""
    node, plans = compiled(cluster)
    nftables.start(node)
    nftables.replace(plans)
    assert look().differences(node, plans) == ()
    generation = kernel.generation()
    names = {str(plan.name) for listed in plans.values() for plan in listed} | {""}
    for name in plans:
        assert look(Only(service=str(name))).differences(node, plans) == ()
    assert kernel.generation() == generation
    elements = held(kernel)
    gone = chance.sample(sorted(elements), min(3, len(elements)))
    if not gone:
        return
    delete(kernel, gone)
    told = look().differences(node, plans)
    assert told
    assert {difference.service for difference in told} <= names
    assert {difference.kind for difference in told} == {DifferenceKind.MISSING}
    nftables.replace(plans)
    assert look().differences(node, plans) == ()
