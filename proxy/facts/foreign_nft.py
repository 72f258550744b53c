"""What does a rule of nf_tables decide, and on which conditions? Pure.

A rule's expressions load fields into registers and compare them. What is loaded is followed;
whatever else a rule asks for makes it opaque. Numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from endpoints.addresses import unpack
from modes.wire import attributes, text, words
from proxy.facts.foreign import Condition, Field, ForeignRule, Kind
from proxy.facts.foreign_expressions import WRITERS, Expression, expression, payloads
from proxy.facts.foreign_values import (
    Element,
    Elements,
    Loaded,
    Row,
    between,
    chosen,
    joined_bounds,
    rows,
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
_ANONYMOUS = "__"
"""How the names of anonymous sets and maps begin: `__set0`, `__map1`."""
_SOME_MAP = "vmap { … }"
_STATEMENTS = ("counter", "log", "last", "dup", "flow_offload", *WRITERS)
"""They let each packet go on; some of them write into it, or into what is known of it."""
_OPAQUE_OBJECTS = (2, 4)
"""Of objref: a quota and a limit; the others let each packet go on."""


class Dumped(NamedTuple):
    """A rule as nf_tables dumps it."""

    handle: int
    expressions: bytes


Sets = Callable[[str], Elements | None]
"""The elements of a set of the table, by its name; None: they were not read."""


def dumped(rule: bytes) -> Dumped:
    """The handle of a rule, and its expressions, still encoded."""
    told = dict(attributes(rule))
    return Dumped(int.from_bytes(told.get(3, b""), "big"), told.get(4, b""))


def of_kube_proxy(rule: ForeignRule) -> ForeignRule:
    """A rule of kube-proxy's own table.

    Its maps lead from addresses and ports to Services, and from there to endpoints by chance.
    """
    if rule.kind is Kind.UNKNOWN and rule.to.startswith(("vmap @service-", _SOME_MAP)):
        return msgspec.structs.replace(rule, kind=Kind.DNAT, opaque=True, to="a Service's endpoint")
    return rule


def is_of_iptables(expressions: bytes) -> bool:
    """Whether an extension of iptables is in the rule, other than a comment."""
    return _TARGET in expressions or expressions.count(_MATCH) > expressions.count(_COMMENT)


def rules(family: str, rule: Dumped, sets: Sets) -> tuple[ForeignRule, ...]:
    """What a rule decides: nothing, one ForeignRule, or one per element.

    The elements are those of a verdict map, or of a set of concatenated fields.
    """
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
        self._rows: list[tuple[Condition, ...]] = [()]
        """One of these is met, besides the conditions."""
        self._ends: list[tuple[Kind, str, tuple[Condition, ...]]] = []

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
                said((*conditions, *row, *more), self._unread, kind, to),
                handle,
                (*conditions, *row, *more),
                bool(self._unread),
                to,
            )
            for kind, to, more in self._ends
            for row in self._rows
        ]

    def _end(self, kind: Kind, to: str = "", only: tuple[Condition, ...] = ()) -> None:
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
        name = words(one.parts.get(1, b""))
        if 3 in one.parts and one.numbers[3]:  # noqa: PLR2004 (a register: a map of values)
            self._unread.append(f"map {name}")
            self._load(one.word(3), Loaded(None, f"map {name}", 0))
            return
        elements = self._sets(name)
        fields = self._fields(one.word(2), elements)
        if 3 in one.parts:  # noqa: PLR2004 (the verdict's register)
            self._verdict_map(name, _asked(fields, elements))
            return
        negated = bool(one.numbers.get(5, 0) & 1)
        if not self._is_one_of(name, fields, elements, negated=negated):
            known = " . ".join(loaded.name for loaded in fields)
            self._unread.append(f"{known} @{name}".strip())

    def _fields(self, word: int, elements: Elements | None) -> list[Loaded]:
        """What makes up the key of a set, from a register on."""
        size = len(elements.listed[0].key) if elements and elements.listed else 1
        found: list[Loaded] = []
        while size > 0 and (loaded := self._registers.get(word)) and loaded.size:
            found.append(loaded)
            size -= loaded.aligned
            word += loaded.aligned // 4
        return found

    def _is_one_of(
        self, name: str, fields: list[Loaded], elements: Elements | None, *, negated: bool
    ) -> bool:
        """Whether it can be said that the key is in the set; if so, it is."""
        if elements is None or not fields:
            return False
        if len(fields) == 1:
            shown = "" if name.startswith(_ANONYMOUS) else name
            found = chosen(fields[0], elements, negated=negated, set_name=shown)
            if found is not None:
                self._conditions.append(found)
            return found is not None
        asked = _asked(fields, elements)
        if asked is None or negated or self._rows != [()]:
            return False
        self._rows = [conditions for conditions, _ in asked]
        return True

    def _verdict_map(self, name: str, asked: list[Row] | None) -> None:
        if asked is None:
            anonymous = name.startswith(_ANONYMOUS)
            self._end(Kind.UNKNOWN, _SOME_MAP if anonymous else f"vmap @{name}")
            return
        for conditions, one in asked:
            kind, to = verdict(one.verdict)
            if kind:
                self._end(kind, to, conditions)

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


def _asked(fields: list[Loaded], elements: Elements | None) -> list[Row] | None:
    """What each element of a set asks for; None: it cannot be said."""
    if elements is None or not fields:
        return None
    field = fields[0].field
    if len(fields) > 1 or field is None:
        return rows(fields, elements)
    found = values(fields[0], elements)
    return None if found is None else [((Condition(field, (v,)),), one) for v, one in found]


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
        _value(told.get(10)) or b"",
        any(_decides(expressions) for expressions in _of_element(told)),
    )


def _of_element(told: Mapping[int, bytes]) -> Iterator[bytes]:
    """The expressions of an element: one (NFTA_SET_ELEM_EXPR), or a list of them."""
    if 7 in told:  # noqa: PLR2004
        yield told[7]
    yield from payloads(told.get(11, b""))


def _decides(element_expression: bytes) -> bool:
    name = words(dict(attributes(element_expression)).get(1, b""))
    return name not in _STATEMENTS


def device(hook: bytes) -> str:
    """The device in an attribute NFTA_CHAIN_HOOK, if there is one."""
    return words(dict(attributes(hook)).get(3, b""))
