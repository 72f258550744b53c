"""In which order do changes become lines for `iptables-restore`? Pure.

A block from `*table` to `COMMIT` is atomic; a packet may pass between two. What refuses comes into
the filter and mangle tables before the nat table stops to translate, and goes after it has begun
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from modes.xtables.delta import Changes, Gone, Program, Whole
from modes.xtables.names import Table
from modes.xtables.script import Script

CHAINS_IN_A_BLOCK = 250
"""iptables-nft keeps the names of all chains of a block in a sorted list and walks it for each
line (1.8.9): time grows with the square of the block (decision 0009)."""

_AROUND_NAT = (Table.FILTER, Table.MANGLE)


class Order(Enum):
    """When filter and mangle are written.

    The filter of the iptables mode refuses what goes to a cluster IP and is not translated. To IPVS
    all packets are like that: those rules must not be there while IPVS serves.
    """

    AROUND = "what comes before nat, what goes after it"
    BEFORE = "all before nat stops to translate, for IPVS takes over"
    AFTER = "all after nat has begun to translate, for IPVS may serve until then"


def script(
    program: Program, changes: Changes, *, in_blocks: bool, order: Order = Order.AROUND
) -> Script:
    """The text of one sync.

    `in_blocks`: new chains that nothing refers to yet are made in blocks of their own, before the
    one that links them; of each Service, those that are jumped to come first. Those that nothing
    refers to any more go the same way, after it.
    """
    out = Script()
    late = Changes(deleted=changes.deleted, gone=changes.gone)
    early = Changes(
        new=changes.new,
        rewritten=changes.rewritten,
        added=changes.added,
        guests=changes.guests,
    )
    if order is Order.BEFORE:
        early, late = changes, Changes()
    elif order is Order.AFTER:
        early, late = Changes(), changes
    for table in _AROUND_NAT:
        _section(out, program, table, early)
    new = [item for item in changes.new if item.chain.table is Table.NAT and not item.owners]
    loose = sorted(new, key=lambda item: item.owner is not None)  # KUBE-MARK-MASQ before the rest
    if in_blocks and len(loose) > CHAINS_IN_A_BLOCK:
        _loose_chains(out, loose)
        made = {item.chain for item in loose}
        rest = [item for item in changes.new if item.chain not in made]
        changes = msgspec.structs.replace(changes, new=rest)
    unlinked = [item for item in changes.gone if item.chain.table is Table.NAT]
    if in_blocks and len(unlinked) > CHAINS_IN_A_BLOCK:
        changes = msgspec.structs.replace(changes, gone=[])
    else:
        unlinked = []
    _section(out, program, Table.NAT, changes)
    _unlinked_chains(out, unlinked)
    for table in _AROUND_NAT:
        _section(out, program, table, late)
    return out


def _section(out: Script, program: Program, table: Table, everything: Changes) -> None:
    changes = everything.of(table)
    out.section(table)
    _write(out, (*changes.new, *changes.rewritten))
    for placed in changes.deleted:
        out.delete(placed.chain.name, placed.spec, placed.owner)
    for placed in changes.added:
        position = len(program.frames[placed.chain].head) + 1
        out.insert(placed.chain.name, position, placed.spec, placed.owner)
    for placed in reversed(changes.guests):
        out.insert(placed.chain.name, 1, placed.spec, placed.owner)
    _empty(out, changes.gone)
    _remove(out, changes.gone)
    out.commit()


def _write(out: Script, whole: Sequence[Whole]) -> None:
    """Chains first, then their rules: a rule may jump to any of them."""
    for of in whole:
        out.chain(of.chain.name, of.owner)
    for of in whole:
        for number, spec in enumerate(of.specs):
            out.append(of.chain.name, spec, of.owners[number] if of.owners else of.owner)


def _empty(out: Script, gone: Sequence[Gone]) -> None:
    for item in gone:
        out.chain(item.chain.name, item.owner)


def _remove(out: Script, gone: Sequence[Gone]) -> None:
    for item in gone:
        if not item.is_referred_to:
            out.remove_chain(item.chain.name, item.owner)


def _loose_chains(out: Script, loose: list[Whole]) -> None:
    """Blocks of chains that jump to none but their own and earlier ones."""
    for start in range(0, len(loose), CHAINS_IN_A_BLOCK):
        out.section(Table.NAT)
        _write(out, loose[start : start + CHAINS_IN_A_BLOCK])
        out.commit()


def _unlinked_chains(out: Script, gone: list[Gone]) -> None:
    """They jump to each other: all are empty before the first is removed."""
    for step in (_empty, _remove):
        for start in range(0, len(gone), CHAINS_IN_A_BLOCK):
            out.section(Table.NAT)
            step(out, gone[start : start + CHAINS_IN_A_BLOCK])
            out.commit()
