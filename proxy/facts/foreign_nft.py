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
from modes.wire import attributes, text, words
from proxy.facts.foreign import Condition, Field, ForeignRule, Kind
from proxy.facts.foreign_expressions import WRITERS, Expression, expression, payloads
from proxy.facts.foreign_values import (
    Element,
    Loaded,
    between,
    chosen,
    joined_bounds,
    said,
    text_of,
    values,
)

_CODES = {0: Kind.DROP, 1: Kind.ACCEPT, -5: Kind.RETURN, -3: Kind.JUMP, -4: Kind.GOTO}
_CONTINUE = -1
_TARGETS = {
    "DNAT": Kind.DNAT,
    "MASQUERADE": Kind.MASQUERADE,
    "NOTRACK": Kind.NOTRACK,
    "REDIRECT": Kind.REDIRECT,
    "REJECT": Kind.REJECT,
    "SNAT": Kind.SNAT,
    "TPROXY": Kind.TPROXY,
}
_TARGET, _MATCH, _COMMENT = (text(1, name) for name in ("target", "match", "comment"))
_IPV6 = Condition(Field.FAMILY, ("ip6",))
_ENDS = ("queue", "synproxy", "fwd")
_STATEMENTS = ("counter", "log", "last", "dup", "flow_offload", *WRITERS)
"""They let each packet go on; some of them write into it, or into what is known of it."""
_OPAQUE_OBJECTS = (2, 4)
"""Of objref: a quota and a limit; the others let each packet go on."""


class Dumped(NamedTuple):
    """A rule as nf_tables dumps it."""

    handle: int
    expressions: bytes


Sets = Callable[[str], tuple[Element, ...] | None]
"""The elements of an anonymous set of the table, by its name; None: they were not read."""


def dumped(rule: bytes) -> Dumped:
    """The handle of a rule, and its expressions, still encoded."""
    told = dict(attributes(rule))
    return Dumped(int.from_bytes(told.get(3, b""), "big"), told.get(4, b""))


def of_kube_proxy(rule: ForeignRule) -> ForeignRule:
    """A rule of kube-proxy's own table: its maps lead from addresses and ports to Services."""
    if rule.kind is Kind.UNKNOWN and rule.to.startswith("vmap @service-"):
        return msgspec.structs.replace(rule, kind=Kind.DNAT, opaque=True, to="a Service's endpoint")
    return rule


def is_of_iptables(expressions: bytes) -> bool:
    """Whether an extension of iptables is in the rule, other than a comment."""
    return _TARGET in expressions or expressions.count(_MATCH) > expressions.count(_COMMENT)


def rules(family: str, rule: Dumped, sets: Sets) -> tuple[ForeignRule, ...]:
    """What a rule decides: one ForeignRule, one per element of a verdict map, or none."""
    reading = _Reading(family, sets)
    for one in payloads(rule.expressions):
        reading.take(expression(one))
    return tuple(reading.decided(rule.handle))


