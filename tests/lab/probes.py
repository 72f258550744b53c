"""What happens to a connection? It is answered, refused, unreachable, broken, or lost in silence.

Sockets are opened inside the source's namespace and belong to it from then on. Connections of TCP
are closed by a reset, which leaves no TIME_WAIT behind, those of SCTP by an abort: a source can make
any number of them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from endpoints.names import Protocol
from tests.lab import namespaces, topology
from tests.lab.protocols import open_socket

IS_USER_MODE_LINUX = "User Mode Linux" in Path("/proc/cpuinfo").read_text()

DROP_SECONDS = 0.9 if IS_USER_MODE_LINUX else 0.3
"""How long silence must last to be a drop. The first TCP retransmission comes after 1 s; where one
processor is shared by all nodes, and slow, an answer may take a good part of that."""

_IN_FLIGHT = 24 if IS_USER_MODE_LINUX else 128
_ANSWER_BYTES = 256
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

# Python's socket module has no names for these.
_RECEIVE_ERRORS = ((socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25))  # IP_RECVERR, IPV6_RECVERR
_EXTENDED_ERROR = struct.Struct("IBBBBII")  # struct sock_extended_err
_SCTP_TIMEOUTS = (socket.IPPROTO_SCTP, 0)  # SOL_SCTP, SCTP_RTOINFO

# struct sctp_rtoinfo: association, then initial, longest, shortest milliseconds to a retransmission.
# An ICMP error that comes back while connect(2) still holds the socket is forgotten by SCTP, which
# has no error queue either: the next INIT must meet it soon.
_SCTP_SOON = struct.pack("iIII", 0, 50, 1000, 50)

_FRESH_PORTS = itertools.cycle(range(33000, 65000))


class Outcome(StrEnum):
    """What a client sees of its connection."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """TCP, SCTP: a reset or an abort instead of a handshake. Any: an ICMP port unreachable."""
    UNREACHABLE = "unreachable"
    """No route, or an ICMP error that is not about the port."""
    TIMEOUT = "timeout"
    """Silence: something dropped the packets."""
    BROKEN = "broken"
    """Established, then closed or reset before the answer was there."""


_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.EACCES: Outcome.UNREACHABLE,  # ICMPv6: administratively prohibited
    errno.ENOPROTOOPT: Outcome.UNREACHABLE,  # ICMP: protocol unreachable
    errno.EPROTO: Outcome.UNREACHABLE,  # ICMPv6: parameter problem
    errno.EPERM: Outcome.TIMEOUT,  # the kernel tells a sender of a drop in its own output hook
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    errno.ECONNRESET: Outcome.BROKEN,
    errno.EPIPE: Outcome.BROKEN,
}


@dataclass(frozen=True)
class Answer:
    """What happened to one connection."""

    kind: Outcome
    by: str | None = None
    """The machine that answered: a pod, or a node for its host network."""
    saw: str | None = None
    """The source address that it saw."""
    seconds: float = field(default=0.0, compare=False)
    """From the first packet to the outcome."""

    def __str__(self) -> str:
        """The outcome, and who answered."""
        if self.kind is not Outcome.ANSWERED:
            return self.kind
        return f"answered by {self.by}, which saw {self.saw}"


@dataclass(frozen=True)
class Target:
    """Where a connection goes to."""

    address: str
    port: int
    protocol: Protocol = Protocol.TCP
    source: str = ""
    """The address to come from; empty: whichever the kernel chooses. An SCTP socket without one
    tells its peer all addresses of the host: with IPVS also those of all Services."""

    def open(self) -> socket.socket:
        """A socket of the calling thread's namespace that has begun to connect.

        Raises:
            OSError: the kernel knows at once that it will not work.
        """
        family = (socket.AF_INET, socket.AF_INET6)[topology.family_index(self.address)]
        one = open_socket(family, self.protocol)
        one.settimeout(0)
        if self.protocol is not Protocol.UDP:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        if self.protocol is Protocol.SCTP:
            one.setsockopt(*_SCTP_TIMEOUTS, _SCTP_SOON)
        one.setsockopt(*_RECEIVE_ERRORS[topology.family_index(self.address)], 1)
        try:
            if self.protocol is Protocol.UDP or self.source or IS_USER_MODE_LINUX:
                _bind_to_fresh_port(one, self.source)
            with contextlib.suppress(BlockingIOError):
                one.connect((self.address, self.port))
            if self.protocol is Protocol.UDP:
                # EPERM: the node's own output hook took it. After a reject the socket holds the
                # port unreachable already; after a drop there is nothing but silence.
                with contextlib.suppress(PermissionError):
                    one.send(b"?")
        except OSError:
            one.close()
            raise
        return one


def _bind_to_fresh_port(one: socket.socket, source: str) -> None:
    """Take the port that was used longest ago.

    Conntrack remembers a UDP flow for 30 s: a port that is used again by chance would go where the
    rules of an earlier test sent it. IPVS, which is only met in user-mode Linux, tells answers apart
    by client and real server (ip_vs_conn_out_get): two connections from one port to two virtual
    servers with the same real server get in each other's way, and Linux gives a port to both.
    """
    while True:
        try:
            one.bind((source, next(_FRESH_PORTS)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return


class Connection:
    """An open connection that can be asked again and again."""

    def __init__(self, opened: socket.socket, settle: Callable[[], None]) -> None:
        """Take a socket that was connected; `settle` is that of the lab's servers."""
        self._socket = opened
        self._settle = settle

    @property
    def port(self) -> int:
        """The one of the source."""
        return int(self._socket.getsockname()[1])

    def ask(self, timeout: float = DROP_SECONDS) -> Answer:
        """Say something, and wait for the answer."""
        began = time.perf_counter()
        try:
            self._socket.send(b"?")
        except OSError as error:
            return _failure(error, began)
        return self.hear(timeout, began)

    def hear(self, timeout: float = DROP_SECONDS, began: float | None = None) -> Answer:
        """Wait for an answer that is due."""
        start = time.perf_counter() if began is None else began
        if not select.select([self._socket], [], [], timeout)[0]:
            self._settle()
        return _outcome(self._socket, start) or Answer(
            Outcome.TIMEOUT, seconds=time.perf_counter() - start
        )

    def close(self) -> None:
        """Close it, TCP by a reset, SCTP by an abort."""
        self._socket.close()


