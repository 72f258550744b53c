"""What would nft print for the table that a node gets, or has? Pure: no kernel is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from endpoints.addresses import unpack
from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import Plans
from modes.nftables import expressions as x
from modes.nftables.adopt import TableFound, fitting_sets
from modes.nftables.codec import Found
from modes.nftables.delta import Changes, chains_named, missing_chains, target_of
from modes.nftables.dump import describe
from modes.nftables.elements import Elements, Value, Verdict, render, render_node, set_of
from modes.nftables.rule_text import duration, rule_text
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.shape import shape_of
from modes.nftables.skeleton import TABLE, TABLE_FAMILY, Chain, Layout

_HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting"}


class ListedSet(msgspec.Struct, frozen=True):
    """A set or map with its elements in nft's notation."""

    name: str
    type: str
    options: tuple[str, ...]
    """`flags interval`, `size 262144`."""
    elements: tuple[str, ...]


class ListedChain(msgspec.Struct, frozen=True):
    """A chain with its rules in nft's notation."""

    name: str
    hook: str
    rules: tuple[str, ...]


class ListedTable(msgspec.Struct, frozen=True):
    """A table as the kernel would hold it."""

    family: str
    name: str
    sets: tuple[ListedSet, ...]
    chains: tuple[ListedChain, ...]


def tables(services: Mapping[ObjectName, Plans], node: NodeView) -> tuple[ListedTable, ...]:
    """The tables of both families that hold these Services on this node.

    For kernels in which lookups cannot miss (6.17 and newer): before that, three lookups are
    written twice.
    """
    elements: Elements = render_node(node)
    for plans in services.values():
        elements.update(render(plans, {}))
    by_set = _by_set(elements)
    shapes = [shape_of(node, family, lookups_can_miss=False) for family in Family]
    layouts = {shape.family: Layout(shape) for shape in shapes}
    numbered = missing_chains(layouts, set(), Changes(adds=elements))
    listed = []
    for family, layout in layouts.items():
        made = [layout.numbered_chain(name) for of, name in numbered if of is family]
        chains = [*layout.base_chains(), *(chain for chain in made if chain)]
        listed.append(
            ListedTable(
                family=TABLE_FAMILY[family],
                name=TABLE,
                sets=tuple(
                    _set(spec, by_set.get((family, spec.id), ())) for spec in set_specs(family)
                ),
                chains=tuple(_chain(family, chain) for chain in chains),
            )
        )
    return tuple(listed)


def held_tables(
    found: Mapping[Family, TableFound], elements: Elements, clients: Iterable[Found]
) -> tuple[ListedTable, ...]:
    """The tables that a kernel holds, with rules and sets of others, as far as we can read them."""
    by_set = _by_set(elements)
    for entry in clients:
        by_set.setdefault(set_of(entry.key), []).append(_client(entry))
    return tuple(
        ListedTable(
            family=TABLE_FAMILY[family],
            name=TABLE,
            sets=tuple(_held_sets(family, table, by_set)),
            chains=tuple(_chain(family, chain) for chain in table.chains.values()),
        )
        for family, table in found.items()
    )


def held_elements(
    found: Mapping[Family, TableFound], elements: Elements, clients: Iterable[Found]
) -> tuple[ListedTable, ...]:
    """The same of these elements alone: the sets that they are in, and the chains they lead to."""
    named = set(chains_named(elements.items()))
    named |= {(family, target_of(name)) for family, name in named}
    return tuple(
        msgspec.structs.replace(
            table,
            sets=tuple(listed for listed in table.sets if listed.elements),
            chains=tuple(chain for chain in table.chains if (family, chain.name) in named),
        )
        for family, table in zip(found, held_tables(found, elements, clients), strict=True)
        if any(listed.elements for listed in table.sets)
    )


def _by_set(elements: Elements) -> dict[tuple[Family, S], list[str]]:
    """Elements in nft's notation."""
    found: dict[tuple[Family, S], list[str]] = {}
    for key, value in elements.items():
        found.setdefault(set_of(key), []).append(_element(key, value))
    return found


def _set(spec: SetSpec, elements: Iterable[str]) -> ListedSet:
    kind = " . ".join(spec.fields)
    if spec.data:
        kind += " : " + " . ".join(spec.data)
    return ListedSet(spec.id.set_name, kind, _options(spec), tuple(elements))


def _held_sets(
    family: Family, table: TableFound, by_set: Mapping[tuple[Family, S], Iterable[str]]
) -> Iterator[ListedSet]:
    fitting = fitting_sets(table, family)
    for spec in set_specs(family):
        if spec.id in fitting:
            yield _set(spec, by_set.get((family, spec.id), ()))
    for name in sorted(table.sets.keys() - {of.set_name for of in fitting}):
        yield ListedSet(name, "?", ("# of another layout: its elements were not read",), ())


def _options(spec: SetSpec) -> tuple[str, ...]:
    if spec.dynamic_size:
        return (f"size {spec.dynamic_size}", "flags dynamic,timeout")
    return ("flags interval",) if spec.interval else ()


def _element(key: bytes, value: Value) -> str:
    text = describe(key).split(" ", 2)[2]
    if isinstance(value, Verdict):
        comment = f' comment "{value.comment}"' if value.comment else ""
        return f"{text}{comment} : {value.verdict}"
    if value:
        return f"{text} : {unpack(value[:-4])} . {int.from_bytes(value[-4:-2], 'big')}"
    return text


def _client(entry: Found) -> str:
    """`10.244.1.9 . 10.96.0.1 . tcp . 80 timeout 1h expires 59m58s : 10.244.2.1 . 8080`."""
    key, colon, endpoint = _element(entry.key, entry.value).partition(" : ")
    if entry.timeout_ms:
        left = duration(entry.expiration_ms // 1000) or "0s"
        key += f" timeout {duration(entry.timeout_ms // 1000)} expires {left}"
    return key + colon + endpoint


def _chain(family: Family, chain: Chain) -> ListedChain:
    hook = ""
    if chain.base:
        at = _HOOKS.get(chain.base.hook, str(chain.base.hook))
        policy = "accept" if chain.base.policy == x.NF_ACCEPT else "drop"
        place = f"{at} priority {chain.base.priority}"
        hook = f"type {chain.base.type} hook {place}; policy {policy};"
    return ListedChain(chain.name, hook, tuple(rule_text(family, rule) for rule in chain.rules))


def text(listed: Iterable[ListedTable]) -> Iterator[str]:
    """The lines of a listing, in the form of `nft list ruleset`."""
    for table in listed:
        yield f"table {table.family} {table.name} {{"
        for item in table.sets:
            yield f"\t{'map' if ' : ' in item.type else 'set'} {item.name} {{"
            yield f"\t\ttype {item.type}"
            yield from (f"\t\t{option}" for option in item.options)
            if item.elements:
                lines = ",\n\t\t\t     ".join(item.elements)
                yield from f"\t\telements = {{ {lines} }}".split("\n")
            yield from ("\t}", "")
        for chain in table.chains:
            yield f"\tchain {chain.name} {{"
            yield from (f"\t\t{line}" for line in (chain.hook, *chain.rules) if line)
            yield from ("\t}", "")
        yield "}"
