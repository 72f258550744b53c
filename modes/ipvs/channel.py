"""How do many messages travel in a few system calls, and whose is each answer?

A netlink socket works while sendmsg runs: when that returns, the kernel has executed every message
of it, and what it has to say about them is in our receive buffer.
"""

from __future__ import annotations

import errno as errors
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from modes.base import KernelFault
from modes.ipvs.inbox import Inbox, Letters
from modes.wire import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    OPENING_SIZE,
    Refusal,
    Reply,
    message,
    replies,
)

AT_ONCE = 256
"""Messages of one sendmsg: should every one of them fail, the answers fit into any buffer."""
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1 << 23
_DATAGRAM = 1 << 16
_DUMP_ATTEMPTS = 20


class Request(NamedTuple):
    """One message, without its number."""

    kind: int
    flags: int
    payload: bytes
    """The opening, and attributes."""


def spelled(errno: int) -> str:
    """An error for people: `Device or resource busy (EBUSY)`."""
    return f"{os.strerror(errno)} ({errors.errorcode.get(errno, errno)})"


class Channel:
    """A netlink socket in the network namespace of the thread that makes it."""

    def __init__(
        self, protocol: int, spell: Callable[[int], str] = spelled, opening: int = OPENING_SIZE
    ) -> None:
        """Open the socket; nothing is asked yet.

        Args:
            protocol: of netlink, as NETLINK_GENERIC.
            spell: how an error of the kernel reads.
            opening: the size of the header that precedes the attributes of an answer.

        Raises:
            OSError: the kernel has no such protocol.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        # Without privilege in the first user namespace the system's limit holds.
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._spell = spell
        self._opening = opening
        self._inbox: Inbox | None = None
        self._sequence = 0
        self.messages = 0
        """Sent so far."""
        self.sends = 0
        """System calls that it took to send them."""

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, requests: Sequence[Request]) -> list[Refusal]:
        """Send all of them, in order; a refused one does not stop those after it.

        Returns the refusals in the order of the requests. Raises KernelFault if they cannot be
        sent, or the answers do not tell what became of them.
        """
        refusals: list[Refusal] = []
        for start in range(0, len(requests), AT_ONCE):
            refusals += self._send(requests[start : start + AT_ONCE], start)
        return refusals

    def _send(self, requests: Sequence[Request], start: int) -> Iterator[Refusal]:
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        framed = [
            message(kind, flags if number != last else flags | NLM_F_ACK, number, payload)
            for number, (kind, flags, payload) in enumerate(requests, first)
        ]
        self._transmit(b"".join(framed), len(requests))
        acknowledged = False
        for answer in self._waiting():
            if answer.kind == NLMSG_ERROR and first <= answer.sequence <= last:
                acknowledged |= answer.sequence == last
                if answer.error:
                    index = start + answer.sequence - first
                    yield Refusal(index, answer.error, self.said(answer))
                    # The whole of a sendmsg is refused without CAP_NET_ADMIN.
                    acknowledged |= answer.error == errors.EPERM
        if not acknowledged:
            raise KernelFault("the kernel gave no answer to what it was told over netlink")

    def _transmit(self, data: bytes, messages: int) -> None:
        self.messages += messages
        self.sends += 1
        try:
            self._socket.sendall(data)
        except OSError as fault:
            raise KernelFault(
                f"{len(data)} bytes cannot be sent over netlink: {fault.strerror}"
            ) from fault

    def _waiting(self) -> Iterator[Reply]:
        """The answers that are in the buffer; taking a part of a dump makes the next one."""
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as fault:
                raise KernelFault(f"answers over netlink are lost: {fault.strerror}") from fault
            yield from replies(datagram, self._opening)

    def said(self, answer: Reply) -> str:
        """The error of an answer for people, with the kernel's own words where it has some."""
        return self._spell(answer.error) + (f": {answer.reason}" if answer.reason else "")

    def ask(self, request: Request) -> tuple[list[Reply], Reply]:
        """Send one request and read until it is answered.

        Returns the data, and what ended them: `error` is 0 if all went well. Raises KernelFault if
        nothing did.
        """
        self._sequence += 1
        flags = request.flags | (0 if request.flags == NLM_F_DUMP else NLM_F_ACK)
        data = message(request.kind, flags, self._sequence, request.payload)
        self._transmit(data, 1)
        found: list[Reply] = []
        for answer in self._waiting():
            if answer.sequence == self._sequence:
                if answer.kind in (NLMSG_ERROR, NLMSG_DONE):
                    return found, answer
                found.append(answer)
        raise KernelFault("the kernel gave no answer to what it was asked over netlink")

    def repeat(self, question: bytes, known: Letters) -> Letters | None:
        """Ask for everything of a kind by a whole message.

        Returns the answer, or the part of it that is read at once; None if it is `known` to the
        byte, which is what the last call for the same question returned. Raises KernelFault.
        """
        if self._inbox is None:
            self._inbox = Inbox(self._socket)
        try:
            if not known.headers:  # an answer that was lost would be taken for this one
                self._inbox.empty()
            self._transmit(question, 1)
            found = self._inbox.receive()
            if found == known:
                return None
            self._inbox.empty()  # the kernel begins no dump before the last one has ended
        except OSError as fault:
            raise KernelFault(f"answers over netlink are lost: {fault.strerror}") from fault
        return found

    def dump(self, request: Request) -> tuple[list[Reply], Reply]:
        """Like `ask`, for everything of a kind; again while it changes meanwhile.

        Raises KernelFault if that does not end.
        """
        listing = Request(request.kind, NLM_F_DUMP, request.payload)
        for _ in range(_DUMP_ATTEMPTS):
            found, end = self.ask(listing)
            if end.error != errors.EINTR and not any(answer.interrupted for answer in found):
                return found, end
        raise KernelFault("what the kernel lists changes too fast to be read")
