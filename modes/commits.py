"""Who changed what in nf_tables, as its notifications have it? Pure.

The kernel tells each object of a commit to who listens (group NFNLGRP_NFTABLES), and at its end
the process that made it (NFT_MSG_NEWGEN, with name and process ID since Linux 4.14). What packets
add to sets, and what runs out in them, it does not tell. Since Linux 6.2 an object that is deleted
is told by its names and handle alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from endpoints.names import Family
from modes.base import Foreign
from modes.wire import (
    ADDRESS_FAMILY,
    HEADER,
    NLM_F_DUMP,
    Reply,
    attributes,
    message,
    replies,
    text,
    words,
)

GROUP = 7
"""NFNLGRP_NFTABLES"""

NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN = 0, 2, 3, 5
NEWRULE, DELRULE, NEWSET, DELSET, NEWELEMENT, DELELEMENT, NEWGEN = 6, 8, 9, 11, 12, 14, 15
NEWOBJECT, DELOBJECT, NEWFLOWTABLE, DELFLOWTABLE = 18, 20, 22, 24
_OF_OTHERS = (NEWOBJECT, DELOBJECT, NEWFLOWTABLE, DELFLOWTABLE)
DELETIONS = frozenset({DELTABLE, DELCHAIN, DELRULE, DELSET, DELELEMENT, DELOBJECT, DELFLOWTABLE})

LOST = Foreign("notifications were lost")
"""The kernel had more to tell than there was room for."""

_SUBSYSTEM, _GETCHAIN, _GETRULE = 10, 4, 7
_TABLE, _ELEMENTS = 1, 3
_NAME = {NEWCHAIN: 3, DELCHAIN: 3} | dict.fromkeys(
    (NEWRULE, DELRULE, NEWSET, DELSET, NEWELEMENT, DELELEMENT, *_OF_OTHERS), 2
)
"""By which attribute each kind of message names the object in its table: of a rule its chain, of
an element its set."""
_PID, _PROCESS = 2, 3
_TABLE_FAMILY = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_PHRASES = 3

_LOAD_PORT, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF: ld word abs, jeq, ret
_PORT_OFFSET = 12
_WHOLE = 0xFFFFFFFF


class Change(NamedTuple):
    """One or more objects of one kind that a commit made or deleted."""

    kind: int
    family: Family
    table: str
    name: str = ""
    """Of the chain or set; that of a rule, that of an element."""
    number: int = 1
    """How many elements."""
    payload: bytes = b""
    """All attributes, of a rule that is new."""


class Commit(NamedTuple):
    """What one commit did to what is looked for, and who made it."""

    changes: tuple[Change, ...]
    author: str = ""
    pid: int = 0


class Reading:
    """Puts commits together from the datagrams of the kernel.

    A datagram without any of these `marks` in it is passed over: others may have much to say.
    `ours` tells which changes count.
    """

    def __init__(self, marks: Iterable[bytes], ours: Callable[[Change], bool]) -> None:
        self._marks = tuple(marks)
        self._ours = ours
        self._pending: list[Change] = []

    @property
    def is_pending(self) -> bool:
        """Whether there are changes of which it is not said who made them."""
        return bool(self._pending)

    def take(self, datagram: bytes) -> Commit | None:
        """Read on; a commit of which this was the end and some of whose changes count."""
        if _kind(datagram) == NEWGEN:
            return next(map(self._end, replies(datagram)), None)
        if any(mark in datagram for mark in self._marks):
            self._pending += [change for change in _changes(datagram) if self._ours(change)]
        return None

    def rest(self) -> Commit:
        """The changes so far, without an author."""
        changes, self._pending = tuple(self._pending), []
        return Commit(changes)

    def _end(self, answer: Reply) -> Commit | None:
        changes = self.rest().changes
        if not changes:
            return None
        told = dict(attributes(answer.payload))
        pid = int.from_bytes(told.get(_PID, b""), "big")
        return Commit(changes, words(told.get(_PROCESS, b"")), pid)


def _kind(datagram: bytes) -> int:
    """Of its first message; the end of a commit comes alone."""
    if len(datagram) < HEADER.size:
        return -1
    kind: int = HEADER.unpack_from(datagram)[1]
    return kind & 0xFF if kind >> 8 == _SUBSYSTEM else -1


def _changes(datagram: bytes) -> Iterator[Change]:
    for answer in replies(datagram):
        kind = answer.kind & 0xFF
        if answer.family is None or answer.kind >> 8 != _SUBSYSTEM:
            continue
        told = dict(attributes(answer.payload))
        table = words(told.get(_TABLE, b""))
        if kind in (NEWTABLE, DELTABLE):
            yield Change(kind, answer.family, table)
        elif kind in _NAME:
            number = 1
            if kind in (NEWELEMENT, DELELEMENT):
                number = sum(1 for _ in attributes(told.get(_ELEMENTS, b"")))
            payload = answer.payload if kind == NEWRULE else b""
            name = words(told.get(_NAME[kind], b""))
            yield Change(kind, answer.family, table, name, number, payload)


def only_of(ports: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Instructions of classic BPF that drop what the sockets with these netlink ports caused.

    All messages of a datagram come from one commit, so the first one's port is that of all. Each:
    code, jump if true, jump if false, constant.
    """
    program = [(_LOAD_PORT, 0, 0, _PORT_OFFSET)]
    ports = sorted(ports)
    for left, port in zip(range(len(ports) - 1, -1, -1), ports, strict=True):
        # BPF loads words in network order; the header is in host order.
        loaded = int.from_bytes(port.to_bytes(4, sys.byteorder), "big")
        program.append((_IF_EQUAL, left + 1, 0, loaded))
    return [*program, (_RETURN, 0, 0, _WHOLE), (_RETURN, 0, 0, 0)]


