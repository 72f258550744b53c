"""What does a value in a register of nf_tables say, and how does nft write it? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from endpoints.addresses import unpack
from modes.wire import host_order
from proxy.facts.foreign import Condition, Field, Kind

_EQ, _NEQ, _LT, _LTE, _GT, _GTE = range(6)
_STATES = {1: "INVALID", 2: "ESTABLISHED", 4: "RELATED", 8: "NEW", 64: "UNTRACKED"}
_STATUSES = {16: "SNAT", 32: "DNAT"}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}
_FAMILIES = {2: "ip", 10: "ip6"}
_TYPES = {1: "UNICAST", 2: "LOCAL", 3: "BROADCAST", 4: "ANYCAST", 5: "MULTICAST", 7: "UNREACHABLE"}
_NAMES = {
    Field.FAMILY: _FAMILIES,
    Field.SOURCE_TYPE: _TYPES,
    Field.DESTINATION_TYPE: _TYPES,
    Field.STATE: _STATES,
}
_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT)
_ADDRESSES = (Field.SOURCE, Field.DESTINATION)
_LAST_PORT = 65535
_MANY = 8
"""More values than these are not written out."""


class Loaded(NamedTuple):
    """What is in a register."""

    field: Field | None
    """None: something that is not read."""
    name: str
    size: int
    """In bytes; of a whole address, even if only the begin of it is loaded."""
    mask: bytes = b""
    """Which bits were kept."""

    @property
    def aligned(self) -> int:
        """The bytes that it takes among concatenated fields: whole registers."""
        return (self.size + 3) & ~3


class Element(NamedTuple):
    """An element of a set; of an interval there are two, the second with the first value behind."""

    key: bytes
    is_end: bool = False
    verdict: bytes = b""
    last: bytes = b""
    """Of an interval of concatenated fields: the last value of each."""
    is_conditional: bool = False
    """It has a limit or a quota of its own, or the like."""


class Elements(NamedTuple):
    """All elements of a set."""

    listed: tuple[Element, ...]
    is_interval: bool = False


@lru_cache(maxsize=4096)
def text_of(loaded: Loaded, operator: int, value: bytes) -> Condition | None:
    """What a comparison asks; None: it cannot be said."""
    if loaded.field is None:
        return None
    if loaded.name in ("ct state", "ct status"):
        return _flags(loaded, operator, value)
    if operator in (_EQ, _NEQ):
        found = _one(loaded, value)
        return Condition(loaded.field, (found,), operator == _NEQ) if found else None
    return _bound(loaded.field, operator, int.from_bytes(value, "big"))


def _flags(loaded: Loaded, operator: int, value: bytes) -> Condition | None:
    """`state & mask != 0`, `status & mask == 0`, or `== mask` with one bit."""
    names = _STATES if loaded.name == "ct state" else _STATUSES
    kept, compared = host_order(loaded.mask), host_order(value)
    if not loaded.mask:
        kept, operator = compared, _NEQ if operator == _EQ else _EQ
    elif compared and compared == kept and kept.bit_count() == 1:
        operator = _NEQ if operator == _EQ else _EQ
    elif compared:
        return None
    found = tuple(name for bit, name in names.items() if kept & bit)
    if kept & ~sum(names) or not found or loaded.field is None:
        return None
    return Condition(loaded.field, found, operator == _EQ)


def _one(loaded: Loaded, value: bytes) -> str | None:
    if loaded.field in _ADDRESSES:
        return _network(loaded, value)
    if loaded.field in _PORTS:
        return None if loaded.mask else str(int.from_bytes(value, "big"))
    if loaded.field in (Field.IN_INTERFACE, Field.OUT_INTERFACE):
        known = value.rstrip(b"\0").decode(errors="replace")
        return known if len(value) == loaded.size else f"{known}*"
    if loaded.field is Field.PROTOCOL:
        return _PROTOCOLS.get(value[0], str(value[0]))
    names = _NAMES.get(loaded.field) if loaded.field else None
    return names.get(host_order(value)) if names else None


def _network(loaded: Loaded, value: bytes) -> str | None:
    length = _length(loaded.mask)
    if length is None:
        return None
    address = unpack(value[: loaded.size].ljust(loaded.size, b"\0"))
    return address if length == loaded.size * 8 else f"{address}/{length}"


@lru_cache(maxsize=256)
def _length(mask: bytes) -> int | None:
    """The length of a prefix; None: the mask is not one."""
    bits, number = len(mask) * 8, int.from_bytes(mask, "big")
    length = number.bit_count()
    return length if number == (1 << bits) - (1 << (bits - length)) else None


def _bound(field: Field, operator: int, value: int) -> Condition | None:
    if field not in _PORTS:
        return None
    low, high = 0, _LAST_PORT
    if operator in (_GT, _GTE):
        low = value + (operator == _GT)
    else:
        high = value - (operator == _LT)
    return Condition(field, (f"{low}-{high}",))


def joined_bounds(low: Condition, high: Condition) -> Condition | None:
    """`80-65535` and `0-90` of one field, one behind the other: `80-90`."""
    if low.field is not high.field or low.negated or high.negated:
        return None
    if low.field not in _PORTS:
        return None
    (first, _, last), (least, _, most) = low.values[0].partition("-"), high.values[0].partition("-")
    if last != str(_LAST_PORT) or least != "0":
        return None
    return Condition(low.field, (f"{first}-{most}",))


def between(loaded: Loaded, low: bytes, high: bytes) -> str | None:
    """A range of addresses or ports."""
    if loaded.mask.strip(b"\xff"):
        return None
    if loaded.field in _PORTS:
        return f"{int.from_bytes(low, 'big')}-{int.from_bytes(high, 'big')}"
    if loaded.field in _ADDRESSES and len(low) == len(high) == loaded.size:
        return f"{unpack(low)}-{unpack(high)}"
    return None


def chosen(loaded: Loaded, elements: Elements, *, negated: bool, set_name: str) -> Condition | None:
    """That a field is one of these elements; None: it cannot be said."""
    found = values(loaded, elements)
    if found is None or loaded.field is None:
        return None
    return Condition(loaded.field, tuple(value for value, _ in found), negated, set_name)


def values(loaded: Loaded, elements: Elements) -> list[tuple[str, Element]] | None:
    """What each element stands for, an interval by its first one; None: it cannot be said."""
    ordered = sorted(elements.listed, key=lambda one: (one.key, not one.is_end))
    if loaded.field is None or any(len(one.key) != loaded.size for one in ordered):
        return None
    found: list[tuple[str, Element]] = []
    for at, one in enumerate(ordered):
        if one.is_end:
            continue
        behind = ordered[at + 1].key if at + 1 < len(ordered) else b""
        low = one.key
        value = _interval(loaded, low, behind) if elements.is_interval else _one(loaded, low)
        if value is None:
            return None
        found.append((value, one))
    return found


Row = tuple[tuple[Condition, ...], Element]
"""What of a packet an element asks for; all conditions are to be met."""


def rows(fields: Sequence[Loaded], elements: Elements) -> list[Row] | None:
    """What each element of a set of concatenated fields asks for; None: it cannot be said."""
    found: list[Row] = []
    for one in elements.listed:
        conditions, at = [], 0
        for loaded in fields:
            low, high = (key[at : at + loaded.size] for key in (one.key, one.last or one.key))
            value = _one(loaded, low) if low == high else between(loaded, low, high)
            if value is None or loaded.field is None:
                return None
            conditions.append(Condition(loaded.field, (value,)))
            at += loaded.aligned
        if at != len(one.key):
            return None
        found.append((tuple(conditions), one))
    return found


def _interval(loaded: Loaded, low: bytes, behind: bytes) -> str | None:
    last = int.from_bytes(behind, "big") if behind else 1 << loaded.size * 8
    high = (last - 1).to_bytes(loaded.size, "big")
    return _one(loaded, low) if high == low else between(loaded, low, high)


def said(conditions: Sequence[Condition], unread: Sequence[str], kind: Kind, to: str) -> str:
    """A rule as nft would write it; what is not read stands in brackets."""
    protocol = next((c for c in conditions if c.field is Field.PROTOCOL), None)
    is_one = protocol is not None and len(protocol.values) == 1 and not protocol.set_name
    named = protocol.values[0] if protocol and is_one else ""
    has_port = any(c.field in _PORTS for c in conditions)
    parts = [
        _words(c, named)
        for c in conditions
        if c.field is not Field.FAMILY and not (c is protocol and has_port and named)
    ]
    parts += [f"[{name}]" for name in unread]
    parts.append(_ending(kind, to))
    return " ".join(parts)


def _words(condition: Condition, protocol: str) -> str:
    values = condition.values
    shown = _shown(condition)
    negation = "!= " if condition.negated else ""
    ip = "ip6" if any(":" in value for value in values[:1]) else "ip"
    match condition.field:
        case Field.SOURCE | Field.DESTINATION:
            name = f"{ip} {'saddr' if condition.field is Field.SOURCE else 'daddr'}"
        case Field.SOURCE_PORT | Field.DESTINATION_PORT:
            which = "sport" if condition.field is Field.SOURCE_PORT else "dport"
            name = f"{protocol or 'th'} {which}"
        case Field.IN_INTERFACE | Field.OUT_INTERFACE:
            name = "iifname" if condition.field is Field.IN_INTERFACE else "oifname"
            shown = f'"{shown}"' if shown in values else shown
        case Field.STATE:
            is_status = set(values) <= set(_STATUSES.values())
            name = "ct status" if is_status else "ct state"
            shown = shown if condition.set_name else ",".join(values).lower()
        case Field.SOURCE_TYPE | Field.DESTINATION_TYPE:
            name = f"fib {'s' if condition.field is Field.SOURCE_TYPE else 'd'}addr type"
            shown = shown if condition.set_name else shown.lower()
        case _:
            name = "meta l4proto"
    return f"{name} {negation}{shown}"


def _shown(condition: Condition) -> str:
    values = condition.values
    if condition.set_name:
        return f"@{condition.set_name}"
    if len(values) == 1:
        return values[0]
    more = ", …" if len(values) > _MANY else ""
    return f"{{ {', '.join(values[:_MANY])}{more} }}"


def _ending(kind: Kind, to: str) -> str:
    if kind in (Kind.DNAT, Kind.SNAT, Kind.REDIRECT, Kind.TPROXY):
        return f"{kind} to {to}" if to else str(kind)
    if kind is Kind.UNKNOWN:
        return to
    return f"{kind} {to}".strip()
