"""Which bytes say to nfnetlink what we mean, and what do its answers mean? Pure.

The format of nf_tables over netlink (linux/netfilter/nf_tables.h, nfnetlink.h). Integers of
attributes are in network order, headers in host order; attributes are padded to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from endpoints.names import Family
from modes.wire import ADDRESS_FAMILY as NFPROTO
from modes.wire import (
    FAMILY_OF,
    HEADER,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_APPEND,
    NLM_F_CAPPED,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    NLMSGERR_ATTR_OFFS,
    Reply,
    attr,
    attributes,
    be32,
    be64,
    nested,
    pad,
    replies,
    text,
)

__all__ = [  # of what all of netlink shares, what this mode uses
    "FAMILY_OF",
    "NFPROTO",
    "NLA_F_NESTED",
    "NLA_TYPE_MASK",
    "NLMSGERR_ATTR_MSG",
    "NLMSGERR_ATTR_OFFS",
    "NLMSG_DONE",
    "NLMSG_ERROR",
    "NLM_F_ACK",
    "NLM_F_ACK_TLVS",
    "NLM_F_APPEND",
    "NLM_F_CAPPED",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_REQUEST",
    "Reply",
    "attr",
    "attributes",
    "be32",
    "be64",
    "nested",
    "pad",
    "replies",
    "text",
]

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE = range(9)
NEWSET, GETSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN, GETGEN = range(9, 17)
GETOBJ, DELOBJ, GETFLOWTABLE, DELFLOWTABLE = 19, 20, 23, 24

NFTA_TABLE_NAME, NFTA_TABLE_FLAGS, NFTA_TABLE_OWNER = 1, 2, 7
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK = 1, 3, 4
NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE, NFTA_CHAIN_FLAGS = 5, 7, 10
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS = 1, 2, 4
NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_FLAGS, NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN = 1, 2, 3, 4, 5
NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN, NFTA_SET_DESC, NFTA_SET_ID = 6, 7, 9, 10
NFTA_ELEM_LIST_TABLE, NFTA_ELEM_LIST_SET, NFTA_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_ELEM_KEY, NFTA_ELEM_DATA, NFTA_ELEM_FLAGS, NFTA_ELEM_TIMEOUT = 1, 2, 3, 4
NFTA_ELEM_EXPIRATION, NFTA_ELEM_USERDATA, NFTA_ELEM_KEY_END = 5, 6, 10
NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN = 1, 2, 1, 2
NFTA_LIST_ELEM, NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 1, 2
NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE = 1, 2, 3
NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME = 1, 2
NFTA_GEN_ID, NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME = 1, 2, 3

_GENERIC = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
HEADER_SIZE = HEADER.size + _GENERIC.size
_pack_header, _pack_generic = HEADER.pack, _GENERIC.pack


class Message(NamedTuple):
    """One message of a batch; its sequence number is its place in it."""

    kind: int
    flags: int
    family: Family
    body: bytes
    keys: Sequence[bytes] = ()
    """The element keys inside, in order, so that an error can be traced to its element."""


def message(kind: int, flags: int, nfproto: int, sequence: int, body: bytes, res: int = 0) -> bytes:
    """A netlink message with its generic netfilter header."""
    return _headers(kind, flags, nfproto, sequence, len(body), res) + body


def _headers(kind: int, flags: int, nfproto: int, sequence: int, size: int, res: int = 0) -> bytes:
    """What precedes a body of this size."""
    header = _pack_header(HEADER_SIZE + size, kind, flags | NLM_F_REQUEST, sequence, 0)
    return header + _pack_generic(nfproto, 0, res)


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
