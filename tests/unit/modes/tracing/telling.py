"""How does a kernel tell of a packet? As messages, and as the values that are read from them."""

from __future__ import annotations

import socket
import struct

from modes import wire
from modes.tracing.events import MESSAGE, Ends, Event, Header, Kind
from modes.tracing.following import Following
from modes.tracing.program import PLACES, Aim

TABLE = "headgate-trace-7"
TCP, UDP, ICMP = 6, 17, 1
SYN, SYN_ACK, RESET = 0x02, 0x12, 0x14
CNI, ETH, LO = 3, 2, 1

CLIENT, VIP, POD, NODE = "10.244.1.9", "10.96.7.7", "10.244.2.9", "192.168.0.11"
ASKED = Ends(TCP, CLIENT, 4242, VIP, 80)
CHOSEN = Ends(TCP, CLIENT, 4242, POD, 8080)
MASQUERADED = Ends(TCP, NODE, 999, POD, 8080)


def header(ends: Ends, flags: int = SYN, icmp: tuple[int, int] | None = None) -> Header:
    """Of a packet."""
    return Header(ends, flags if ends.protocol == TCP else 0, icmp)


def seen(
    chain: str,
    ends: Ends,
    packet: int = 1,
    *,
    flags: int = SYN,
    by: int = CNI,
    icmp: tuple[int, int] | None = None,
) -> Event:
    """A packet in one of our chains."""
    assert chain in PLACES
    said = header(ends, flags, icmp)
    return Event(packet, Kind.POLICY, "ip", TABLE, chain, 0, "accept", said, by, ETH)


def matched(chain: str, verdict: str, packet: int = 1, handle: int = 5) -> Event:
    """A rule of ours."""
    return Event(packet, Kind.RULE, "ip", "headgate", chain, handle, verdict)


def followed(aim: Aim, events: list[Event], count: int = 1) -> Following:
    """What is known after these, a millisecond each."""
    following = Following(aim, count, TABLE)
    for number, event in enumerate(events):
        following.take(event, number / 1000)
    return following


def message(
    *,
    packet: int = 7,
    kind: int = 3,
    family: int = 2,
    chain: str = "prerouting-early",
    network: bytes = b"",
    transport: bytes = b"",
    verdict: int = -1,
) -> bytes:
    """NFT_MSG_TRACE."""
    code = wire.nested(5, wire.attr(1, verdict.to_bytes(4, "big", signed=True)))
    body = bytes((family, 0, 0, 0)) + wire.be32(6, packet) + wire.be32(4, kind)
    body += wire.text(2, chain) + wire.text(1, TABLE) + wire.be64(3, 12)
    body += code if kind != Kind.POLICY else wire.be32(16, verdict)
    body += wire.be32(10, CNI)
    body += wire.attr(8, network) if network else b""
    body += wire.attr(9, transport) if transport else b""
    return wire.HEADER.pack(wire.HEADER_SIZE + len(body), MESSAGE, 0, 0, 0) + body


def ipv4(source: str, destination: str, protocol: int = TCP) -> bytes:
    """A header."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    return bytes((0x45, 0, 0, 60, 0, 0, 0, 0, 64, protocol, 0, 0)) + ends


def ipv6(source: str, destination: str, protocol: int = TCP) -> bytes:
    """A header."""
    ends = b"".join(socket.inet_pton(socket.AF_INET6, one) for one in (source, destination))
    return bytes((0x60, 0, 0, 0, 0, 40, protocol, 64)) + ends


def segment(source: int, destination: int, flags: int = SYN) -> bytes:
    """The beginning of a TCP segment."""
    return struct.pack("!HHIIBBHHH", source, destination, 1, 0, 5 << 4, flags, 1024, 0, 0)
