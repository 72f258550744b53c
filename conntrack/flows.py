"""How does conntrack speak of a flow, and how is it asked for some and told to forget one? Pure.

Attributes as in linux/netfilter/nfnetlink_conntrack.h; integers are in network order unless said
otherwise. A filter is applied by the kernel (since Linux 5.8); an older one passes over what it
does not know and lists everything of the family, so whoever reads must look at each flow anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from endpoints.addresses import pack, unpack
from endpoints.names import Family, Protocol
from modes.wire import ADDRESS_FAMILY, attr, attributes, be32, nested, u32

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
GET, DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2

_ORIGINAL, _REPLY, _STATUS = 1, 2, 3
_ID, _ZONE, _FILTER = 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO, _TUPLE_ZONE = 1, 2, 3
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIGINAL = 1
# CTA_FILTER_F_*, in a 32-bit integer in host order; the kernel knows their numbers, its headers
# for programs do not.
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 5
_ADDRESSES = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
"""The kinds of source and destination."""

_PROTOCOL_OF = {protocol.number: protocol for protocol in Protocol}
_WORD = struct.Struct("!H")


class End(NamedTuple):
    """An address and a port."""

    address: str
    port: int


class Way(NamedTuple):
    """The packets of one direction: what netfilter calls a tuple, without the protocol."""

    source: End
    destination: End


class Flow(msgspec.Struct, frozen=True):
    """One entry of the table: packets of `original` are translated so that `reply` answers them."""

    family: Family
    protocol: Protocol
    original: Way
    reply: Way
    zone: int = 0
    """0 unless somebody put it into a zone of theirs, in both directions or in one."""
    id: int = 0
    """The kernel's own, made of the addresses and of where the entry is in memory."""
    status: int = 0
    """IPS_*, linux/netfilter/nf_conntrack_common.h."""


class Filter(msgspec.Struct, frozen=True, order=True):
    """Which flows are asked for, by their original direction; None stands for all."""

    family: Family
    protocol: Protocol | None = None
    """None: every kernel understands this, and an address or a port cannot be asked for."""
    address: str | None = None
    """The destination, IPv4 only: IPv6 addresses the kernel compares the wrong way round."""
    port: int | None = None
    """The destination's. The kernel looks at it for TCP and UDP, not for SCTP."""
    source: str | None = None
    """The source, IPv4 only for the same reason."""


class Destination(NamedTuple):
    """Where a flow was sent to, as it is written in the table: quick to read and to compare."""

    protocol: int
    address: bytes
    port: int


def admits(of: Filter, to: Destination) -> bool:
    """Whether the filter lets a flow through that was sent there, as the kernel applies it.

    Of a filter with a source: whether it lets one through at all.
    """
    if of.protocol is None:
        return True
    is_there = of.address is None or pack(of.address) == to.address
    is_port = of.port is None or of.protocol is Protocol.SCTP or of.port == to.port
    return of.protocol.number == to.protocol and is_there and is_port


def listing(of: Filter) -> bytes:
    """What follows the header of GET, asked as a dump."""
    if of.protocol is None:
        return opening(of.family)
    flags = _BY_PROTOCOL
    protocol = attr(_NUMBER, bytes((of.protocol.number,)))
    parts = []
    addresses = []
    for flag, kind, address in zip(
        (_BY_SOURCE, _BY_DESTINATION), _ADDRESSES[of.family], (of.source, of.address), strict=True
    ):
        if address is not None:
            flags |= flag
            addresses.append(attr(kind, pack(address)))
    if addresses:
        parts.append(nested(_TUPLE_IP, *addresses))
    if of.port is not None:
        flags |= _BY_DESTINATION_PORT
        protocol += attr(_DESTINATION_PORT, _WORD.pack(of.port))
    parts.append(nested(_TUPLE_PROTO, protocol))
    return (
        opening(of.family)
        + nested(_ORIGINAL, *parts)
        + nested(_FILTER, u32(_FILTER_ORIGINAL, flags))
    )


