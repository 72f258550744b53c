"""What does a rule of nf_tables decide, and on which conditions? Pure.

A rule's expressions load fields into registers and compare them. What is loaded is followed;
whatever else a rule asks for makes it opaque. Numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from endpoints.addresses import unpack
from modes.wire import attributes, words
from proxy.facts.foreign import Condition, Field, ForeignRule, Kind
from proxy.facts.foreign_values import (
    STATES,
    Element,
    Loaded,
    between,
    chosen,
    said,
    text_of,
    values,
)

_NETWORK, _TRANSPORT = 1, 2
_META = {
    4: Loaded(None, "iif", 4),
    5: Loaded(None, "oif", 4),
    6: Loaded(Field.IN_INTERFACE, "iifname", 16),
    7: Loaded(Field.OUT_INTERFACE, "oifname", 16),
    15: Loaded(Field.FAMILY, "meta nfproto", 1),
    16: Loaded(Field.PROTOCOL, "meta l4proto", 1),
}
_CT = {0: Loaded(Field.STATE, "ct state", 4, STATES), 2: Loaded(Field.STATE, "ct status", 4)}
_FIB_TYPE = 3
_FIB = {
    1: Loaded(Field.SOURCE_TYPE, "fib saddr type", 4),
    2: Loaded(Field.DESTINATION_TYPE, "fib daddr type", 4),
}
_ADDRESS = {  # by offset in the network header and size
    (12, 4): Field.SOURCE,
    (16, 4): Field.DESTINATION,
    (8, 16): Field.SOURCE,
    (24, 16): Field.DESTINATION,
}
_CODES = {0: Kind.DROP, 1: Kind.ACCEPT, -5: Kind.RETURN, -3: Kind.JUMP, -4: Kind.GOTO}
_QUEUE, _CONTINUE = 3, -1
_TARGETS = {
    "DNAT": Kind.DNAT,
    "MASQUERADE": Kind.MASQUERADE,
    "NOTRACK": Kind.NOTRACK,
    "REDIRECT": Kind.REDIRECT,
    "REJECT": Kind.REJECT,
    "SNAT": Kind.SNAT,
    "TPROXY": Kind.TPROXY,
}
_ENDS = ("queue", "synproxy", "fwd")
_STATEMENTS = ("counter", "log", "last", "dup", "flow_offload", "rt", "byteorder")
"""They let each packet go on, or only load."""
_OPAQUE_OBJECTS = (2, 4)
"""Of objref: a quota and a limit; the others let each packet go on."""


class Named(NamedTuple):
    """A rule as nf_tables dumps it."""

    table: str
    chain: str
    handle: int
    expressions: bytes


Sets = Callable[[str], tuple[Element, ...] | None]
"""The elements of an anonymous set of the table, by its name; None: they were not read."""


def named(rule: bytes) -> Named:
    """Where a rule stands, and its expressions, still encoded."""
    told = dict(attributes(rule))
    handle = int.from_bytes(told.get(3, b""), "big")
    return Named(words(told.get(1, b"")), words(told.get(2, b"")), handle, told.get(4, b""))


def of_kube_proxy(rule: ForeignRule) -> ForeignRule:
    """A rule of kube-proxy's own table: its maps lead from addresses and ports to Services."""
    if rule.kind is Kind.UNKNOWN and rule.to.startswith("vmap @service-"):
        return msgspec.structs.replace(rule, kind=Kind.DNAT, opaque=True, to="a Service's endpoint")
    return rule


def is_of_iptables(expressions: bytes) -> bool:
    """Whether an extension of iptables is in the rule, other than a comment."""
    return any(
        name == "target" or (name == "match" and words(parts.get(1, b"")) != "comment")
        for name, parts in map(_parts, (one for _, one in attributes(expressions)))
    )


def rules(family: str, rule: Named, sets: Sets) -> tuple[ForeignRule, ...]:
    """What a rule decides: one ForeignRule, one per element of a verdict map, or none."""
    reading = _Reading(family, sets)
    for _, one in attributes(rule.expressions):
        name, parts = _parts(one)
        reading.take(name, parts)
    return tuple(reading.decided(rule.handle))


@lru_cache(maxsize=8192)
def _parts(expression: bytes) -> tuple[str, Mapping[int, bytes]]:
    told = dict(attributes(expression))
    return words(told.get(1, b"")), dict(attributes(told.get(2, b"")))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _word(register: bytes | None) -> int:
    """The word of four bytes at which a register starts."""
    number = _number(register)
    return number - 8 if number >= 8 else (number - 1) * 4  # noqa: PLR2004 (NFT_REG32_00)


def verdict(data: bytes) -> tuple[Kind | None, str]:
    """What a verdict says, and the chain of a jump; None: go on."""
    told = dict(attributes(data))
    code = int.from_bytes(told.get(1, b""), "big", signed=True)
    if code == _CONTINUE:
        return None, ""
    return _CODES.get(code, Kind.UNKNOWN), words(told.get(2, b""))


