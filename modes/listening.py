"""How does news of commits to nf_tables arrive, while they happen?

A socket of its own in the multicast group of nf_tables. What our own sockets cause is dropped in
the kernel, before it takes room or wakes anybody.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from endpoints.names import Family
from modes.base import Foreign
from modes.commits import (
    GROUP,
    LOST,
    NEWCHAIN,
    NEWRULE,
    Change,
    Commit,
    Reading,
    get_chains,
    get_rules,
    only_of,
    place,
)
from modes.wire import NLMSG_DONE, NLMSG_ERROR, Reply, replies

Judge = Callable[[Commit], tuple[Foreign, ...]]
"""What of a commit is news."""

_NETLINK_NETFILTER, _SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 12, 270, 1
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_ROOM = 1 << 25
_DATAGRAM = 1 << 18
_QUIET_SECONDS = 0.05
"""When nothing more was told for so long, nobody will tell the author any more."""
_PROGRAM, _INSTRUCTION = struct.Struct("@HP"), struct.Struct("@HBBI")


class CommitWatch:
    """Hears of commits by others, in the network namespace of the thread that makes it.

    Opening it loads the module nf_tables. Raises OSError.
    """

    def __init__(
        self,
        marks: Iterable[bytes],
        ours: Callable[[Change], bool],
        judge: Judge,
        own_ports: Collection[int] = (),
    ) -> None:
        """Listen from now on; `marks` and `ours` as of Reading, `judge` runs in who waits."""
        self._reading = Reading(marks, ours)
        self._judge = judge
        self._own_ports = set(own_ports)
        self._lock = threading.Lock()
        self._is_waiting = False
        self._closed = threading.Event()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            self._socket.settimeout(0)
            enlarge(self._socket)
            attach(self._socket, only_of(self._own_ports))
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, GROUP)
            self._wake = os.eventfd(0)
        except BaseException:
            self._socket.close()
            raise

    def ignore(self, port: int, *, on: bool) -> None:
        """Take what the socket with this netlink port causes for ours from now on, or no more."""
        with self._lock:
            (self._own_ports.add if on else self._own_ports.discard)(port)
            if not self._closed.is_set():
                attach(self._socket, only_of(self._own_ports))

    def wait(self) -> tuple[Foreign, ...]:
        """Sleep until there is news; empty only after `close`. Raises OSError."""
        with self._lock:
            if self._closed.is_set():
                return ()
            self._is_waiting = True
        try:
            return self._wait()
        finally:
            with self._lock:
                self._is_waiting = False
                if self._closed.is_set():
                    self._release()

    def close(self) -> None:
        """Wake who waits, for good."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._is_waiting:
                os.eventfd_write(self._wake, 1)
            else:
                self._release()

    def _release(self) -> None:
        self._socket.close()
        os.close(self._wake)

    def _wait(self) -> tuple[Foreign, ...]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        news: list[Foreign] = []
        until = 0.0
        while not (news and time.monotonic() >= until):
            is_pending = self._reading.is_pending
            patience = _QUIET_SECONDS * 1000 if is_pending else 0 if news else None
            ready = poll.poll(patience)
            if any(descriptor == self._wake for descriptor, _ in ready):
                return ()
            was_quiet = not news
            if ready:
                news += self._read()
            elif is_pending:
                news += self._judge(self._reading.rest())
            if not ready and news:
                break
            if was_quiet and news:
                until = time.monotonic() + _QUIET_SECONDS
        return tuple(dict.fromkeys(news))

    def _read(self) -> tuple[Foreign, ...]:
        try:
            datagram = self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            return ()
        except OSError as fault:
            if fault.errno != errno.ENOBUFS:
                raise
            return (LOST,)
        commit = self._reading.take(datagram)
        return self._judge(commit) if commit else ()


def rules_of(family: Family, table: str, chain: str) -> list[bytes]:
    """The attributes of each rule of a chain; none if there is no such chain. Raises OSError."""
    return _dumped(get_rules(family, table, chain))


def chain_names(family: Family) -> list[tuple[str, str]]:
    """The table and the name of every chain. Raises OSError."""
    return [place(chain, NEWCHAIN) for chain in _dumped(get_chains(family))]


def chains_of(family: Family, table: str) -> dict[str, list[bytes]]:
    """All chains of a table, with the attributes of each rule. Raises OSError."""
    found: dict[str, list[bytes]] = {chain: [] for of, chain in chain_names(family) if of == table}
    for rule in _dumped(get_rules(family, table)):
        _, chain = place(rule, NEWRULE)
        found.setdefault(chain, []).append(rule)
    return found


def _dumped(request: bytes) -> list[bytes]:
    """The attributes of all that the kernel lists, at one moment."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
        while True:
            asking.sendall(request)
            found = list(_answers(asking))
            if not any(answer.interrupted or answer.error == errno.EINTR for answer in found):
                return [answer.payload for answer in found if not answer.error]


def _answers(asking: socket.socket) -> Iterator[Reply]:
    while True:
        for answer in replies(asking.recv(_DATAGRAM)):
            if answer.kind == NLMSG_DONE:
                return
            yield answer
            if answer.kind == NLMSG_ERROR:
                return


def enlarge(sock: socket.socket) -> None:
    """Give it room for much news; without privilege in the first user namespace, the limit's."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    except PermissionError:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)


def attach(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let a program of classic BPF decide what the socket receives; one before it goes at once.

    Its instructions: code, jump if true, jump if false, constant.
    """
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in program))
    told = _PROGRAM.pack(len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)