def connect(
    network: int, targets: Sequence[Target], timeout: float, settle: Callable[[], None]
) -> list[Answer]:
    """Open these connections from a namespace, many at a time; return the answers in their order.

    `settle` returns when the servers have answered everything that reached them: silence is called
    a drop only after it, so that a busy machine makes no drops.
    """
    with contextlib.closing(_Round(timeout, settle)) as probes:
        with namespaces.inside(network):
            for index, target in enumerate(targets):
                if probes.in_flight >= _IN_FLIGHT:
                    probes.collect(_IN_FLIGHT // 2)
                probes.begin(index, target)
        probes.collect(0)
        return [probes.answers[index] for index in range(len(targets))]


class _Round:
    """Connections that are being made, and the answers so far."""

    def __init__(self, timeout: float, settle: Callable[[], None]) -> None:
        self.answers: dict[int, Answer] = {}
        self._timeout = timeout
        self._settle = settle
        self._events = select.epoll()
        self._waiting: dict[int, tuple[int, socket.socket, float]] = {}

    def close(self) -> None:
        """Close what is still open."""
        for _, opened, _ in self._waiting.values():
            opened.close()
        self._events.close()

    @property
    def in_flight(self) -> int:
        """How many connections have no outcome yet."""
        return len(self._waiting)

    def begin(self, index: int, target: Target) -> None:
        """Open one connection."""
        began = time.perf_counter()
        try:
            opened = target.open()
        except OSError as error:
            self.answers[index] = _failure(error, began)
            return
        self._waiting[opened.fileno()] = (index, opened, began)
        self._events.register(opened.fileno(), select.EPOLLIN)

    def collect(self, remaining: int) -> None:
        """Wait until at most so many connections have no outcome yet."""
        while len(self._waiting) > remaining:
            _, _, oldest = next(iter(self._waiting.values()))
            patience = oldest + self._timeout - time.perf_counter()
            if patience <= 0:
                self._give_up()
            else:
                self._poll(patience)

    def _poll(self, timeout: float) -> None:
        for number, _ in self._events.poll(timeout):
            _, opened, began = self._waiting[number]
            if found := _outcome(opened, began):
                self._finish(number, found)

    def _give_up(self) -> None:
        """Call those that are overdue dropped, after a last look."""
        self._settle()
        self._poll(0)
        now = time.perf_counter()
        for number, (_, _, began) in tuple(self._waiting.items()):
            if now - began >= self._timeout:
                self._finish(number, Answer(Outcome.TIMEOUT, seconds=now - began))

    def _finish(self, number: int, found: Answer) -> None:
        index, opened, _ = self._waiting.pop(number)
        self._events.unregister(number)
        opened.close()
        self.answers[index] = found


def _outcome(opened: socket.socket, began: float) -> Answer | None:
    """What a socket holds: an answer, an error, or nothing yet."""
    try:
        words = opened.recv(_ANSWER_BYTES)
    except BlockingIOError:
        refusal = _icmp_error(opened)
        return _failure(refusal, began) if refusal else None
    except OSError as error:
        return _failure(error, began)
    seconds = time.perf_counter() - began
    if not words:
        return Answer(Outcome.BROKEN, seconds=seconds)
    by, _, saw = words.decode().strip().partition(" ")
    return Answer(Outcome.ANSWERED, by, saw, seconds)


def _icmp_error(opened: socket.socket) -> OSError | None:
    """The ICMP error that arrived for a socket, as an errno.

    The error queue has it in any case. The socket itself does not learn of an unreachable network
    (UDP), nor of an error that comes back while connect(2) still holds the socket (TCP), which is
    usual between namespaces of one kernel: it would try again after a second.
    """
    try:
        _, control, _, _ = opened.recvmsg(_ANSWER_BYTES, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    for level, kind, value in control:
        if (level, kind) in _RECEIVE_ERRORS:
            number = _EXTENDED_ERROR.unpack_from(value)[0]
            return OSError(number, os.strerror(number))
    return None


def _failure(error: OSError, began: float) -> Answer:
    """What an errno means to a client. Raises it if it is about the lab, not about the packets."""
    outcome = _OUTCOMES.get(error.errno or 0)
    if outcome is None:
        raise error
    return Answer(outcome, seconds=time.perf_counter() - began)