def deletion(flow: Flow) -> bytes:
    """What follows the header of DELETE: this entry, and not another of the same packets.

    A whole direction must be named: the kernel takes a part of it for all that has that part, or
    for a fault. By its id an entry is told from one that took its place. A kernel without zones
    (CONFIG_NF_CONNTRACK_ZONES) refuses to hear of them, even of zone 0.
    """
    return (
        opening(flow.family)
        + nested(_ORIGINAL, *_way(flow, flow.original))
        + (attr(_ZONE, _WORD.pack(flow.zone)) if flow.zone else b"")
        + be32(_ID, flow.id)
    )


def opening(family: Family) -> bytes:
    """The header of nfnetlink: whose flows are meant."""
    return bytes((ADDRESS_FAMILY[family], 0, 0, 0))


def _way(flow: Flow, way: Way) -> tuple[bytes, bytes]:
    source, to = _ADDRESSES[flow.family]
    return (
        nested(
            _TUPLE_IP,
            attr(source, pack(way.source.address)),
            attr(to, pack(way.destination.address)),
        ),
        nested(
            _TUPLE_PROTO,
            attr(_NUMBER, bytes((flow.protocol.number,))),
            attr(_SOURCE_PORT, _WORD.pack(way.source.port)),
            attr(_DESTINATION_PORT, _WORD.pack(way.destination.port)),
        ),
    )


def sent_to(family: Family, payload: bytes) -> Destination | None:
    """Where an entry's packets were sent; None if it does not say so in full."""
    for kind, original in attributes(payload):
        if kind == _ORIGINAL:
            told = dict(attributes(original))
            to = dict(attributes(told.get(_TUPLE_IP, b""))).get(_ADDRESSES[family][1], b"")
            ports = dict(attributes(told.get(_TUPLE_PROTO, b"")))
            number, port = ports.get(_NUMBER, b""), ports.get(_DESTINATION_PORT, b"")
            if len(number) == 1 and len(port) == _WORD.size:
                return Destination(number[0], to, int.from_bytes(port, "big"))
            return None
    return None


def decode(family: Family, payload: bytes) -> Flow | None:
    """The flow that an entry of a dump tells of, without its opening.

    None: one without ports, of a protocol that no Service has, or nothing that conntrack would say.
    """
    told = dict(attributes(payload))
    original = dict(attributes(told.get(_ORIGINAL, b"")))
    reply = dict(attributes(told.get(_REPLY, b"")))
    number = dict(attributes(original.get(_TUPLE_PROTO, b""))).get(_NUMBER, b"")
    protocol = _PROTOCOL_OF.get(int.from_bytes(number, "big"))
    there, back = _decode_way(family, original), _decode_way(family, reply)
    if protocol is None or there is None or back is None:
        return None
    zones = (told.get(_ZONE), original.get(_TUPLE_ZONE), reply.get(_TUPLE_ZONE))
    return Flow(
        family,
        protocol,
        there,
        back,
        zone=max(int.from_bytes(zone or b"", "big") for zone in zones),
        id=int.from_bytes(told.get(_ID, b""), "big"),
        status=int.from_bytes(told.get(_STATUS, b""), "big"),
    )


def _decode_way(family: Family, told: Mapping[int, bytes]) -> Way | None:
    ips = dict(attributes(told.get(_TUPLE_IP, b"")))
    ports = dict(attributes(told.get(_TUPLE_PROTO, b"")))
    source, to = _ADDRESSES[family]
    ends = ((ips.get(source), ports.get(_SOURCE_PORT)), (ips.get(to), ports.get(_DESTINATION_PORT)))
    size = 4 if family is Family.IPV4 else 16
    found = [
        End(unpack(address), int.from_bytes(port, "big"))
        for address, port in ends
        if address and port and len(address) == size and len(port) == _WORD.size
    ]
    return Way(*found) if len(found) == len(ends) else None
