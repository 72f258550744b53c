"""Are the rules few, constant, and within the registers that a rule has?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pytest

from endpoints.names import Family
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables.codec import spec_of
from modes.nftables.rule_text import rule_text
from modes.nftables.sets import S, set_specs
from modes.nftables.shape import Shape, shape_of
from modes.nftables.skeleton import Layout, Rule
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.shapes import NUMBERED, layouts, shapes

WORDS = 16
V4, V6 = Family.IPV4, Family.IPV6
_CT_SIZES = {x.CT_STATUS: 4, x.CT_PROTO_DST: 2, x.CT_DST_IP: 4, x.CT_DST_IP6: 16}
_META_SIZES = {x.META_IIFNAME: 16, x.META_OIFNAME: 16, x.META_L4PROTO: 1}


def expressions(rule: Rule) -> Iterator[tuple[str, dict[int, bytes]]]:
    """The name and the attributes of each expression."""
    for encoded in rule:
        parts = dict(nl.attributes(encoded[4:]))
        name = parts[nl.NFTA_EXPR_NAME].rstrip(b"\0").decode()
        yield name, dict(nl.attributes(parts.get(nl.NFTA_EXPR_DATA, b"")))


def number(payload: bytes) -> int:
    return int.from_bytes(payload, "big")


def word(register: bytes) -> int:
    """The word at which a register starts: old names for aligned ones, 8 and up for all."""
    found = number(register)
    assert found in range(1, 5) or found in range(8, 8 + WORDS)
    return (found - 1) * 4 if found < 5 else found - 8


def set_named(family: Family, payload: bytes) -> S:
    name = payload.rstrip(b"\0").decode()
    (found,) = [set_id for set_id in S if set_id.set_name == name]
    return spec_of(family, found).id


def loads(family: Family, name: str, parts: dict[int, bytes]) -> list[tuple[int, int]]:
    """What an expression writes: where, and how many bytes."""
    if name == "payload":
        return [(word(parts[1]), number(parts[4]))]
    if name == "ct":
        return [(word(parts[1]), _CT_SIZES[number(parts[2])])]
    if name == "meta":
        return [(word(parts[1]), _META_SIZES[number(parts[2])])]
    if name in ("numgen", "fib"):
        return [(word(parts[1]), 4)]
    if name == "lookup" and number(parts.get(3, b"")):
        return [(word(parts[3]), spec_of(family, set_named(family, parts[1])).data_size)]
    return []


def reads(family: Family, name: str, parts: dict[int, bytes]) -> list[tuple[int, int]]:
    """What an expression reads: where, and how many bytes."""
    if name == "lookup":
        return [(word(parts[2]), spec_of(family, set_named(family, parts[1])).key_size)]
    if name == "dynset":
        spec = spec_of(family, set_named(family, parts[1]))
        return [(word(parts[4]), spec.key_size), (word(parts[5]), spec.data_size)]
    if name == "nat":
        return [(word(parts[3]), 4 if family is V4 else 16), (word(parts[5]), 2)]
    if name == "cmp":
        (value,) = nl.attributes(parts[3])
        return [(word(parts[1]), len(value[1]))]
    return []


def words(start: int, size: int) -> set[int]:
    return set(range(start, start + (size + 3) // 4))


def all_rules(layout: Layout) -> Iterator[Rule]:
    for chain in layout.base_chains():
        yield from chain.rules
    for name in NUMBERED:
        chain_ = layout.numbered_chain(name)
        assert chain_ is not None
        yield from chain_.rules


@pytest.mark.parametrize("layout", layouts(), ids=lambda it: str(it.shape))
def test_a_rule_reads_only_what_it_loaded_within_sixteen_words(layout: Layout) -> None:
    for rule in all_rules(layout):
        loaded: set[int] = set()
        for name, parts in expressions(rule):
            for place in reads(layout.family, name, parts):
                assert words(*place) <= loaded, name
            for place in loads(layout.family, name, parts):
                loaded |= words(*place)
        assert loaded <= set(range(WORDS))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("can_miss", [False, True])
def test_the_number_of_rules_is_constant_and_small(family: Family, *, can_miss: bool) -> None:
    kept = [s for s in shapes(family).values() if s.lookups_can_miss is can_miss]
    counts = {sum(len(c.rules) for c in Layout(shape).base_chains()) for shape in kept}
    assert max(counts) <= 48 + 7 * can_miss
    for shape in kept:
        chains = [Layout(shape).numbered_chain(name) for name in NUMBERED]
        assert max(len(chain.rules) for chain in chains if chain) == 6


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    ("chain", "can_miss", "last"),
    [
        ("pick-3", False, "goto no-endpoints"),
        ("np-pick-3", False, "goto no-endpoints"),
        ("local-3", False, "drop"),
        ("np-local-3", False, "drop"),
        *((chain, True, "drop") for chain in ("pick-3", "np-pick-3", "local-3", "np-local-3")),
    ],
)
def test_without_slots_a_choice_refuses_unless_there_may_be_some(
    family: Family, chain: str, last: str, *, can_miss: bool
) -> None:
    made = Layout(Shape(family, lookups_can_miss=can_miss)).numbered_chain(chain)
    assert made is not None
    assert rule_text(family, made.rules[-1]) == last


def test_every_set_is_named_by_a_rule() -> None:
    for layout in (Layout(Shape(family)) for family in Family):
        named = {
            set_named(layout.family, parts[1])
            for rule in all_rules(layout)
            for name, parts in expressions(rule)
            if name in ("lookup", "dynset")
        }
        assert named == {spec.id for spec in set_specs(layout.family)}


def test_a_chain_is_jumped_to_only_after_it_was_made() -> None:
    for layout in layouts():
        made: set[str] = set()
        for chain in layout.base_chains():
            made.add(chain.name)
        for rule in all_rules(layout):
            for name, parts in expressions(rule):
                if name == "immediate":
                    assert _target(parts) in made | set(NUMBERED) | {""}


def _target(parts: dict[int, bytes]) -> str:
    data = dict(nl.attributes(parts[2]))
    verdict = dict(nl.attributes(data[nl.NFTA_DATA_VERDICT]))
    return verdict.get(nl.NFTA_VERDICT_CHAIN, b"").rstrip(b"\0").decode()


@pytest.mark.parametrize(
    "name",
    [
        "pick-0",
        "pick-01",
        "pick-",
        "pick-3x",
        "xpick-3",
        "pick--3",
        "np-masq",
        "learn",
        "pick-12345678",
    ],
)
def test_other_names_are_no_numbered_chains(name: str) -> None:
    assert Layout(Shape(V4)).numbered_chain(name) is None


def test_a_register_has_its_old_name_where_it_is_aligned() -> None:
    assert [x.register(n) for n in range(WORDS)] == [
        1,
        9,
        10,
        11,
        2,
        13,
        14,
        15,
        3,
        17,
        18,
        19,
        4,
        21,
        22,
        23,
    ]


def test_the_shape_follows_the_node() -> None:
    everywhere = NodePortAddresses(match_all=True, addresses=("127.0.0.1",))
    node = msgspec.structs.replace(NODE_A, node_ports_v4=everywhere, masquerade_all=True)
    v4, v6 = (shape_of(node, family, lookups_can_miss=True) for family in Family)
    common = partial(Shape, masquerade_all=True, lookups_can_miss=True)
    assert v4 == common(
        V4,
        pod_cidrs=("10.244.0.0/16",),
        node_ports_everywhere=True,
        node_ports_on_loopback=True,
    )
    assert v6 == common(V6, pod_cidrs=("fd00:10:244::/48",))


@pytest.mark.parametrize(
    ("mode", "interface"),
    [(DetectLocalMode.BRIDGE_INTERFACE, "veth"), (DetectLocalMode.INTERFACE_NAME_PREFIX, "veth*")],
)
def test_the_shape_follows_the_detector(mode: DetectLocalMode, interface: str) -> None:
    traffic = LocalTraffic(mode, interface="veth")
    node = msgspec.structs.replace(NODE_A, local_traffic=traffic)
    assert shape_of(node, V4, lookups_can_miss=False).interface == interface
    unset = msgspec.structs.replace(NODE_A, local_traffic=LocalTraffic(mode))
    assert shape_of(unset, V4, lookups_can_miss=False).interface == ""