@lru_cache(maxsize=1024)
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

    def take(self, one: Expression) -> None:
        """The next expression."""
        if one.loads:
            self._load(one.word(1), one.loads[self._is_ipv6])
        elif one.name in _METHODS:
            _METHODS[one.name](self, one)
        elif one.name in _ENDS:
            self._end(Kind.UNKNOWN, one.name)
        elif one.name not in _STATEMENTS:
            self._registers.clear()  # it may have loaded any
            self._unread.append(one.name)

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

    def _load(self, word: int, what: Loaded) -> None:
        self._registers[word] = what
        self._constants.pop(word, None)

    @property
    def _is_ipv6(self) -> bool:
        if self._family in ("ip", "ip6"):
            return self._family == "ip6"
        return _IPV6 in self._conditions

    def _bitwise(self, one: Expression) -> None:
        source = self._registers.get(one.word(1))
        mask, xor = (_value(one.parts.get(key)) for key in (4, 5))
        if source is None or source.field is None or mask is None or any(xor or b""):
            name = source.name if source else "bitwise"
            self._load(one.word(2), Loaded(None, f"{name} & …", 0))
            return
        whole = mask.ljust(source.size, b"\0")
        self._load(one.word(2), source._replace(mask=whole))

    # What compares one.

    def _cmp(self, one: Expression) -> None:
        loaded = self._registers.get(one.word(1))
        value = _value(one.parts.get(3)) or b""
        self._meet(loaded, loaded and text_of(loaded, one.numbers.get(2, 0), value))

    def _range(self, one: Expression) -> None:
        loaded = self._registers.get(one.word(1))
        low, high = _value(one.parts.get(3)), _value(one.parts.get(4))
        condition = None
        if loaded and loaded.field and low and high and (found := between(loaded, low, high)):
            condition = Condition(loaded.field, (found,), bool(one.numbers.get(2, 0)))
        self._meet(loaded, condition)

    def _meet(self, loaded: Loaded | None, condition: Condition | None) -> None:
        if condition is None:
            self._unread.append(loaded.name if loaded else "cmp")
            return
        before = self._conditions[-1] if self._conditions else None
        whole = before and joined_bounds(before, condition)
        if whole:
            self._conditions[-1] = whole
        else:
            self._conditions.append(condition)

    def _lookup(self, one: Expression) -> None:
        loaded = self._registers.get(one.word(2))
        name = words(one.parts.get(1, b""))
        elements = self._sets(name)
        if 3 in one.parts and one.numbers[3]:  # noqa: PLR2004 (a register: a map of values)
            self._unread.append(f"map {name}")
            self._load(one.word(3), Loaded(None, f"map {name}", 0))
        elif 3 in one.parts:  # noqa: PLR2004 (the verdict's register)
            self._verdict_map(name, loaded, elements)
        else:
            negated = bool(one.numbers.get(5, 0) & 1)
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

    def _immediate(self, one: Expression) -> None:
        data = dict(attributes(one.parts.get(2, b"")))
        if one.numbers.get(1, 0):
            self._constants[one.word(1)] = data.get(1, b"")
            return
        kind, to = verdict(data.get(2, b""))
        if kind:
            self._end(kind, to)

    def _nat(self, one: Expression) -> None:
        kind = Kind.DNAT if one.numbers.get(1, 0) else Kind.SNAT
        address = self._constants.get(one.word(3), b"") if 3 in one.parts else b""  # noqa: PLR2004 (minimal address)
        self._end(kind, self._place(address, one, 5))

    def _redir(self, one: Expression) -> None:
        self._end(Kind.REDIRECT, self._place(b"", one, 1))

    def _tproxy(self, one: Expression) -> None:
        self._end(Kind.TPROXY, self._place(b"", one, 3))

    def _place(self, address: bytes, one: Expression, port: int) -> str:
        number = self._constants.get(one.word(port), b"")[:2] if port in one.parts else b""
        known = unpack(address) if len(address) in (4, 16) else ""
        shown = f"[{known}]" if ":" in known else known
        return f"{shown}:{int.from_bytes(number, 'big')}" if number else known

    def _masq(self, _: Expression) -> None:
        self._end(Kind.MASQUERADE)

    def _reject(self, _: Expression) -> None:
        self._end(Kind.REJECT)

    def _notrack(self, _: Expression) -> None:
        self._end(Kind.NOTRACK)

    def _objref(self, one: Expression) -> None:
        if one.numbers.get(1, 0) in _OPAQUE_OBJECTS or 3 in one.parts:  # noqa: PLR2004 (a map of them)
            self._unread.append("object")

    # Extensions of iptables.

    def _match(self, one: Expression) -> None:
        if (name := words(one.parts.get(1, b""))) != "comment":
            self._unread.append(f"-m {name}")

    def _target(self, one: Expression) -> None:
        if kind := _TARGETS.get(words(one.parts.get(1, b""))):
            self._end(kind)


_METHODS: Mapping[str, Callable[[_Reading, Expression], None]] = {
    name: getattr(_Reading, f"_{name}")
    for name in (
        "bitwise",
        "cmp",
        "range",
        "lookup",
        "immediate",
        "nat",
        "redir",
        "tproxy",
        "masq",
        "reject",
        "notrack",
        "objref",
        "match",
        "target",
    )
}


def _only(more: Condition | None) -> tuple[Condition, ...]:
    return () if more is None else (more,)


@lru_cache(maxsize=8192)
def _value(data: bytes | None) -> bytes | None:
    return dict(attributes(data or b"")).get(1)


def decode_element(element: bytes) -> Element:
    """An element of a set, as nf_tables dumps it."""
    told = dict(attributes(element))
    data = dict(attributes(told.get(2, b"")))
    return Element(
        _value(told.get(1)) or b"",
        bool(int.from_bytes(told.get(3, b""), "big") & 1),
        data.get(2, b""),
    )


def device(hook: bytes) -> str:
    """The device in an attribute NFTA_CHAIN_HOOK, if there is one."""
    return words(dict(attributes(hook)).get(3, b""))
