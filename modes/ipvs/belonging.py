"""Whose is what the sets hold? Pure.

Some elements carry the name of their Service port. Of others it is known by the place that they are
about: an address with protocol and port, a port of the node, or just an address.
"""

from __future__ import annotations

from collections.abc import Mapping

from endpoints.names import Family, Protocol
from modes.ipvs.ipsets import (
    FOREIGN,
    NODE_PORTS,
    Element,
    Entry,
    Extra,
    FoundSet,
    SetName,
)
from modes.ipvs.servers import ServerKey

_PROTOCOL_OF = {kind: protocol for protocol, kinds in NODE_PORTS.items() for kind in kinds}
_Place = tuple[Family, Protocol, str, int]


class Belonging:
    """The names of Service ports, `namespace/name:port`, by what is theirs."""

    def __init__(self) -> None:
        """Nothing is anybody's."""
        self._places: dict[_Place, str] = {}
        self._ports: dict[tuple[Family, Protocol, int], str] = {}
        self._addresses: dict[str, str] = {}
        self._marks: dict[tuple[Family, int], str] = {}

    def learn(self, sets: Mapping[SetName, FoundSet]) -> None:
        """What elements say of themselves."""
        for name, of in sets.items():
            for element, extra in of.elements.items():
                if extra.comment and extra != FOREIGN and element.protocol:
                    self.say(name.family, element, extra)

    def say(self, family: Family, element: Element, extra: Extra) -> None:
        """An element says it; who has said it first of a place is right."""
        assert element.protocol is not None  # noqa: S101 (a place has one)
        place = family, element.protocol, element.address, element.port
        name = self._places.setdefault(place, extra.comment)
        self._ports.setdefault((family, element.protocol, element.port), name)
        self._addresses.setdefault(element.address, name)
        if extra.mark:
            self._marks.setdefault((family, extra.mark), name)

    def of_server(self, key: ServerKey) -> str:
        """Whose a virtual server is; empty: nobody knows."""
        if key.mark:
            return self._marks.get((key.family, key.mark), "")
        return self._places.get((key.family, key.protocol, key.address, key.port), "")

    def of_entry(self, entry: Entry, extra: Extra) -> str:
        """Whose an element is; empty: nobody knows."""
        (kind, family), element = entry
        if extra.comment and extra != FOREIGN:
            return extra.comment
        if kind in _PROTOCOL_OF and not element.address:
            return self._ports.get((family, _PROTOCOL_OF[kind], element.port), "")
        if element.protocol is not None:
            place = family, element.protocol, element.address, element.port
            return self._places.get(place, "")
        return self.of_address(element.address)

    def of_address(self, address: str) -> str:
        """Of whom an address is, or of one of them; empty: nobody knows."""
        return self._addresses.get(address, "")
