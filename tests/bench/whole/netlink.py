"""What does nf_tables hold, asked in small questions? Each costs microseconds and changes nothing.

Whoever asks by `nft` loads the whole ruleset first. The messages are packed as the product packs
its own (modes.nftables.netlink); the socket is the observer's.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.wire import words

_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE, _RECEIVE_BUFFER = 33, 1 << 22
_DATAGRAM = 1 << 16
_AT_ONCE = 64
"""Questions in one system call: without privilege a socket has room for about 100 answers."""
_IPV4 = nl.NFPROTO[Family.IPV4]

Attributes = dict[int, bytes]


class Asking:
    """A connection to nf_tables in the network namespace of the thread that makes it. IPv4 only."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        with suppress(PermissionError):  # what a socket has without it is enough for _AT_ONCE
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def generation(self) -> int:
        """The number of the ruleset: each commit makes another one. Raises OSError."""
        answer = self._answers(nl.GETGEN, 0, [b""])[0]
        if answer.error:
            raise OSError(answer.error, os.strerror(answer.error))
        return int.from_bytes(dict(nl.attributes(answer.payload))[nl.NFTA_GEN_ID], "big")

    def elements(self, table: str, name: str, keys: Sequence[bytes]) -> list[Attributes | None]:
        """The elements of a set with these keys; None for one that is not there. Raises OSError."""
        names = nl.element_list(table, name, ())
        bodies = [names + _before_key(len(key)) + key for key in keys]
        found: list[Attributes | None] = []
        for first in range(0, len(bodies), _AT_ONCE):
            asked = bodies[first : first + _AT_ONCE]
            for answer in self._answers(nl.GETSETELEM, _IPV4, asked):
                _raise_unless_absent(answer)
                found.append(None if answer.error else next(_listed(answer)))
        return found

    def all_elements(self, table: str, name: str) -> list[Attributes]:
        """The elements of a small set; none if it is not there. Raises OSError."""
        dump = self._dump(nl.GETSETELEM, nl.element_list(table, name, ()))
        return [element for answer in dump for element in _listed(answer)]

    def rules(self, table: str, chain: str) -> list[list[tuple[str, Attributes]]]:
        """The rules of one chain, if there is one: names of expressions, and what these hold.

        Raises OSError.
        """
        return [list(_expressions(rule)) for rule in self.unread_rules(table, chain)]

    def unread_rules(self, table: str, chain: str) -> list[bytes]:
        """The same as the attributes of each rule: reading them costs more than asking."""
        asked = nl.text(nl.NFTA_RULE_TABLE, table) + nl.text(nl.NFTA_RULE_CHAIN, chain)
        return [answer.payload for answer in self._dump(nl.GETRULE, asked)]

    def _answers(self, kind: int, nfproto: int, bodies: Sequence[bytes]) -> list[nl.Reply]:
        """The one answer to each of several questions: an object, or why there is none."""
        first = self._sequence + 1
        self._sequence += len(bodies)
        self._socket.send(
            b"".join(
                nl.nft_message(kind, 0, nfproto, sequence, body)
                for sequence, body in enumerate(bodies, first)
            )
        )
        answers: list[nl.Reply] = []
        while len(answers) < len(bodies):
            received = nl.replies(self._socket.recv(_DATAGRAM))
            answers += [answer for answer in received if answer.sequence >= first]
        return answers

    def _dump(self, kind: int, body: bytes) -> list[nl.Reply]:
        """The messages of a dump, also of one that a commit cut short: the generation tells."""
        self._sequence += 1
        self._socket.send(nl.nft_message(kind, nl.NLM_F_DUMP, _IPV4, self._sequence, body))
        answers: list[nl.Reply] = []
        while True:
            for answer in nl.replies(self._socket.recv(_DATAGRAM)):
                if answer.sequence != self._sequence:
                    continue
                _raise_unless_absent(answer)
                if answer.kind in (nl.NLMSG_ERROR, nl.NLMSG_DONE):
                    return answers
                answers.append(answer)


@cache
def _before_key(size: int) -> bytes:
    """What precedes the one key of a list of elements; keys are whole words."""
    key = nl.nested(nl.NFTA_ELEM_KEY, nl.attr(nl.NFTA_DATA_VALUE, bytes(size)))
    listed = nl.nested(nl.NFTA_LIST_ELEM, key)
    return nl.nested(nl.NFTA_ELEM_LIST_ELEMENTS, listed)[:-size]


def _listed(answer: nl.Reply) -> Iterator[Attributes]:
    for kind, listed in nl.attributes(answer.payload):
        if kind == nl.NFTA_ELEM_LIST_ELEMENTS:
            for _, element in nl.attributes(listed):
                yield dict(nl.attributes(element))


def _expressions(payload: bytes) -> Iterator[tuple[str, Attributes]]:
    rule = dict(nl.attributes(payload))
    for _, expression in nl.attributes(rule.get(nl.NFTA_RULE_EXPRESSIONS, b"")):
        parts = dict(nl.attributes(expression))
        inside = dict(nl.attributes(parts.get(nl.NFTA_EXPR_DATA, b"")))
        yield words(parts[nl.NFTA_EXPR_NAME]), inside


def verdict(element: Attributes) -> tuple[int, str]:
    """The code of a verdict map's element (NFT_GOTO and others), and the chain it leads to."""
    data = dict(nl.attributes(element[nl.NFTA_ELEM_DATA]))[nl.NFTA_DATA_VERDICT]
    parts = dict(nl.attributes(data))
    code = int.from_bytes(parts[nl.NFTA_VERDICT_CODE], "big", signed=True)
    return code, words(parts.get(nl.NFTA_VERDICT_CHAIN, b""))


def value(element: Attributes, kind: int) -> bytes:
    """The key or the data of an element (NFTA_ELEM_KEY, NFTA_ELEM_DATA), as registers hold it."""
    return dict(nl.attributes(element[kind]))[nl.NFTA_DATA_VALUE]


def _raise_unless_absent(answer: nl.Reply) -> None:
    # EINTR: a commit came between; what was read is of no generation, and is thrown away.
    if answer.error not in (0, errno.ENOENT, errno.EINTR):
        raise OSError(answer.error, f"nf_tables cannot be read: {os.strerror(answer.error)}")
