"""Which bytes say to ipset what we mean, and what do its answers mean? Pure.

A subsystem of nfnetlink (linux/netfilter/ipset/ip_set.h), protocol 6, which every kernel since
2.6.39 speaks. Integers are in network order and their attributes say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from endpoints.addresses import pack, unpack
from endpoints.names import Family, Protocol
from modes.base import KernelFault
from modes.ipvs.ipsets import PLAIN, Element, Extra, SetChange, SetSpec, SetVerb, Type
from modes.wire import (
    ADDRESS_FAMILY,
    FAMILY_OF,
    NLA_F_NET_BYTEORDER,
    attr,
    attributes,
    be32,
    be64,
    nested,
    text,
    words,
)

CREATE, DESTROY, RENAME, SWAP, LIST, ADD, DEL, TYPE = 2, 3, 5, 6, 7, 9, 10, 13

BUSY, NO_SECOND_SET, TYPE_MISMATCH = 4100, 4101, 4102
"""In use by rules; what shall be swapped is not there; what shall be swapped is of another type."""

_SUBSYSTEM = 6
_SET_PROTOCOL = 6
_PROTOCOL, _SETNAME, _TYPENAME, _REVISION, _FAMILY, _FLAGS, _DATA, _ADT = range(1, 9)
_SETNAME2 = _TYPENAME
_IP, _PORT, _PORT_TO, _TIMEOUT, _PROTO, _CADT_FLAGS = 1, 4, 5, 6, 7, 8
_BITMASK, _HASHSIZE, _MAXELEM, _NETMASK, _ELEMENTS = 12, 18, 19, 20, 24  # of a set
_IP2, _CIDR2, _COMMENT, _SKBMARK, _PAD = 20, 21, 26, 27, 30  # of an element
_NAMEABLE = {_IP, _PORT, _PROTO, _IP2, _CIDR2, _TIMEOUT, _COMMENT, _SKBMARK, _PAD}
"""What elements of ours have. The last is empty: it aligns a mark, on some kernels."""
_IPADDR = {Family.IPV4: 1, Family.IPV6: 2}
_LIST_SETNAME, _LIST_HEADER = 1 << 1, 1 << 2
_WITH_COMMENT, _WITH_SKBINFO = 1 << 4, 1 << 6
_WHOLE_MARK = 0xFFFFFFFF
_LAST_PORT = 65535
_TYPES = {of.value: of for of in Type}
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}
_OPENING = bytes(4)
_ADDRESS_SIZES = (4, 16)
_VERBS = {SetVerb.ADD: ADD, SetVerb.DELETE: DEL}

_ERRORS = {
    4097: "a message that ipset does not understand, or an address of the other family",
    4098: "it has no such type of set",
    4099: "it has as many sets as it may",
    BUSY: "the set is in use by rules",
    NO_SECOND_SET: "the other set is not there, or is there already",
    TYPE_MISMATCH: "the sets are of different types",
    4103: "the element is there already, or is not there",
    4104: "wrong length of a prefix",
    4105: "wrong netmask",
    4106: "wrong family",
    4107: "the set has no timeouts",
    4108: "the set is in use by another set",
    4109: "no IPv4 address",
    4110: "no IPv6 address",
    4111: "the set has no counters",
    4112: "the set has no comments",
    4113: "wrong mask of a mark",
    4114: "the set has no marks",
    4352: "the set is full, or the port out of its range",
    4353: "the element is all zeros",
    4354: "wrong protocol",
    4355: "the protocol is missing",
}
_FIRST_PRIVATE = 4096


class DecodedSet(NamedTuple):
    """A part of the answer to `list_set`: a set with some of its elements."""

    name: str
    spec: SetSpec | None
    """None: of a kind that none of ours is. Only the first part of a set has it."""
    has_header: bool
    elements: dict[Element, Extra] | None
    """None: there is one that we have no name for."""


def spelled(errno: int) -> str | None:
    """What an error of ipset's own means; None if it is one of the system's."""
    if errno < _FIRST_PRIVATE:
        return None
    return f"{_ERRORS.get(errno, 'refused by ipset')} (ipset error {errno})"


def kind(command: int) -> int:
    """The type of a message."""
    return _SUBSYSTEM << 8 | command


def _flagged(code: int, payload: bytes) -> bytes:
    return attr(code | NLA_F_NET_BYTEORDER, payload)


def _number(code: int, value: int) -> bytes:
    return be32(code | NLA_F_NET_BYTEORDER, value)


@lru_cache(maxsize=256)
def _named(name: str) -> bytes:
    return _OPENING + attr(_PROTOCOL, bytes([_SET_PROTOCOL])) + text(_SETNAME, name)


def named(name: str) -> bytes:
    """The payload of a command about a whole set: LIST, DESTROY."""
    return _named(name)


def pair(name: str, other: str) -> bytes:
    """The payload of SWAP and RENAME."""
    return _named(name) + text(_SETNAME2, other)


def list_names() -> bytes:
    """Asks (LIST, a dump) for the names of all sets."""
    return _OPENING + attr(_PROTOCOL, bytes([_SET_PROTOCOL])) + _number(_FLAGS, _LIST_SETNAME)


def list_headers(name: str) -> bytes:
    """Asks (LIST, a dump) for all of a set but its elements; without a name, of all sets."""
    opening = _named(name) if name else _OPENING + attr(_PROTOCOL, bytes([_SET_PROTOCOL]))
    return opening + _number(_FLAGS, _LIST_HEADER)


def decode_header(payload: bytes) -> tuple[str, int]:
    """A set's name and how many elements it has, 0 on kernels before 4.11, which do not say."""
    found = dict(attributes(payload))
    options = dict(attributes(found.get(_DATA, b"")))
    return words(found.get(_SETNAME, b"")), _value(options, _ELEMENTS)


