"""What would iptables-save print for rules that nobody has written yet? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from endpoints.names import Family
from modes.xtables.delta import Program
from modes.xtables.names import Table
from modes.xtables.rules import ChainName

_BUILT_IN = {
    Table.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    Table.MANGLE: ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
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


def listed(program: Program) -> Iterator[ListedTable]:
    """The tables that hold rules of a program; its Services are committed."""
    rules = {whole.chain: whole.specs for whole in program.whole(program.frames)}
    for fragment in program.fragments.values():
        rules.update(fragment.chains)
    for chain, spec in program.guests:
        rules[chain] = (*rules.get(chain, ()), spec)
    for table in Table:
        if any(chain.table is table for chain in rules):
            yield _table(program.family, table, rules)


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
