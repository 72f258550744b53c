"""What does this machine's kernel hold of nftables mode? It is read, and nothing is changed.

Who asks for one Service does not wait for the endpoints of all others: these are in the largest
maps, which are asked for single elements then.
"""

from __future__ import annotations

from endpoints.names import Family
from modes.held import EVERYTHING, Only
from modes.nftables.adopt import TableFound, fitting_sets
from modes.nftables.codec import Found
from modes.nftables.differences import Seen
from modes.nftables.elements import Elements
from modes.nftables.frontends import SLOTTED, asked, following, frontend_of, windows
from modes.nftables.held import HeldTables, recalled
from modes.nftables.kernel import Kernel, lookups_can_miss
from modes.nftables.sets import set_specs

__all__ = ["look", "recalled"]

_ATTEMPTS = 5
"""Looks at a ruleset that changes meanwhile; the last one counts, whatever it saw."""


def look(only: Only = EVERYTHING) -> HeldTables:
    """Read our tables in the network namespace of the calling thread.

    Works without a daemon, and beside one. Raises EnvironmentFault (Missing if there is no
    nf_tables) and KernelFault.
    """
    kernel = Kernel()
    try:
        return HeldTables(_steady(kernel, only), only)
    finally:
        kernel.close()


def _steady(kernel: Kernel, only: Only) -> Seen:
    """What one generation of the ruleset holds, if it lasts long enough to be read."""
    generation = kernel.generation()
    for _ in range(_ATTEMPTS - 1):
        seen = _seen(kernel, only)
        now = kernel.generation()
        if now == generation:
            return seen
        generation = now
    return _seen(kernel, only)


def _seen(kernel: Kernel, only: Only) -> Seen:
    tables: dict[Family, TableFound] = {}
    elements: Elements = {}
    clients: list[Found] = []
    for family in Family:
        table = kernel.table(family)
        if table is None:
            continue
        tables[family] = table
        for spec in set_specs(family):
            if spec.id not in fitting_sets(table, family) or (spec.id in SLOTTED and not only.all):
                continue
            found = kernel.elements(family, spec.id)
            if spec.dynamic_size:
                clients.extend(found)
            else:
                elements.update((element.key, element.value) for element in found)
    if only.all:
        return Seen(tables, elements, tuple(clients), None, lookups_can_miss())
    frontends = asked(elements, only)
    elements.update(_slots(kernel, elements, frontends))
    kept = tuple(entry for entry in clients if frontend_of(entry.key) in frontends)
    return Seen(tables, elements, kept, frontends, lookups_can_miss())


def _slots(kernel: Kernel, elements: Elements, frontends: frozenset[bytes]) -> Elements:
    """The endpoints of these frontends."""
    found: Elements = {}
    rest = windows(elements, frontends)
    while rest:
        found.update(kernel.these(key for window in rest for key in window.keys))
        rest = following(rest, found)
    return found
