"""How does one thread answer any number of clients over HTTP?

By waiting for all of them at once. A client has ten seconds in all, and there are never more than
`proxy.open_files` grants: who comes then takes the place of who has been there longest. A request
that comes in one piece is answered as soon as it is read, so that neither slow clients nor
thousands of silent ones keep a load balancer's health check waiting.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from proxy import log, open_files
from proxy.serving.http_messages import (
    Answer,
    NotARequest,
    Request,
    Respond,
    encoded,
    refusal,
    request,
)

PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0
_SILENT_SECONDS = 60.0
"""That clients are not accepted is told so often, however many sockets they come to."""
_AT_ONCE = 50
_PIECE = 4096
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (to tell them from others)
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

Act = Callable[[], None]
Admits = Callable[[socket.socket], bool]
"""Whether who has connected is answered."""


def anybody(_: socket.socket) -> bool:
    """Everybody who connects is answered."""
    return True


def listening(address: str, port: int, *, both_families: bool = True) -> socket.socket:
    """A socket that listens; port 0 stands for any free one. Raises OSError.

    With `both_families` a wildcard of either stands for both, as in Go's net.Listen and so in
    kube-proxy; where there is no IPv6, for IPv4.
    """
    if both_families and address in _WILDCARDS:
        try:
            return _bound(socket.AF_INET6, "::", port, only_ipv6=False)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
        return _bound(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 (the operator asks for it)
    return _bound(socket.AF_INET6 if ":" in address else socket.AF_INET, address, port)


def _bound(family: int, address: str, port: int, *, only_ipv6: bool = True) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        listener.bind((address, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


class _Door(NamedTuple):
    """Where clients come in, and who answers them."""

    listener: socket.socket
    respond: Respond
    admits: Admits


class _Client:
    """A connection, from its first byte to its last."""

    def __init__(self, connection: socket.socket, respond: Respond, deadline: float) -> None:
        self.connection = connection
        self.respond = respond
        self.deadline = deadline
        self.received = bytearray()
        self.unsent: memoryview | None = None
        """None: the request is not complete yet. Empty: everything is said."""


class Web:
    """A thread that serves listening sockets, until `stop`.

    `call` and `stop` may be called by any thread, everything else only by what was `call`ed.
    """

    def __init__(self, name: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """The thread begins now, in the network namespace of the calling thread."""
        self._patience_seconds = patience_seconds
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Act] = deque()
        self._alarms: list[tuple[float, Act]] = []
        self._clients: dict[_Client, None] = {}
        """In the order of their deadlines."""
        self._most_clients = open_files.for_clients()
        self._silent_until = 0.0
        self._stopping = False
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)  # noqa: FBT003 (the socket's own signature)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, what: Act) -> None:
        """Have this done by the thread soon, in the order of the calls."""
        self._calls.append(what)
        with suppress(BlockingIOError):  # then it is about to wake anyway
            self._waker.send(b"\0")

    def stop(self) -> None:
        """Close everything, and wait for the thread; nothing the second time."""
        if self._stopping:
            return
        self.call(self._stop)
        self._thread.join()
        self._waker.close()
        self._woken.close()

    def later(self, seconds: float, what: Act) -> None:
        """Have this done when so much time has passed."""
        self._alarms.append((time.monotonic() + seconds, what))

    def open(self, listener: socket.socket, respond: Respond, admits: Admits = anybody) -> None:
        """Answer those who connect to this socket, as far as they are admitted."""

        def accept(_: int) -> None:
            self._accept(_Door(listener, respond, admits))

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def close(self, listener: socket.socket) -> None:
        """Listen no more; who is connected is still answered."""
        if listener in self._selector.get_map():
            self._selector.unregister(listener)
        listener.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select(self._wait_seconds()):
                key.data(events)
            now = time.monotonic()
            while self._clients and (oldest := next(iter(self._clients))).deadline <= now:
                self._drop(oldest, "it is too slow")
            due = [alarm for alarm in self._alarms if alarm[0] <= now]
            self._alarms = [alarm for alarm in self._alarms if alarm[0] > now]
            self._calls.extend(what for _, what in due)
            while self._calls:
                self._calls.popleft()()
        for key in list(self._selector.get_map().values()):
            # Who calls `stop` may still be about to write to the waking end.
            if isinstance(key.fileobj, socket.socket) and key.fileobj is not self._woken:
                key.fileobj.close()
        self._selector.close()

    def _wait_seconds(self) -> float | None:
        moments = [at for at, _ in self._alarms]
        if self._clients:
            moments.append(next(iter(self._clients)).deadline)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _wake(self, _: int) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(_PIECE)

    def _stop(self) -> None:
        self._stopping = True

    def _accept(self, door: _Door) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = door.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(door, error)
                    return
                continue  # the client is gone already (accept(2), "Error handling")
            if not door.admits(connection):
                connection.close()
                continue
            if len(self._clients) >= self._most_clients:
                self._drop(next(iter(self._clients)), "there are too many")
            connection.setblocking(False)  # noqa: FBT003 (the socket's own signature)
            client = _Client(connection, door.respond, time.monotonic() + self._patience_seconds)
            self._clients[client] = None
            self._watch(client, selectors.EVENT_READ)

    def _pause(self, door: _Door, error: OSError) -> None:
        """Clients that nobody can accept would keep the thread awake."""
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + _SILENT_SECONDS
            log.warning("No client of HTTP is accepted for a while", reason=error.strerror)
        self._selector.unregister(door.listener)

        def resume() -> None:
            if door.listener.fileno() >= 0:
                self.open(*door)

        self.later(_PAUSE_SECONDS, resume)

    def _watch(self, client: _Client, events: int) -> None:
        def proceed(_: int) -> None:
            try:
                self._proceed(client)
            except OSError as error:
                self._drop(client, str(error))

        if client.connection in self._selector.get_map():
            self._selector.modify(client.connection, events, proceed)
        else:
            self._selector.register(client.connection, events, proceed)

    def _proceed(self, client: _Client) -> None:
        """A client has said something, or can hear more; either may be out of date."""
        if client.connection.fileno() < 0:
            return
        if client.unsent is None or not client.unsent:
            try:
                piece = client.connection.recv(_PIECE)
            except BlockingIOError:
                return
            if not piece:
                self._drop(client)
            elif client.unsent is None:
                client.received += piece
                self._answer(client)
        else:
            self._send(client)

    def _answer(self, client: _Client) -> None:
        try:
            asked = request(client.received)
        except NotARequest as fault:
            asked, answer = Request("", ""), refusal(fault.status)
        else:
            if asked is None:
                return
            try:
                answer = client.respond(asked)
            except Exception as error:  # noqa: BLE001 (a page that fails must not end all others)
                log.error("A request of HTTP failed", path=asked.path, exc_info=error)
                self._drop(client)
                return
        self._say(client, answer, with_body=asked.method != "HEAD")

    def _say(self, client: _Client, answer: Answer, *, with_body: bool) -> None:
        client.unsent = memoryview(encoded(answer, with_body=with_body))
        self._send(client)

    def _send(self, client: _Client) -> None:
        if client.unsent is None:
            return
        with suppress(BlockingIOError):
            client.unsent = client.unsent[client.connection.send(client.unsent) :]
        if client.unsent:
            self._watch(client, selectors.EVENT_WRITE)
            return
        # Closing while something is unread would reset the connection, answer and all.
        client.connection.shutdown(socket.SHUT_WR)
        self._watch(client, selectors.EVENT_READ)

    def _drop(self, client: _Client, reason: str = "") -> None:
        if reason:
            log.info("A client of HTTP left", v=4, reason=reason)
        del self._clients[client]
        self._selector.unregister(client.connection)
        client.connection.close()
