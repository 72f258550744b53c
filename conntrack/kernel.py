"""How are the kernel's tracked flows listed and forgotten, and how is it heard what they do?

A netlink socket works while sendmsg runs: when that returns, every message of it was executed, and
what there is to say waits in our receive buffer. Taking a part of a dump makes the next part.
"""

from __future__ import annotations

import errno as errors
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress

from conntrack import flows
from conntrack.flows import Filter, Flow
from conntrack.traffic import DESTROY_GROUP, NEW_GROUP
from modes.base import KernelFault, Missing, NotPermitted
from modes.wire import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    Reply,
    message,
    replies,
)

AT_ONCE = 256
"""Messages of one sendmsg: should every one of them fail, the answers fit into any buffer."""
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 1, 10, 11
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1 << 20
_DATAGRAM = 1 << 16
"""Room for an answer: the kernel makes the datagrams of a dump 32 KB at most (since 4.9)."""
_EVENTS_BUFFER = 1 << 25
"""What comes in a second while somebody lists flows: each event takes about 1 KB of it."""
_EVENT = 1 << 12
_UNFINISHED = "conntrack did not list its flows to the end"
_ABSENT = (errors.EINVAL, errors.EOPNOTSUPP, errors.ENOTSUP)


class Kernel:
    """A connection to conntrack in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        """Open the socket; nothing is asked yet.

        Raises Missing: this kernel has no nfnetlink.
        """
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as fault:
            raise Missing(f"this kernel has no nfnetlink: {fault.strerror}") from fault
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        # Without privilege in the first user namespace the system's limit holds.
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._sequence = 0
        self.messages = 0
        """Sent so far."""
        self.dumps = 0
        """Of these, how many asked for a list."""
        self.bytes_received = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def dump(self, of: Filter) -> Iterator[bytes]:
        """The entries that the filter lets through, without their openings.

        On a kernel before 5.8: all of the family. An entry that comes and goes meanwhile may be
        missed or told twice; what was there all the time is told.

        Raises KernelFault, and EnvironmentFault without conntrack or privilege.
        """
        self._ask(of)
        for answer in self._waiting():
            if answer.sequence != self._sequence:
                continue
            if answer.kind in (NLMSG_ERROR, NLMSG_DONE):
                if answer.error:
                    raise _fault(answer, "list flows")
                return
            yield answer.payload
        raise KernelFault(_UNFINISHED)

    def datagrams(self, of: Filter) -> Iterator[bytes]:
        """The same entries in the datagrams in which they come: `traffic.sightings` reads these.

        All must be taken. Raises as `dump`.
        """
        self._ask(of)
        datagram = b""
        for datagram in self._received():
            yield datagram
        for answer in replies(datagram):  # the end is in the last one
            if answer.error:
                raise _fault(answer, "list flows")
            if answer.kind == NLMSG_DONE:
                return
        raise KernelFault(_UNFINISHED)

    def _ask(self, of: Filter) -> None:
        self._sequence += 1
        self.dumps += 1
        self._transmit(message(flows.GET, NLM_F_DUMP, self._sequence, flows.listing(of)), 1)

    def delete(self, lies: Sequence[Flow]) -> int:
        """Forget these entries, unless they are gone already. Returns how many there were.

        All are tried. Raises KernelFault, and EnvironmentFault without privilege.
        """
        done = 0
        refusals: list[Reply] = []
        for start in range(0, len(lies), AT_ONCE):
            batch = lies[start : start + AT_ONCE]
            refused = self._send([flows.deletion(flow) for flow in batch])
            done += len(batch) - len(refused)
            refusals += [answer for answer in refused if answer.error != errors.ENOENT]
        if refusals:
            raise _fault(refusals[0], f"forget {len(refusals)} flows")
        return done

    def _send(self, deletions: Sequence[bytes]) -> list[Reply]:
        """Tell them, and return the errors."""
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(deletions)
        framed = [
            message(flows.DELETE, NLM_F_ACK if number == last else 0, number, payload)
            for number, payload in enumerate(deletions, first)
        ]
        self._transmit(b"".join(framed), len(deletions))
        answers = [answer for answer in self._waiting() if first <= answer.sequence <= last]
        if any(answer.error == errors.EPERM for answer in answers):
            raise _fault(answers[0], "forget flows")
        if not any(answer.sequence == last for answer in answers):
            raise KernelFault("conntrack gave no answer to what it was told")
        return [answer for answer in answers if answer.error]

    def _transmit(self, data: bytes, messages: int) -> None:
        self.messages += messages
        try:
            self._socket.sendall(data)
        except OSError as fault:
            raise KernelFault(
                f"{len(data)} bytes cannot be sent to conntrack: {fault.strerror}"
            ) from fault

    def _waiting(self) -> Iterator[Reply]:
        """The answers that are in the buffer."""
        for datagram in self._received():
            yield from replies(datagram)

    def _received(self) -> Iterator[bytes]:
        """What is in the buffer."""
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as fault:
                raise KernelFault(f"answers of conntrack are lost: {fault.strerror}") from fault
            self.bytes_received += len(datagram)
            yield datagram


class Events:
    """Hears of flows that begin and end, in the network namespace of the thread that makes it.

    Flows that began before are heard of when they end only if `nf_conntrack_events` is 1: by
    default (2, since Linux 6.0) the kernel notes at the beginning whether anybody listens.
    """

    def __init__(self) -> None:
        """Listen from now on. Raises NotPermitted, and Missing without nfnetlink or conntrack."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as fault:
            raise Missing(f"this kernel has no nfnetlink: {fault.strerror}") from fault
        try:
            self._socket.bind((0, 0))
            self._enlarge()
            for group in (NEW_GROUP, DESTROY_GROUP):
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except PermissionError as fault:
            self._socket.close()
            raise NotPermitted("conntrack tells no events: CAP_NET_ADMIN is missing") from fault
        except OSError as fault:
            self._socket.close()
            raise Missing(f"this kernel's conntrack tells no events: {fault.strerror}") from fault

    def _enlarge(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENTS_BUFFER)
        except PermissionError:  # no privilege in the first user namespace: the system's limit
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENTS_BUFFER)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def fileno(self) -> int:
        """To be waited for."""
        return self._socket.fileno()

    def take(self) -> Iterator[bytes | None]:
        """The datagrams that have come, for `traffic.sightings`; None: here some were lost.

        Raises KernelFault.
        """
        while True:
            try:
                yield self._socket.recv(_EVENT, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as fault:
                if fault.errno != errors.ENOBUFS:
                    raise KernelFault(f"events of conntrack: {fault.strerror}") from fault
                yield None


def _fault(answer: Reply, what: str) -> Exception:
    name = errors.errorcode.get(answer.error, str(answer.error))
    said = f"{os.strerror(answer.error)} ({name})" + (f": {answer.reason}" if answer.reason else "")
    if answer.error == errors.EPERM:
        return NotPermitted(f"conntrack does not {what}: CAP_NET_ADMIN is missing")
    if answer.error in _ABSENT:
        return Missing(f"this kernel's conntrack cannot {what} over netlink: {said}")
    return KernelFault(f"conntrack does not {what}: {said}")
