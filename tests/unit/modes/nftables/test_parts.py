"""Do the parts of a load say what one transaction would, in an order that no packet notices?"""

from __future__ import annotations

from collections import Counter

import pytest

from endpoints.names import Family
from modes.nftables import adopt, delta, parts, ruleset
from modes.nftables import netlink as nl
from modes.nftables.adopt import Observed
from modes.nftables.elements import Elements, Verdict, render
from modes.nftables.skeleton import Layout
from tests.unit.modes.nftables.build import cluster_ip, plan_of, pods
from tests.unit.modes.nftables.shapes import NAMES, shapes

NOTHING = Observed({}, dict.fromkeys(Family, "no table yet"), {}, frozenset(), frozenset())


def elements(services: int, endpoints: int) -> Elements:
    found: Elements = {}
    v4 = pods(*(f"10.244.2.{n}" for n in range(1, endpoints + 1)))
    v6 = pods(*(f"fd00:10:244:2::{n:x}" for n in range(1, endpoints + 1)))
    for number in range(1, services + 1):
        both = (
            plan_of(cluster_ip(f"10.96.0.{number}"), cluster=v4),
            plan_of(cluster_ip(f"fd00:10:96::{number:x}"), cluster=v6),
        )
        found.update(render(both, {}))
    return found


def layouts(name: str = NAMES[0]) -> dict[Family, Layout]:
    return {family: Layout(shapes(family)[name]) for family in Family}


@pytest.mark.parametrize("name", NAMES)
def test_together_they_are_the_one_transaction(name: str) -> None:
    changes, of = delta.Changes(adds=elements(3, 4)), layouts(name)
    chains = delta.missing_chains(of, set(), changes)
    whole = [m for layout in of.values() for m in adopt.rebuilding(layout, exists=False)]
    whole += delta.messages(of, chains, changes)
    found = [list(part) for part in parts.divided(of, chains, changes)]
    said = Counter((m.kind, m.flags, m.family, m.body) for part in found for m in part)
    assert said == Counter((m.kind, m.flags, m.family, m.body) for m in whole)
    first, *between, last = found
    hooked = {
        (layout.family, ruleset.new_chain(layout.family, chain).body)
        for layout in of.values()
        for chain in layout.base_chains()
        if chain.base
    }
    assert {(m.family, m.body) for m in last if m.kind == nl.NEWCHAIN} == hooked
    assert {m.kind for m in last} == {nl.NEWCHAIN, nl.NEWRULE}
    assert {m.kind for part in between for m in part} == {nl.NEWSETELEM}
    assert {m.kind for m in first} == {nl.NEWTABLE, nl.NEWSET, nl.NEWCHAIN, nl.NEWRULE}


def test_parts_are_as_large_as_can_be_but_for_the_last() -> None:
    changes = delta.Changes(adds=elements(240, 48))
    found = list(parts.divided(layouts(), [], changes))[1:-1]
    sizes = [sum(len(m.keys) for m in part) for part in found]
    assert sum(sizes) == len(changes.adds)
    assert len(sizes) == len(changes.adds) // parts.ELEMENTS_IN_A_PART + 1
    # A message of elements has 64 KB at most, and none is shorter than 32 bytes.
    assert all(0 <= size - parts.ELEMENTS_IN_A_PART < 2048 for size in sizes[:-1])


def test_chains_come_before_what_leads_to_them() -> None:
    changes, of = delta.Changes(adds=elements(3, 4)), layouts()
    assert any(isinstance(value, Verdict) for value in changes.adds.values())
    first = next(parts.divided(of, delta.missing_chains(of, set(), changes), changes))
    for layout in of.values():
        chain = layout.numbered_chain("pick-4")
        assert chain is not None
        assert ruleset.new_chain(layout.family, chain) in first


def test_only_much_for_a_kernel_that_has_nothing_is_divided() -> None:
    some = Observed({}, {Family.IPV6: "no table yet"}, {}, frozenset({Family.IPV4}), frozenset())
    much: Elements = dict.fromkeys((bytes([n >> 8, n & 255]) for n in range(8193)), b"")
    little: Elements = dict(list(much.items())[:-1])
    assert parts.suit(NOTHING, delta.Changes(adds=much))
    assert not parts.suit(NOTHING, delta.Changes(adds=little))
    assert not parts.suit(some, delta.Changes(adds=much))