def _number_of(family: Family | None) -> int:
    return 0 if family is None else ADDRESS_FAMILY[family]


def get_type(of: Type, family: Family | None) -> bytes:
    """Asks (TYPE) which revisions of a type there are; that loads its module."""
    named_type = attr(_PROTOCOL, bytes([_SET_PROTOCOL])) + text(_TYPENAME, of)
    return _OPENING + named_type + attr(_FAMILY, bytes([_number_of(family)]))


def decode_revision(payload: bytes) -> int:
    """The newest revision that the kernel has. Raises KernelFault if the answer has none."""
    found = dict(attributes(payload))
    if _REVISION not in found:
        raise KernelFault("the kernel tells no revision of a type of sets")
    return _value(found, _REVISION)


def create(name: str, spec: SetSpec, revision: int) -> bytes:
    """The payload of CREATE: an empty set."""
    flags = (_WITH_COMMENT if spec.has_comments else 0) | (_WITH_SKBINFO if spec.has_marks else 0)
    options = _number(_CADT_FLAGS, flags) if flags else b""
    if spec.has_timeouts:
        options += _number(_TIMEOUT, 0)
    if spec.type is Type.PORT:
        ends = _flagged(_PORT, bytes(2)), _flagged(_PORT_TO, _LAST_PORT.to_bytes(2, "big"))
        options += b"".join(ends)
    else:
        options += _number(_HASHSIZE, spec.hash_size) + _number(_MAXELEM, spec.most_elements)
    said = text(_TYPENAME, spec.type) + attr(_REVISION, bytes([revision]))
    said += attr(_FAMILY, bytes([_number_of(spec.family)]))
    return _named(name) + said + nested(_DATA, options)


def change(asked: SetChange) -> tuple[int, bytes]:
    """The command (ADD, DEL) and its payload."""
    verb, entry, extra = asked
    return element(verb, str(entry.set), entry.element, extra)


def element(verb: SetVerb, name: str, of: Element, extra: Extra = PLAIN) -> tuple[int, bytes]:
    """The command (ADD, DEL) and its payload, for one element of a set of this name."""
    inside = _element(of)
    if verb is SetVerb.ADD:
        inside += _extra(extra)
    return _VERBS[verb], _named(name) + nested(_DATA, inside)


