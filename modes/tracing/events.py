"""What does the kernel tell of a packet that it traces? Pure.

NFT_MSG_TRACE, since Linux 4.6. Each rule that matched is told, and the end of each base chain; the
first of these in a base chain comes with the packet's headers, as the packet came into the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from endpoints.addresses import unpack
from modes.nftables.codec import decode_verdict
from modes.wire import OPENING_SIZE, attributes, replies, words

GROUP = 9
"""NFNLGRP_NFTRACE"""
MESSAGE = 10 << 8 | 17
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE"""

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IIF, _OIF, _MARK, _POLICY = 8, 9, 10, 12, 14, 16
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_ICMP, _TCP, _ICMPV6 = 1, 6, 58
_WITH_PORTS = (_TCP, 17, 132)
_POLICIES = {0: "drop", 1: "accept"}
_IPV4_SIZE, _IPV6_SIZE = 20, 40
_CONTINUE = "-1"


class Kind(IntEnum):
    """What happened to the packet."""

    POLICY = 1
    """A base chain ended."""
    RETURN = 2
    RULE = 3


class Ends(NamedTuple):
    """Whose packet it is."""

    protocol: int
    """IANA's number; of ICMP there are no ports: 0."""
    source: str
    source_port: int
    destination: str
    destination_port: int

    @property
    def reversed(self) -> Ends:
        """Those of the answer."""
        return Ends(
            self.protocol,
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
        )


class Header(NamedTuple):
    """What a packet said of itself."""

    ends: Ends
    tcp_flags: int = 0
    icmp: tuple[int, int] | None = None
    """Type and code."""


class Event(NamedTuple):
    """One thing that happened to one packet."""

    packet: int
    """The kernel's number of it, which another packet of the same flow may have later."""
    kind: Kind
    family: str
    """Of the table, in nft's word."""
    table: str
    chain: str
    handle: int
    """Of the rule; 0 where none decided."""
    verdict: str
    """`accept`, `drop`, `jump CHAIN`, `goto CHAIN`, `return`, `continue`."""
    header: Header | None = None
    arrived_by: int = 0
    """Index of the interface; 0: none, or not known here."""
    leaves_by: int = 0
    mark: int = 0


def decode(datagram: bytes) -> Iterator[Event]:
    """The events in one datagram from the kernel."""
    for answer in replies(datagram, 0):
        if answer.kind == MESSAGE:
            found = _event(answer.payload)
            if found is not None:
                yield found


def _event(payload: bytes) -> Event | None:
    told = dict(attributes(payload, OPENING_SIZE))
    kind = _number(told.get(_TYPE))
    if kind not in set(Kind) or not payload:
        return None
    is_policy = kind == Kind.POLICY
    verdict = _POLICIES.get(_number(told.get(_POLICY)), "drop") if is_policy else _verdict(told)
    return Event(
        packet=_number(told.get(_ID)),
        kind=Kind(kind),
        family=_FAMILIES.get(payload[0], ""),
        table=words(told.get(_TABLE, b"")),
        chain=words(told.get(_CHAIN, b"")),
        handle=_number(told.get(_HANDLE)),
        verdict=verdict,
        header=_header(told.get(_NETWORK, b""), told.get(_TRANSPORT, b"")),
        arrived_by=_number(told.get(_IIF)),
        leaves_by=_number(told.get(_OIF)),
        mark=_number(told.get(_MARK)),
    )


def _verdict(told: dict[int, bytes]) -> str:
    text = decode_verdict(told.get(_VERDICT, b"")).verdict
    return "continue" if text == _CONTINUE else text


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _header(network: bytes, transport: bytes) -> Header | None:
    """None where the beginning of a packet is not there: it is told once in a chain."""
    version = network[0] >> 4 if network else 0
    if version == 4 and len(network) >= _IPV4_SIZE:  # noqa: PLR2004 (the version)
        protocol, source, destination = network[9], network[12:16], network[16:20]
    elif version == 6 and len(network) >= _IPV6_SIZE:  # noqa: PLR2004 (the version)
        protocol, source, destination = network[6], network[8:24], network[24:40]
    else:
        return None
    ports = (0, 0)
    if protocol in _WITH_PORTS and len(transport) >= 4:  # noqa: PLR2004 (two ports)
        ports = int.from_bytes(transport[:2], "big"), int.from_bytes(transport[2:4], "big")
    ends = Ends(protocol, unpack(source), ports[0], unpack(destination), ports[1])
    flags = transport[13] if protocol == _TCP and len(transport) > 13 else 0  # noqa: PLR2004
    is_icmp = protocol in (_ICMP, _ICMPV6) and len(transport) >= 2  # noqa: PLR2004 (type, code)
    return Header(ends, flags, (transport[0], transport[1]) if is_icmp else None)
