"""What would iptables-save print for the rules that a node gets? Pure: no kernel is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import ModeSettings, Plans
from modes.iptables.fragment import count_endpoints, render
from modes.iptables.program import ServiceProgram, written
from modes.iptables.rendering import LARGE_CLUSTER, Rendering
from modes.iptables.skeleton import skeleton
from modes.xtables.names import Table
from modes.xtables.rules import ChainName

_BUILT_IN = {
    Table.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    Table.NAT: ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}


class ListedChain(msgspec.Struct, frozen=True):
    """A chain with the specs of its rules."""

    name: str
    policy: str
    """`ACCEPT` for a chain of the kernel's own, `-` for one of ours."""
    rules: tuple[str, ...]


class ListedTable(msgspec.Struct, frozen=True):
    """A table as the kernel would hold it, if nobody else wrote into it."""

    family: Family
    name: Table
    chains: tuple[ListedChain, ...]


def tables(
    services: Mapping[ObjectName, Plans], node: NodeView, settings: ModeSettings
) -> tuple[ListedTable, ...]:
    """The tables of both families that hold these Services on this node.

    For hosts whose iptables has all that we use but the counters of nfacct, and on which conntrack
    is strict (net.netfilter.nf_conntrack_tcp_be_liberal is 0).
    """
    held = {family: _rules(family, services, node, settings) for family in Family}
    return tuple(_table(family, table, held[family]) for family in Family for table in _BUILT_IN)


def _rules(
    family: Family,
    services: Mapping[ObjectName, Plans],
    node: NodeView,
    settings: ModeSettings,
) -> dict[ChainName, tuple[str, ...]]:
    """All chains with rules of ours."""
    own = {name: [p for p in plans if p.family is family] for name, plans in services.items()}
    endpoints = sum(count_endpoints(plans, family) for plans in own.values())
    style = Rendering(
        masquerade_bit=settings.masquerade_bit,
        large=endpoints > LARGE_CLUSTER,
    )
    program = ServiceProgram(family, skeleton(node, family, style, drops_invalid=True))
    styles = {family: style}
    program.commit(
        {name: written(family, render(of, node, styles).get(family)) for name, of in own.items()}
    )
    found = {whole.chain: whole.specs for whole in program.whole(program.frames)}
    for fragment in program.fragments.values():
        found.update(fragment.chains)
    for chain, spec in program.guests:
        found[chain] = (*found.get(chain, ()), spec)
    return found


def _table(family: Family, table: Table, rules: Mapping[ChainName, tuple[str, ...]]) -> ListedTable:
    """The kernel's own chains first, then ours by name: iptables-save sorts them so."""
    built_in = _BUILT_IN[table]
    ours = sorted(c.name for c in rules if c.table is table and c.name not in built_in)
    return ListedTable(
        family,
        table,
        tuple(
            ListedChain(name, policy, rules.get(ChainName(table, name), ()))
            for policy, names in (("ACCEPT", built_in), ("-", ours))
            for name in names
        ),
    )


def text(listed: Iterable[ListedTable]) -> Iterator[str]:
    """The lines of a listing, in the form of `iptables-save`; a comment names the family."""
    for table in listed:
        yield f"# {table.family}"
        yield f"*{table.name}"
        yield from (f":{chain.name} {chain.policy} [0:0]" for chain in table.chains)
        for chain in table.chains:
            yield from (f"-A {chain.name} {rule}".rstrip() for rule in chain.rules)
        yield "COMMIT"
