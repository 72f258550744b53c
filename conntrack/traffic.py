"""How much went through the flows to some places? Pure.

Every flow of a machine is looked at, again and again, so an entry is read as it lies there: it
begins with its two directions, whose attributes the kernel writes in one order and size, but for
flows in a zone of somebody's. These are not looked at: in a zone the same packets are tracked once
more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from endpoints.addresses import pack
from endpoints.names import Family, Protocol
from modes.wire import ADDRESS_FAMILY, NLA_F_NESTED, NLA_TYPE_MASK, attr

_T = TypeVar("_T")

NEW_GROUP, DESTROY_GROUP = 1, 3
"""NFNLGRP_CONNTRACK_*: who is in them hears of flows that begin, and of flows that end."""
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_HAS_ENDED: dict[int, bool] = {_SUBSYSTEM: False, _SUBSYSTEM | 2: True}
"""By the kind of a message: one that is there, which an event and a dump tell of alike, or gone."""

_HEADER = struct.Struct("=IH10xB3x")
"""Size and kind of a message, and the family in its opening."""
_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_SIZE = _ATTRIBUTE.size
_TUPLE_PROTO, _NUMBER, _DESTINATION_PORT = 2, 1, 3
_ID, _ZONE = 12, 18
_COUNTERS_ORIGINAL, _COUNTERS_REPLY = 9, 10
_ID_SIZE, _COUNTER_SIZE = 4, 8
_UNTOLD = (None, None)


class _Order(NamedTuple):
    """Where things lie in an entry of a family, in bytes."""

    destination: slice
    """Its attribute, and then the protocol's."""
    port: slice
    """Of the destination."""
    way: int
    """How long a direction is; the second follows the first."""
    kind: int
    """Of the attribute with the destination's address."""


_IPV4 = _Order(slice(16, 36), slice(44, 52), 52, 2)
_IPV6 = _Order(slice(28, 60), slice(68, 76), 76, 4)
_ORDERS = {Family.IPV4: _IPV4, Family.IPV6: _IPV6}
_ORDER_OF = {ADDRESS_FAMILY[family]: order for family, order in _ORDERS.items()}


class Sighting(NamedTuple):
    """A flow, as it was when the kernel told of it."""

    flow: bytes
    """Its name: no two that are there at the same time have the same."""
    has_ended: bool
    bytes_in: int | None
    """From the client, with the headers of IP; None: not told. The kernel counts the bytes of flows
    that begin while nf_conntrack_acct is 1, and does not tell them when a flow begins."""
    bytes_out: int | None
    """To the client, likewise."""


def place(family: Family, address: str, port: int, protocol: Protocol) -> bytes:
    """What the entries of all flows that are sent there have in common."""
    number = attr(_NUMBER, bytes((protocol.number,)))
    to_port = attr(_DESTINATION_PORT, port.to_bytes(2, "big"))
    size = _ATTRIBUTE_SIZE + len(number) + 2 * len(to_port)
    return (
        attr(_ORDERS[family].kind, pack(address))
        + _ATTRIBUTE.pack(size, _TUPLE_PROTO | NLA_F_NESTED)
        + number
        + to_port
    )


class Reader(Generic[_T]):
    """Reads what the kernel tells of flows to some places; remembers how entries are built."""

    def __init__(self, places: Mapping[bytes, _T]) -> None:
        """`places`: what each of them means to who asks."""
        self.places = places
        self._builds: dict[int, _Build] = {}
        """By the length of an entry: of few lengths are all entries of a machine."""

    def sightings(self, datagram: bytes) -> Iterator[tuple[_T, Sighting]]:
        """The flows to these places that a datagram of a dump or of an event tells of."""
        start, opened, places = 0, _HEADER.size, self.places
        while start + opened <= len(datagram):
            size, kind, family = _HEADER.unpack_from(datagram, start)
            if size < opened:
                return
            order, has_ended = _ORDER_OF.get(family), _HAS_ENDED.get(kind)
            if order is not None and has_ended is not None:
                entry = datagram[start + opened : start + size]
                whose = places.get(entry[order.destination] + entry[order.port])
                if whose is not None and (build := self._build_of(entry, order.way)):
                    there, back = build.counters.unpack_from(entry) if build.counters else _UNTOLD
                    name = entry[: order.way] + entry[build.id]
                    yield whose, Sighting(name, has_ended, there, back)
            start += (size + 3) & ~3

    def _build_of(self, entry: bytes, way: int) -> _Build | None:
        build = self._builds.get(len(entry))
        if build is None or build.heads.unpack_from(entry) != build.found:
            build = _built(entry, way)
            if build is not None:
                self._builds[len(entry)] = build
        return build


class _Build(NamedTuple):
    """Where the attributes of an entry are, which is the same in all entries with these heads."""

    heads: struct.Struct
    """Picks the head of each attribute."""
    found: tuple[int, ...]
    """What it picked."""
    id: slice
    counters: struct.Struct | None
    """Picks the bytes of both directions."""


def _built(entry: bytes, way: int) -> _Build | None:
    """How an entry is built; None: it is in a zone, or nothing that conntrack would say."""
    heads, position = "=", 0
    ends: dict[int, int] = {}
    while position + _ATTRIBUTE_SIZE <= len(entry):
        size, kind = _ATTRIBUTE.unpack_from(entry, position)
        kind &= NLA_TYPE_MASK
        ends[kind] = end = position + size
        if size < _ATTRIBUTE_SIZE or end > len(entry) or (position < 2 * way and size != way):
            return None
        heads += f"I{min((size + 3) & ~3, len(entry) - position) - _ATTRIBUTE_SIZE}x"
        position += (size + 3) & ~3
    if _ZONE in ends or _ID not in ends:
        return None
    picking = struct.Struct(heads)
    number = slice(ends[_ID] - _ID_SIZE, ends[_ID])
    counters = _counters(ends.get(_COUNTERS_ORIGINAL, 0), ends.get(_COUNTERS_REPLY, 0))
    return _Build(picking, picking.unpack_from(entry), number, counters)


def _counters(there: int, back: int) -> struct.Struct | None:
    """Bytes are the last eight of a direction's counters; the original direction comes first."""
    gap = back - there - _COUNTER_SIZE
    return struct.Struct(f"!{there - _COUNTER_SIZE}xQ{gap}xQ") if there and gap >= 0 else None
