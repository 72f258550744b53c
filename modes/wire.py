"""How is anything said over netlink, whichever part of the kernel is meant? Pure.

Headers and attributes (linux/netlink.h). Headers are in host order; integers of attributes are in
network order in netfilter, and in host order in routing and generic netlink. Attributes are padded
to four bytes. Of both nfnetlink and generic netlink four bytes of a header of their own precede the
attributes: `opening`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from endpoints.names import Family

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_CREATE, NLM_F_EXCL, NLM_F_APPEND = 0x400, 0x200, 0x800
NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x10, 0x100, 0x200
NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS = 1, 2
NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLA_TYPE_MASK = 0x8000, 0x4000, 0x3FFF

ADDRESS_FAMILY = {Family.IPV4: 2, Family.IPV6: 10}
FAMILY_OF = {number: family for family, number in ADDRESS_FAMILY.items()}

OPENING_SIZE = 4
HEADER = struct.Struct("=IHHII")
"""Size, kind, flags, sequence number, port."""
_ATTRIBUTE = struct.Struct("=HH")
HEADER_SIZE = HEADER.size


def pad(payload: bytes) -> bytes:
    """The payload, filled with zeros up to a multiple of four bytes."""
    return payload + bytes(-len(payload) % 4)


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute. Raises struct.error if the payload exceeds 65,531 bytes."""
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + pad(payload)


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(children))


def text(kind: int, value: str) -> bytes:
    """A string attribute with its terminating zero."""
    return attr(kind, value.encode() + b"\0")


def be32(kind: int, value: int) -> bytes:
    """A 32-bit integer in network order."""
    return attr(kind, value.to_bytes(4, "big"))


def be64(kind: int, value: int) -> bytes:
    """A 64-bit integer in network order."""
    return attr(kind, value.to_bytes(8, "big"))


def u16(kind: int, value: int) -> bytes:
    """A 16-bit integer in host order."""
    return attr(kind, value.to_bytes(2, sys.byteorder))


def u32(kind: int, value: int) -> bytes:
    """A 32-bit integer in host order."""
    return attr(kind, value.to_bytes(4, sys.byteorder))


def host_order(payload: bytes) -> int:
    """The unsigned integer that a payload of any size is in host order."""
    return int.from_bytes(payload, sys.byteorder)


def words(payload: bytes) -> str:
    """The text of a string attribute, without its terminating zero."""
    return payload.rstrip(b"\0").decode(errors="replace")


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A request; its payload is an opening and attributes."""
    head = HEADER.pack(HEADER_SIZE + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0)
    return head + payload


def attributes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The (kind, payload) pairs of a run of attributes."""
    end = len(data) if end is None else end
    while start + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, start)
        if not 4 <= size <= end - start:  # noqa: PLR2004 (a header): not attributes at all
            return
        yield kind & NLA_TYPE_MASK, data[start + 4 : start + size]
        start += (size + 3) & ~3


class Reply(NamedTuple):
    """One answer: an error (0: acknowledgement) or a datum."""

    sequence: int
    kind: int
    """NLMSG_ERROR, NLMSG_DONE, or the full type of a datum, its subsystem included."""
    error: int
    """A positive errno, 0 for an acknowledgement or a datum."""
    payload: bytes
    """After its opening for a datum; empty for an error."""
    offset: int | None = None
    """Extended acknowledgement: where in the request the kernel found fault."""
    reason: str = ""
    family: Family | None = None
    """Of a datum of nfnetlink, where its opening says one."""
    interrupted: bool = False
    """What is listed changed during this dump: read again."""


def replies(datagram: bytes, opening: int = OPENING_SIZE) -> Iterator[Reply]:
    """The answers in one datagram from the kernel; data have an opening of this size."""
    position = 0
    while position + HEADER_SIZE <= len(datagram):
        size, kind, flags, sequence, _ = HEADER.unpack_from(datagram, position)
        if not HEADER_SIZE <= size <= len(datagram) - position:  # no message, or a part of one
            return
        body = datagram[position + HEADER_SIZE : position + size]
        if kind == NLMSG_ERROR:
            yield _error(sequence, flags, body)
        elif kind == NLMSG_DONE:
            yield Reply(sequence, kind, _errno(body), b"")
        else:
            interrupted = bool(flags & NLM_F_DUMP_INTR)
            family = FAMILY_OF.get(body[0]) if body else None
            yield Reply(sequence, kind, 0, body[opening:], None, "", family, interrupted)
        position += (size + 3) & ~3


def _errno(body: bytes) -> int:
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def _error(sequence: int, flags: int, body: bytes) -> Reply:
    offset, reason = None, ""
    if flags & NLM_F_ACK_TLVS:
        quoted = host_order(body[4:8])
        start = 4 + (HEADER_SIZE if flags & NLM_F_CAPPED else (quoted + 3) & ~3)
        for kind, payload in attributes(body, start):
            if kind == NLMSGERR_ATTR_MSG:
                reason = words(payload)
            elif kind == NLMSGERR_ATTR_OFFS:
                offset = int.from_bytes(payload, "little")
    return Reply(sequence, NLMSG_ERROR, _errno(body), b"", offset, reason)


class Refusal(msgspec.Struct, frozen=True):
    """Why the kernel refused one of several messages."""

    index: int
    """Which of them, counted from 0."""
    errno: int
    reason: str
    """`File exists (EEXIST)`, with the kernel's own words where it has some."""

    def __str__(self) -> str:
        """The reason."""
        return self.reason