def get_rules(family: Family, table: str, chain: str = "") -> bytes:
    """A request for the rules of one chain, or of a whole table."""
    asked = text(_TABLE, table) + (text(_NAME[NEWRULE], chain) if chain else b"")
    opening = bytes((ADDRESS_FAMILY[family], 0, 0, 0))
    return message(_SUBSYSTEM << 8 | _GETRULE, NLM_F_DUMP, 1, opening + asked)


def get_chains(family: Family) -> bytes:
    """A request for the chains of all tables of a family."""
    opening = bytes((ADDRESS_FAMILY[family], 0, 0, 0))
    return message(_SUBSYSTEM << 8 | _GETCHAIN, NLM_F_DUMP, 1, opening)


def place(payload: bytes, kind: int) -> tuple[str, str]:
    """The table, and the chain or set, that the attributes of such a message name."""
    told = dict(attributes(payload))
    return words(told.get(_TABLE, b"")), words(told.get(_NAME[kind], b""))


def described(
    changes: Iterable[Change], set_word: Callable[[str], str] = lambda _: "set"
) -> list[str]:
    """What happened, in an operator's words: `table ip headgate deleted`.

    `set_word` says of a set by its name whether it is a `set` or a `map`. What a deleted table held
    is not told besides.
    """
    changes = sorted(changes, key=attrgetter("family"))
    lost = {change[1:3] for change in changes if change.kind == DELTABLE}
    made = {change[1:3] for change in changes if change.kind == NEWTABLE}
    counts: dict[tuple[int, Family, str, str], int] = {}
    for change in changes:
        if change[1:3] not in lost or change.kind == DELTABLE:
            key = change[:4]
            counts[key] = counts.get(key, 0) + change.number
    return [
        _phrase(key, count, set_word, again=key[1:3] in lost & made)
        for key, count in counts.items()
    ]


def brief(phrases: list[str]) -> str:
    """The first of them, and how many there are besides."""
    if len(phrases) > _PHRASES + 1:
        phrases = [*phrases[:_PHRASES], f"and {len(phrases) - _PHRASES} more"]
    return ", ".join(phrases)


def _phrase(
    key: tuple[int, Family, str, str],
    count: int,
    set_word: Callable[[str], str],
    *,
    again: bool,
) -> str:
    kind, family, table, name = key
    where = f"{_TABLE_FAMILY[family]} {table}"
    # The kernel has one word for what is new and for what has new properties.
    verb = "deleted" if kind in DELETIONS else "added or changed"
    if kind in (NEWTABLE, DELTABLE):
        return f"table {where} {verb}" + (" and made anew" if again else "")
    if kind in (NEWCHAIN, DELCHAIN):
        return f"chain {where} {name} {verb}"
    if kind in (NEWSET, DELSET):
        return f"{set_word(name)} {where} {name} {verb}"
    if kind in (NEWOBJECT, DELOBJECT):
        return f"object {where} {name} {verb}"
    if kind in (NEWFLOWTABLE, DELFLOWTABLE):
        return f"flowtable {where} {name} {verb}"
    verb = "deleted" if kind in DELETIONS else "added"
    one, holder = ("rule", "chain") if kind in (NEWRULE, DELRULE) else ("element", set_word(name))
    return f"{count} {one}{'' if count == 1 else 's'} of {holder} {where} {name} {verb}"
