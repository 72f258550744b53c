"""What does this machine's kernel hold of nftables mode? It is read, and nothing is changed.

Who asks for one Service does not wait for the endpoints of all others: these are in the largest
maps, which are asked for single elements then. Nor does he wait for clients that affinity keeps, if
no packet to his Service is remembered.
"""

from __future__ import annotations

from functools import partial

from endpoints.names import Family
from modes.held import EVERYTHING, Only
from modes.nftables.adopt import fitting_sets
from modes.nftables.codec import Found
from modes.nftables.differences import Seen
from modes.nftables.elements import Elements
from modes.nftables.frontends import SLOTTED, asked, following, frontend_of, learns, windows
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
    tables = {family: kernel.table(family) for family in Family}
    found = {family: table for family, table in tables.items() if table is not None}
    sets = [
        (family, spec)
        for family, table in found.items()
        for spec in set_specs(family)
        if spec.id in fitting_sets(table, family)
    ]
    elements: Elements = {}
    for family, spec in sets:
        if not spec.dynamic_size and (only.all or spec.id not in SLOTTED):
            listed = kernel.elements(family, spec.id)
            elements.update((element.key, element.value) for element in listed)
    frontends = None if only.all else asked(elements, only)
    if frontends is not None:
        elements.update(_slots(kernel, elements, frontends))
    clients: list[Found] = []
    if frontends is None or any(map(partial(learns, elements), frontends)):
        for family, spec in sets:
            clients.extend(kernel.elements(family, spec.id) if spec.dynamic_size else ())
    if frontends is not None:
        clients = [entry for entry in clients if frontend_of(entry.key) in frontends]
    return Seen(found, elements, tuple(clients), frontends, lookups_can_miss())


def _slots(kernel: Kernel, elements: Elements, frontends: frozenset[bytes]) -> Elements:
    """The endpoints of these frontends."""
    found: Elements = {}
    rest = windows(elements, frontends)
    while rest:
        found.update(kernel.these(key for window in rest for key in window.keys))
        rest = following(rest, found)
    return found