class _Reading:
    """One rule while its expressions are read."""

    def __init__(self, family: str, sets: Sets) -> None:
        self._family = family
        self._sets = sets
        self._registers: dict[int, Loaded] = {}
        self._constants: dict[int, bytes] = {}
        self._conditions: list[Condition] = []
        self._unread: list[str] = []
        self._ends: list[tuple[Kind, str, Condition | None]] = []

    def take(self, name: str, parts: Mapping[int, bytes]) -> None:
        """The next expression."""
        method = getattr(self, f"_{name}", None)
        if method is not None:
            method(parts)
        elif name in _ENDS:
            self._end(Kind.UNKNOWN, name)
        elif name not in _STATEMENTS:
            self._unread.append(name)

    def decided(self, handle: int) -> list[ForeignRule]:
        """The rule, once for each way that it may end."""
        conditions = tuple(self._conditions)
        return [
            ForeignRule(
                kind,
                said((*conditions, *_only(more)), self._unread, kind, to),
                handle,
                (*conditions, *_only(more)),
                bool(self._unread),
                to,
            )
            for kind, to, more in self._ends
        ]

    def _end(self, kind: Kind, to: str = "", only: Condition | None = None) -> None:
        self._ends.append((kind, to, only))

    # What loads a register.

    def _load(self, register: bytes | None, what: Loaded | None, name: str = "") -> None:
        self._registers[_word(register)] = what or Loaded(None, name, 0)

    def _payload(self, parts: Mapping[int, bytes]) -> None:
        if 1 not in parts:  # it writes into the packet
            return
        base, offset, size = (_number(parts.get(key)) for key in (2, 3, 4))
        self._load(parts[1], self._header(base, offset, size), f"@{base},{offset},{size}")

    def _header(self, base: int, offset: int, size: int) -> Loaded | None:
        if base == _TRANSPORT and size == 2 and offset in (0, 2):  # noqa: PLR2004 (the ports)
            field = Field.DESTINATION_PORT if offset else Field.SOURCE_PORT
            return Loaded(field, "th dport" if offset else "th sport", 2)
        if base == _NETWORK:
            is_v6 = self._is_ipv6
            if not is_v6 and (offset, size) == (9, 1):
                return Loaded(Field.PROTOCOL, "ip protocol", 1)
            whole = 16 if is_v6 else 4
            found = _ADDRESS.get((offset, whole))
            if found and size <= whole:
                return Loaded(found, "", whole, mask=b"\xff" * size + bytes(whole - size))
        return None

    @property
    def _is_ipv6(self) -> bool:
        if self._family in ("ip", "ip6"):
            return self._family == "ip6"
        return Condition(Field.FAMILY, ("ip6",)) in self._conditions

    def _meta(self, parts: Mapping[int, bytes]) -> None:
        if 1 in parts:
            key = _number(parts.get(2))
            self._load(parts[1], _META.get(key), f"meta {key}")

    def _ct(self, parts: Mapping[int, bytes]) -> None:
        if 1 in parts:
            key = _number(parts.get(2))
            self._load(parts[1], None if 3 in parts else _CT.get(key), f"ct {key}")  # noqa: PLR2004 (direction)

    def _fib(self, parts: Mapping[int, bytes]) -> None:
        what = _FIB.get(_number(parts.get(3))) if _number(parts.get(2)) == _FIB_TYPE else None
        self._load(parts.get(1), what, "fib")

    def _numgen(self, parts: Mapping[int, bytes]) -> None:
        self._load(parts.get(1), None, "numgen")

    def _bitwise(self, parts: Mapping[int, bytes]) -> None:
        source = self._registers.get(_word(parts.get(1)))
        mask, xor = (_value(parts.get(key)) for key in (4, 5))
        if source is None or source.field is None or mask is None or any(xor or b""):
            name = source.name if source else "bitwise"
            self._load(parts.get(2), None, f"{name} & …")
            return
        whole = mask.ljust(source.size, b"\0")
        self._load(parts.get(2), source._replace(mask=whole))

    # What compares one.

    def _cmp(self, parts: Mapping[int, bytes]) -> None:
        loaded = self._registers.get(_word(parts.get(1)))
        value = _value(parts.get(3)) or b""
        self._meet(loaded, loaded and text_of(loaded, _number(parts.get(2)), value))

    def _range(self, parts: Mapping[int, bytes]) -> None:
        loaded = self._registers.get(_word(parts.get(1)))
        low, high = _value(parts.get(3)), _value(parts.get(4))
        condition = None
        if loaded and loaded.field and low and high and (found := between(loaded, low, high)):
            condition = Condition(loaded.field, (found,), bool(_number(parts.get(2))))
        self._meet(loaded, condition)

    def _meet(self, loaded: Loaded | None, condition: Condition | None) -> None:
        if condition is None:
            self._unread.append(loaded.name if loaded else "cmp")
            return
        before = self._conditions[-1] if self._conditions else None
        joined = before and between_bounds(before, condition)
        if joined:
            self._conditions[-1] = joined
        else:
            self._conditions.append(condition)

    def _lookup(self, parts: Mapping[int, bytes]) -> None:
        loaded = self._registers.get(_word(parts.get(2)))
        name = words(parts.get(1, b""))
        elements = self._sets(name)
        if 3 in parts and _number(parts[3]):  # noqa: PLR2004 (a register: a map of values)
            self._unread.append(f"map {name}")
            self._load(parts[3], None, f"map {name}")
        elif 3 in parts:  # noqa: PLR2004 (the verdict's register)
            self._verdict_map(name, loaded, elements)
        else:
            negated = bool(_number(parts.get(5)) & 1)
            found = chosen(loaded, elements, negated=negated) if loaded and elements else None
            if found is None:
                self._unread.append(f"{loaded.name if loaded else ''} @{name}".strip())
            else:
                self._conditions.append(found)

    def _verdict_map(
        self, name: str, loaded: Loaded | None, elements: tuple[Element, ...] | None
    ) -> None:
        found = values(loaded, elements) if loaded and elements else []
        if not found or loaded is None or loaded.field is None:
            self._end(Kind.UNKNOWN, f"vmap @{name}")
            return
        for value, one in found:
            kind, to = verdict(one.verdict)
            if kind:
                self._end(kind, to, Condition(loaded.field, (value,)))

    # What ends it.

    def _immediate(self, parts: Mapping[int, bytes]) -> None:
        data = dict(attributes(parts.get(2, b"")))
        if _number(parts.get(1)):
            self._constants[_word(parts[1])] = data.get(1, b"")
            return
        kind, to = verdict(data.get(2, b""))
        if kind:
            self._end(kind, to)

    def _nat(self, parts: Mapping[int, bytes]) -> None:
        kind = Kind.DNAT if _number(parts.get(1)) else Kind.SNAT
        address = self._constants.get(_word(parts.get(3)), b"") if 3 in parts else b""  # noqa: PLR2004 (minimal address)
        self._end(kind, self._place(address, parts.get(5)))

    def _redir(self, parts: Mapping[int, bytes]) -> None:
        self._end(Kind.REDIRECT, self._place(b"", parts.get(1)))

    def _tproxy(self, parts: Mapping[int, bytes]) -> None:
        self._end(Kind.TPROXY, self._place(b"", parts.get(3)))

    def _place(self, address: bytes, port: bytes | None) -> str:
        number = self._constants.get(_word(port), b"")[:2] if port else b""
        known = unpack(address) if len(address) in (4, 16) else ""
        shown = f"[{known}]" if ":" in known else known
        return f"{shown}:{int.from_bytes(number, 'big')}" if number else known

    def _masq(self, _: Mapping[int, bytes]) -> None:
        self._end(Kind.MASQUERADE)

    def _reject(self, _: Mapping[int, bytes]) -> None:
        self._end(Kind.REJECT)

    def _notrack(self, _: Mapping[int, bytes]) -> None:
        self._end(Kind.NOTRACK)

    def _objref(self, parts: Mapping[int, bytes]) -> None:
        if _number(parts.get(1)) in _OPAQUE_OBJECTS or 3 in parts:  # noqa: PLR2004 (a map of them)
            self._unread.append("object")

    # Extensions of iptables.

    def _match(self, parts: Mapping[int, bytes]) -> None:
        if (name := words(parts.get(1, b""))) != "comment":
            self._unread.append(f"-m {name}")

    def _target(self, parts: Mapping[int, bytes]) -> None:
        if kind := _TARGETS.get(words(parts.get(1, b""))):
            self._end(kind)


def _only(more: Condition | None) -> tuple[Condition, ...]:
    return () if more is None else (more,)


def _value(data: bytes | None) -> bytes | None:
    return dict(attributes(data or b"")).get(1)


def between_bounds(low: Condition, high: Condition) -> Condition | None:
    """`80-65535` and `0-90` of one field, one behind the other: `80-90`."""
    if low.field is not high.field or low.negated or high.negated:
        return None
    if low.field not in (Field.SOURCE_PORT, Field.DESTINATION_PORT):
        return None
    (first, _, last), (least, _, most) = low.values[0].partition("-"), high.values[0].partition("-")
    if last != "65535" or least != "0":
        return None
    return Condition(low.field, (f"{first}-{most}",))


def decode_element(element: bytes) -> Element:
    """An element of a set, as nf_tables dumps it."""
    told = dict(attributes(element))
    data = dict(attributes(told.get(2, b"")))
    return Element(_value(told.get(1)) or b"", bool(_number(told.get(3)) & 1), data.get(2, b""))


def device(hook: bytes) -> str:
    """The device in an attribute NFTA_CHAIN_HOOK, if there is one."""
    return words(dict(attributes(hook)).get(3, b""))
