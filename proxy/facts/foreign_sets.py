"""Which elements has a set of nf_tables, if they are few?

A set of others may hold any number of them. Reading ends where they become many; the kernel lists
them in portions, and what was not asked for goes with its socket.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

from modes.nftables import netlink as nl
from modes.wire import NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, attributes, replies
from proxy.facts.foreign_nft import decode_element
from proxy.facts.foreign_values import Element, Elements

DATAGRAM = 1 << 16
_NETLINK_NETFILTER = 12
_ANONYMOUS, _INTERVAL = 1, 4
"""Flags of a set (NFT_SET_*)."""
_FEW = 1000
"""Elements of one set that are still read."""
_IN_ALL = 20_000
"""Elements of named sets of one table: each rule that asks for a set is told all of them."""
_PER_SET = 10
"""What asking for a set counts, in elements, even for an empty one."""
_ATTEMPTS = 3


class Sets:
    """Elements of a table's sets, read when a rule asks for them."""

    def __init__(self, protocol: int, table: str, flags: Mapping[str, int]) -> None:
        """`protocol`: NFPROTO_*; `flags`: of all sets of the table, by their names."""
        self._protocol = protocol
        self._table = table
        self._flags = flags
        self._known: dict[str, Elements | None] = {}
        self._left = _IN_ALL

    def __call__(self, name: str) -> Elements | None:
        """None: they are many, or whether they match is not only a matter of their values."""
        flags = self._flags.get(name)
        if flags is None:
            return None
        if flags & _ANONYMOUS:
            return self._read(name, flags)
        if self._left <= 0:
            return None
        if name not in self._known:
            self._known[name] = self._read(name, flags)
        found = self._known[name]
        self._left -= _PER_SET + (len(found.listed) if found else 0)
        return found

    def _read(self, name: str, flags: int) -> Elements | None:
        for _ in range(_ATTEMPTS):
            with suppress(InterruptedError):
                found = _few(self._protocol, self._table, name)
                if found is None or any(one.is_conditional for one in found):
                    return None
                return Elements(found, bool(flags & _INTERVAL))
        return None


def opened() -> socket.socket:
    """A socket of nfnetlink. Raises OSError where the kernel has none."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    made.bind((0, 0))
    return made


def _few(protocol: int, table: str, name: str) -> tuple[Element, ...] | None:
    """Raises InterruptedError if the ruleset changed meanwhile."""
    body = nl.element_list(table, name, ())
    found: list[Element] = []
    with opened() as asking:
        asking.sendall(nl.nft_message(nl.GETSETELEM, NLM_F_DUMP, protocol, 1, body))
        while len(found) <= _FEW:
            for answer in replies(asking.recv(DATAGRAM)):
                if answer.interrupted:
                    raise InterruptedError
                if answer.error:
                    return None
                if answer.kind in (NLMSG_DONE, NLMSG_ERROR):
                    return tuple(found)
                listed = dict(attributes(answer.payload)).get(nl.NFTA_ELEM_LIST_ELEMENTS, b"")
                found += [decode_element(one) for _, one in attributes(listed)]
    return None
