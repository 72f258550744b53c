"""What was held of nftables mode, and what does it mean? Pure: no kernel is asked again."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from endpoints.addresses import pack
from endpoints.names import ObjectName
from endpoints.node import NodeView
from modes.base import Plans
from modes.held import EVERYTHING, Difference, DumpedService, Only
from modes.nftables.differences import Seen, differences
from modes.nftables.dump import services_in
from modes.nftables.elements import Elements, key_prefix, set_of
from modes.nftables.frontends import SLOTTED, address_of, asked, frontend_of, is_node_port
from modes.nftables.listing import held_elements, held_tables, text
from modes.nftables.sets import S

VERSION = 1
"""Of the form of documents."""
_PORT_SIZE = 4


class HeldTables(msgspec.Struct, frozen=True):
    """Our tables of both families, or what was asked for of them; see `modes.held.Held`."""

    seen: Seen
    only: Only = EVERYTHING
    version: int = VERSION

    @property
    def services(self) -> tuple[DumpedService, ...]:
        """The Service ports that are held; the kernel does not count their flows."""
        found = services_in(
            self.seen.elements,
            self.seen.clients,
            self.seen.frontends,
            pick_refuses=not self.seen.lookups_can_miss,
        )
        return tuple(of for of in found if self.only.holds(of))

    def differences(
        self, node: NodeView, services: Mapping[ObjectName, Plans]
    ) -> tuple[Difference, ...]:
        """What should be otherwise: elements by Service; rules and sets belong to none.

        Endpoints may be in any order. If a whole table or set is missing, it is told once, and
        once for each Service that it served.
        """
        plans = (plan for plans in services.values() for plan in plans)
        return differences(self.seen, self.only, node, plans)

    def native(self) -> tuple[str, ...]:
        """What `nft list ruleset` would print of it; of one Service, its elements and chains."""
        seen = self.seen
        if seen.frontends is None:
            return tuple(text(held_tables(seen.tables, seen.elements, seen.clients)))
        elements = dict(sorted(_of(seen.elements, seen.frontends).items()))
        return tuple(text(held_elements(seen.tables, elements, seen.clients)))

    def document(self) -> object:
        """The same as values of JSON, bytes in base64."""
        return msgspec.to_builtins(self, str_keys=True)


def recalled(document: object, only: Only = EVERYTHING) -> HeldTables:
    """What `HeldTables.document` made, or what of it is asked for.

    Raises ValueError if this program cannot read it.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise ValueError(
            f"tables of nftables in form {version}: this program reads form {VERSION} only"
        )
    try:
        held = msgspec.convert(document, HeldTables)
    except msgspec.ValidationError as fault:
        raise ValueError(f"tables of nftables that make no sense: {fault}") from fault
    return held if only.all else HeldTables(_part(held.seen, only), only)


def _part(seen: Seen, only: Only) -> Seen:
    """As if only these had been asked for."""
    frontends = asked(seen.elements, only)
    elements = {
        key: value
        for key, value in seen.elements.items()
        if set_of(key)[1] not in SLOTTED or frontend_of(key) in frontends
    }
    clients = tuple(entry for entry in seen.clients if frontend_of(entry.key) in frontends)
    return msgspec.structs.replace(seen, elements=elements, clients=clients, frontends=frontends)


def _of(elements: Elements, frontends: frozenset[bytes]) -> Elements:
    """The elements of these frontends, their addresses, and the pods that may meet themselves."""
    shared = {
        key_prefix(set_of(frontend)[0], set_id) + pack(address_of(frontend))
        for frontend in frontends
        for set_id in (S.CLUSTER_IPS, S.SPECIAL_IPS)
        if not is_node_port(frontend)
    }
    for key, value in elements.items():
        family, set_id = set_of(key)
        if set_id in SLOTTED and isinstance(value, bytes):
            address = value[:-_PORT_SIZE]
            shared.add(key_prefix(family, S.HAIRPIN) + address + address)
    return {
        key: value
        for key, value in elements.items()
        if key in shared or frontend_of(key) in frontends
    }
