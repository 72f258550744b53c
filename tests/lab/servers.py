"""Who answers in the pods? One thread that serves every pod of a lab.

Each machine has a socket of each protocol that the kernel speaks for each of its ports, for both
families, opened inside its namespace. A connection gets "<machine> <source address>" at once and again for each thing it says,
and stays open until the client closes it; a datagram gets the same answer.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from endpoints.names import Protocol
from tests.lab import namespaces
from tests.lab.protocols import open_socket, spoken

PORTS = (8080, 8081)

_BACKLOG = 4096
_PKTINFO = struct.Struct("16sI")  # struct in6_pktinfo
_DATAGRAM_BYTES = 2048

_Served = dict[socket.socket, None]
"""An ordered set: what is open on a machine."""


def answer(machine: str, source: str) -> bytes:
    """What a machine says to a client that it sees at this address."""
    return f"{machine} {source.removeprefix('::ffff:')}\n".encode()


class Servers:
    """The servers of one lab; every method may be called from any thread."""

    def __init__(self) -> None:
        """Start the thread; it serves nobody yet."""
        self._selector = selectors.EpollSelector()
        self._orders: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._bell, self._ear = socket.socketpair()
        self._ear.settimeout(0)
        self._selector.register(self._ear, selectors.EVENT_READ, self._hear)
        self._open: dict[str, _Served] = {}
        self._running = True
        self._thread = threading.Thread(target=self._run, name="lab servers", daemon=True)
        self._thread.start()

    def serve(self, machine: str, network: int, ports: Iterable[int] = PORTS) -> None:
        """Answer on these ports of a machine, whose namespace is an open descriptor.

        Raises:
            OSError: a port is taken.
        """
        with namespaces.inside(network), contextlib.ExitStack() as refused:
            opened = []
            for port in ports:
                opened += [refused.enter_context(_waiting(port, one)) for one in spoken()]
            refused.pop_all()
        self._order(partial(self._register, machine, opened))

    def stop(self, machine: str) -> None:
        """Answer whoever is waiting already, then close every socket of a machine."""
        self._order(partial(self._unregister, machine))

    def settle(self) -> None:
        """Return when everything that had reached a server before this call was answered."""
        self._order(partial(self._serve_waiting, 0))

    def close(self) -> None:
        """Stop every server and end the thread."""
        self._order(self._end)
        self._thread.join()
        self._selector.close()
        self._bell.close()
        self._ear.close()

    def _order(self, action: Callable[[], None]) -> None:
        """Let the thread do something and wait until it is done."""
        done: Future[None] = Future()
        self._orders.append((action, done))
        self._bell.send(b"!")
        done.result()

    def _run(self) -> None:
        while self._running:
            self._serve_waiting(None)
            while self._orders:
                action, done = self._orders.popleft()
                try:
                    action()
                except Exception as error:  # noqa: BLE001 -- raised again where it was ordered
                    done.set_exception(error)
                else:
                    done.set_result(None)

    def _serve_waiting(self, timeout: float | None) -> None:
        """Wait until something is there to serve, and serve all that is there."""
        for key, _ in self._selector.select(timeout):
            key.data(key.fileobj)

    def _hear(self, ear: socket.socket) -> None:
        ear.recv(_DATAGRAM_BYTES)

    def _register(self, machine: str, opened: Iterable[socket.socket]) -> None:
        served = self._open.setdefault(machine, {})
        for one in opened:
            serve = self._accept if one.type == socket.SOCK_STREAM else self._reply
            self._selector.register(one, selectors.EVENT_READ, partial(serve, machine))
            served[one] = None

    def _unregister(self, machine: str) -> None:
        self._serve_waiting(0)
        for one in self._open.pop(machine, {}):
            self._selector.unregister(one)
            one.close()

    def _end(self) -> None:
        for machine in tuple(self._open):
            self._unregister(machine)
        self._running = False

    def _accept(self, machine: str, listener: socket.socket) -> None:
        while True:
            try:
                connection, source = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # accept(2) reports what happened to the new connection
                if error.errno not in {errno.ECONNABORTED, errno.EPROTO}:
                    raise
                continue
            connection.settimeout(0)
            words = answer(machine, source[0])
            self._open[machine][connection] = None
            self._selector.register(
                connection, selectors.EVENT_READ, partial(self._converse, machine, words)
            )
            self._say(machine, connection, words)

    def _converse(self, machine: str, words: bytes, connection: socket.socket) -> None:
        """Answer again, or close after the client did."""
        try:
            heard = connection.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset, which is how a probe closes
            heard = b""
        if heard:
            self._say(machine, connection, words)
        else:
            self._hang_up(machine, connection)

    def _say(self, machine: str, connection: socket.socket, words: bytes) -> None:
        try:
            connection.send(words)
        except OSError:  # the client is gone already
            self._hang_up(machine, connection)

    def _hang_up(self, machine: str, connection: socket.socket) -> None:
        del self._open[machine][connection]
        self._selector.unregister(connection)
        connection.close()

    def _reply(self, machine: str, datagrams: socket.socket) -> None:
        """Answer from the address that was asked: the kernel would choose by route."""
        while True:
            try:
                _, control, _, source = datagrams.recvmsg(_DATAGRAM_BYTES, 64)
            except BlockingIOError:
                return
            asked = [
                (level, kind, _PKTINFO.pack(_PKTINFO.unpack(value)[0], 0))
                for level, kind, value in control
                if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
            ]
            # A client that is gone answers with an ICMP error, which belongs to nobody here.
            with contextlib.suppress(OSError):
                datagrams.sendmsg([answer(machine, source[0])], asked, 0, source)


def _waiting(port: int, protocol: Protocol) -> socket.socket:
    """A socket for both families: IPv4 clients are seen as ::ffff:a.b.c.d."""
    one = open_socket(socket.AF_INET6, protocol)
    try:
        one.settimeout(0)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if protocol is Protocol.UDP:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        else:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("::", port))
        if protocol is not Protocol.UDP:
            one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one