@lru_cache(maxsize=4096)
def _address(code: int, address: str) -> bytes:
    packed = pack(address)
    family = Family.IPV4 if len(packed) == 4 else Family.IPV6  # noqa: PLR2004 (octets)
    return nested(code, _flagged(_IPADDR[family], packed))


def _element(of: Element) -> bytes:
    found = _address(_IP, of.address) if of.address else b""
    if of.protocol is not None:
        found += attr(_PROTO, bytes([of.protocol.number]))
    if of.protocol is not None or not of.address:
        found += _flagged(_PORT, of.port.to_bytes(2, "big"))
    if of.other:
        address, _, length = of.other.partition("/")
        found += _address(_IP2, address)
        if length:
            found += attr(_CIDR2, bytes([int(length)]))
    return found


def _extra(extra: Extra) -> bytes:
    found = text(_COMMENT, extra.comment) if extra.comment else b""
    if extra.mark:
        found += be64(_SKBMARK | NLA_F_NET_BYTEORDER, extra.mark << 32 | _WHOLE_MARK)
    if extra.timeout_seconds:
        found += _number(_TIMEOUT, extra.timeout_seconds)
    return found


def decode_name(payload: bytes) -> str:
    """The name of the set that an answer to `list_names` is about."""
    return words(dict(attributes(payload)).get(_SETNAME, b""))


def decode_set(payload: bytes) -> DecodedSet:
    """One part of what the kernel tells of a set."""
    found = dict(attributes(payload))
    listed = attributes(found.get(_ADT, b""))
    decoded = [_decode_element(dict(attributes(inside))) for _, inside in listed]
    named = [pair for pair in decoded if pair is not None]
    elements = dict(named) if len(named) == len(decoded) else None
    has_header = _TYPENAME in found
    spec = _decode_spec(found) if has_header else None
    return DecodedSet(words(found.get(_SETNAME, b"")), spec, has_header, elements)


def _decode_spec(found: Mapping[int, bytes]) -> SetSpec | None:
    options = dict(attributes(found.get(_DATA, b"")))
    of = _TYPES.get(words(found[_TYPENAME]))
    flags = _value(options, _CADT_FLAGS)
    if of is None or flags & ~(_WITH_COMMENT | _WITH_SKBINFO) or _value(options, _TIMEOUT):
        return None
    if of is Type.PORT:
        if _value(options, _PORT) or _value(options, _PORT_TO) != _LAST_PORT:
            return None
    elif _NETMASK in options or _BITMASK in options:
        return None
    return SetSpec(
        of,
        FAMILY_OF.get(_value(found, _FAMILY)),
        _value(options, _HASHSIZE),
        _value(options, _MAXELEM),
        bool(flags & _WITH_COMMENT),
        bool(flags & _WITH_SKBINFO),
        _TIMEOUT in options,
    )


def _decode_element(found: Mapping[int, bytes]) -> tuple[Element, Extra] | None:
    """An element and what it carries; None where ours are never like it."""
    mark = _value(found, _SKBMARK)
    protocol = _PROTOCOLS.get(_value(found, _PROTO)) if _PROTO in found else None
    if (
        not _NAMEABLE.issuperset(found)
        or (_PROTO in found and protocol is None)
        or (_SKBMARK in found and mark & _WHOLE_MARK != _WHOLE_MARK)
    ):
        return None
    other = _decode_address(found, _IP2)
    if _CIDR2 in found:
        other = f"{other}/{_value(found, _CIDR2)}"
    comment = words(found[_COMMENT]) if _COMMENT in found else ""
    return (
        Element(_decode_address(found, _IP), protocol, _value(found, _PORT), other),
        Extra(comment, mark >> 32, _value(found, _TIMEOUT)),
    )


def _decode_address(found: Mapping[int, bytes], code: int) -> str:
    """Empty if there is none; an address of no family is none."""
    _, packed = next(attributes(found.get(code, b"")), (0, b""))
    return unpack(packed) if len(packed) in _ADDRESS_SIZES else ""


def _value(found: Mapping[int, bytes], code: int) -> int:
    return int.from_bytes(found.get(code, b""), "big")
