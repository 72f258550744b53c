"""How are rules that differ made right without touching the elements beside them? Pure."""

from __future__ import annotations

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.adopt import Mend, TableFound, chain_fits, sets_fit
from modes.nftables.sets import set_specs
from modes.nftables.skeleton import TABLE, Layout
from modes.nftables.strangers import removal


def mend(table: TableFound | None, layout: Layout) -> Mend | None:
    """How a table becomes what this program would write, or None if its sets or hooks differ.

    Rules of one chain go and come in one commit; the kernel chooses between old and new ones when
    a packet enters a hook.
    """
    if table is None or table.flags or not sets_fit(table, layout):
        return None
    family = layout.family
    constant = {chain.name: chain for chain in layout.base_chains()}
    emptied: list[nl.Message] = []
    made: list[nl.Message] = []
    ruled: list[nl.Message] = []
    foreign: set[str] = set()
    for name in [*constant, *(table.chains.keys() - constant.keys())]:
        wanted, have = constant.get(name) or layout.numbered_chain(name), table.chains.get(name)
        if wanted and have and wanted.base != have.base:
            return None
        if wanted and have and chain_fits(wanted, have):
            continue
        if have:
            emptied.append(_delete(nl.DELRULE, family, nl.NFTA_RULE_CHAIN, name))
        if wanted:
            made.extend([] if have else [ruleset.new_chain(family, wanted)])
            ruled.extend(ruleset.new_rules(family, wanted))
        else:
            foreign.add(name)
    # Elements of sets may hold chains and objects.
    known = {spec.id.set_name for spec in set_specs(family)}
    after = [
        _delete(nl.DELSET, family, nl.NFTA_SET_NAME, name)
        for name in sorted(table.sets.keys() - known)
    ]
    after += [_delete(nl.DELCHAIN, family, nl.NFTA_CHAIN_NAME, name) for name in sorted(foreign)]
    after += [removal(family, stranger) for stranger in table.strangers]
    return Mend([*emptied, *made, *ruled], after, frozenset(foreign))


def _delete(kind: int, family: Family, attribute: int, name: str) -> nl.Message:
    """Delete a chain, a set, or all rules of a chain; the table is named alike in all of them."""
    body = nl.text(nl.NFTA_TABLE_NAME, TABLE) + nl.text(attribute, name)
    return nl.Message(kind, 0, family, body)
