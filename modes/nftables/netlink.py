"""Which bytes say to nfnetlink what we mean, and what do its answers mean? Pure.

The format of nf_tables over netlink (linux/netfilter/nf_tables.h, nfnetlink.h). Integers of
attributes are in network order, headers in host order; attributes are padded to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from endpoints.names import Family

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_CREATE, NLM_F_EXCL, NLM_F_APPEND = 0x400, 0x200, 0x800
NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x10, 0x100, 0x200
NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS = 1, 2

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE = range(9)
NEWSET, GETSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN, GETGEN = range(9, 17)

NFPROTO = {Family.IPV4: 2, Family.IPV6: 10}
FAMILY_OF = {number: family for family, number in NFPROTO.items()}

NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 2
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK = 1, 3, 4
NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE = 5, 7
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_FLAGS, NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN = 1, 2, 3, 4, 5
NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN, NFTA_SET_DESC, NFTA_SET_ID = 6, 7, 9, 10
NFTA_ELEM_LIST_TABLE, NFTA_ELEM_LIST_SET, NFTA_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_ELEM_KEY, NFTA_ELEM_DATA, NFTA_ELEM_FLAGS, NFTA_ELEM_TIMEOUT = 1, 2, 3, 4
NFTA_ELEM_EXPIRATION, NFTA_ELEM_USERDATA, NFTA_ELEM_KEY_END = 5, 6, 10
NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN = 1, 2, 1, 2
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 1, 2
NFTA_GEN_ID, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME = 1, 2, 3

NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
HEADER_SIZE = _HEADER.size + _GENERIC.size


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


class Message(NamedTuple):
    """One message of a batch; its sequence number is its place in it."""

    kind: int
    flags: int
    family: Family
    body: bytes
    keys: Sequence[bytes] = ()
    """The element keys inside, in order, so that an error can be traced to its element."""


class Reply(NamedTuple):
    """One answer: an error (0: acknowledgement) or a datum."""

    sequence: int
    kind: int
    """NLMSG_ERROR, NLMSG_DONE, or the full type of a datum, its subsystem included."""
    error: int
    """A positive errno, 0 for an acknowledgement or a datum."""
    payload: bytes
    """After the generic header for a datum; empty for an error."""
    offset: int | None = None
    """Extended acknowledgement: where in the request the kernel found fault."""
    reason: str = ""
    family: Family | None = None
    interrupted: bool = False
    """The ruleset changed during this dump: read again."""


def message(kind: int, flags: int, nfproto: int, sequence: int, body: bytes, res: int = 0) -> bytes:
    """A netlink message with its generic netfilter header."""
    return _headers(kind, flags, nfproto, sequence, len(body), res) + body


def _headers(kind: int, flags: int, nfproto: int, sequence: int, size: int, res: int = 0) -> bytes:
    """What precedes a body of this size."""
    header = _HEADER.pack(HEADER_SIZE + size, kind, flags | NLM_F_REQUEST, sequence, 0)
    return header + _GENERIC.pack(nfproto, 0, res)


def nft_message(kind: int, flags: int, nfproto: int, sequence: int, body: bytes) -> bytes:
    """A message of the nf_tables subsystem."""
    return message(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, nfproto, sequence, body)


def batch(messages: Sequence[Message], *, commit: bool = True) -> bytes:
    """One transaction: message i has sequence number i + 1; the last one asks for an answer.

    Without `commit` the kernel checks every message and then forgets them all.
    """
    parts = [message(NFNL_MSG_BATCH_BEGIN, 0, 0, 0, b"", NFNL_SUBSYS_NFTABLES)]
    last = len(messages)
    for sequence, item in enumerate(messages, start=1):
        flags = item.flags | (NLM_F_ACK if sequence == last else 0)
        kind, nfproto = NFNL_SUBSYS_NFTABLES << 8 | item.kind, NFPROTO[item.family]
        parts.append(_headers(kind, flags, nfproto, sequence, len(item.body)))
        parts.append(item.body)
    if commit:
        parts.append(message(NFNL_MSG_BATCH_END, 0, 0, last + 1, b"", NFNL_SUBSYS_NFTABLES))
    return b"".join(parts)


def attributes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The (kind, payload) pairs of a run of attributes."""
    end = len(data) if end is None else end
    while start + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, start)
        if not 4 <= size <= end - start:  # noqa: PLR2004 (a header): not attributes at all
            return
        yield kind & NLA_TYPE_MASK, data[start + 4 : start + size]
        start += (size + 3) & ~3


def replies(datagram: bytes) -> Iterator[Reply]:
    """The answers in one datagram from the kernel."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, position)
        body = datagram[position + _HEADER.size : position + size]
        if kind == NLMSG_ERROR:
            yield _error(sequence, flags, body)
        elif kind == NLMSG_DONE:
            yield Reply(sequence, kind, _errno(body), b"")
        else:
            interrupted = bool(flags & NLM_F_DUMP_INTR)
            family = FAMILY_OF.get(body[0])
            payload = body[_GENERIC.size :]
            yield Reply(sequence, kind, 0, payload, None, "", family, interrupted)
        position += (size + 3) & ~3


def _errno(body: bytes) -> int:
    code: int = struct.unpack_from("=i", body)[0] if body else 0
    return -code


def _error(sequence: int, flags: int, body: bytes) -> Reply:
    offset, reason = None, ""
    if flags & NLM_F_ACK_TLVS:
        quoted: int = struct.unpack_from("=I", body, 4)[0]
        start = 4 + (_HEADER.size if flags & NLM_F_CAPPED else (quoted + 3) & ~3)
        for kind, payload in attributes(body, start):
            if kind == NLMSGERR_ATTR_MSG:
                reason = payload.rstrip(b"\0").decode()
            elif kind == NLMSGERR_ATTR_OFFS:
                offset = int.from_bytes(payload, "little")
    return Reply(sequence, NLMSG_ERROR, _errno(body), b"", offset, reason)


def element_list(table: str, set_name: str, elements: Iterable[bytes]) -> bytes:
    """The body of NEWSETELEM, DELSETELEM and GETSETELEM."""
    names = text(NFTA_ELEM_LIST_TABLE, table) + text(NFTA_ELEM_LIST_SET, set_name)
    listed = b"".join(elements)
    return names + (nested(NFTA_ELEM_LIST_ELEMENTS, listed) if listed else b"")


def element_at(body: bytes, offset: int) -> int | None:
    """Which element of an element list (by index) covers this offset of its message, if any."""
    start = offset - HEADER_SIZE
    position = 0
    while position + 4 <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, position)
        if kind & NLA_TYPE_MASK == NFTA_ELEM_LIST_ELEMENTS:
            return _child_at(body, position + 4, position + size, start)
        position += (size + 3) & ~3
    return None


def _child_at(body: bytes, position: int, end: int, wanted: int) -> int | None:
    index = 0
    while position + 4 <= end:
        size: int = _ATTRIBUTE.unpack_from(body, position)[0]
        if position <= wanted < position + size:
            return index
        position += (size + 3) & ~3
        index += 1
    return None
