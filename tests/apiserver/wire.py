"""What can happen between a client and an API server, and happen exactly when a test wants it?

A reverse proxy on loopback. It adds the credentials that the server behind it wants, so that the
same stories run against the small server and against a real one, and it knows what was asked.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit


class Upstream(Protocol):
    """The server behind the wire."""

    url: str
    headers: dict[str, str]
    client_context: ssl.SSLContext | None


@dataclass(frozen=True)
class Request:
    """Something that was asked through the wire."""

    path: str
    query: Mapping[str, str]

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def is_initial(self) -> bool:
        """Whether a stream is to begin with all there is."""
        return self.query.get("sendInitialEvents") == "true"


@dataclass(frozen=True)
class Fault:
    """What happens to one request."""

    status: int = 0
    """Answer this status instead of asking the server."""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    """Called before the request is passed on."""
    cut_after: int | None = None
    """Cut the connection after so many bytes of the body."""
    alter: Callable[[bytes], bytes] | None = None
    """Applied to each part of the body."""
    piece: int = 0
    """Pass the body on in pieces of so many bytes."""


Matches = Callable[[Request], bool]


class Wire:
    """Passes requests on to a server, except for what `interpose` says."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.pages_only = False
        """As a server where the feature WatchList is switched off."""
        self._faults: list[tuple[Matches, Fault]] = []
        self._lock = threading.Condition()
        self._sockets: set[socket.socket] = set()
        self._released = threading.Event()
        self._server: _Server | None = None
        self._port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def interpose(self, fault: Fault, matches: Matches, times: int = 1) -> None:
        """Let this happen to the next requests that match."""
        with self._lock:
            self._faults += [(matches, fault)] * times

    def hold(self) -> None:
        """As a `before`: wait until the wire is closed, as if the server had fallen silent."""
        self._released.wait()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with contextlib.suppress(OSError):  # the other side was faster
                each.shutdown(socket.SHUT_RDWR)

    def down(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._server is not None:
            with self._lock:
                self._server.closed = True
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None
        self.cut()

    def up(self) -> None:
        """Accept connections, on the same port as ever."""
        self._server = _Server(("127.0.0.1", self._port), _Relay)
        self._server.wire = self
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._released.set()
        self.down()

    def asked(self, matches: Matches, times: int, seconds: float = 20.0) -> None:
        """Wait until so many requests have matched. Raises TimeoutError."""
        with self._lock:
            if not self._lock.wait_for(lambda: sum(map(matches, self.requests)) >= times, seconds):
                raise TimeoutError(f"asked {self.requests}")

    def fault(self, request: Request) -> Fault:
        """Take note of a request; what is to happen to it."""
        with self._lock:
            self.requests.append(request)
            self._lock.notify_all()
            for index, (matches, fault) in enumerate(self._faults):
                if matches(request):
                    del self._faults[index]
                    return fault
        if self.pages_only and request.is_initial:
            return Fault(status=422, body=b'{"message": "sendInitialEvents is forbidden"}')
        return Fault()

    @contextlib.contextmanager
    def track(self, connection: socket.socket, server: _Server) -> Iterator[None]:
        """Let `cut` know a connection while it is in use. Raises OSError if it is too late."""
        with self._lock:
            if server.closed:
                raise ConnectionAbortedError("the wire is down")
            self._sockets.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    wire: Wire
    closed = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is what this is for."""


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    connection: socket.socket

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass

    def do_GET(self) -> None:
        wire = self.server.wire
        parts = urlsplit(self.path)
        with wire.track(self.connection, self.server):
            fault = wire.fault(Request(parts.path, dict(parse_qsl(parts.query))))
            if fault.before is not None:
                fault.before()
            if fault.status:
                self._head(fault.status, {"Content-Length": str(len(fault.body)), **fault.headers})
                self.wfile.write(fault.body)
            else:
                self._pass_on(wire, fault)

    do_POST = do_PATCH = do_GET  # noqa: N815 (the base class's names)

    def _pass_on(self, wire: Wire, fault: Fault) -> None:
        upstream = connect(wire.upstream)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, self._sent(), self._headers(wire))
            assert upstream.sock is not None
            with wire.track(upstream.sock, self.server):
                response = upstream.getresponse()
                self._head(response.status, {"Transfer-Encoding": "chunked"})
                self._body(response, fault)

    def _sent(self) -> bytes | None:
        length = int(self.headers.get("Content-Length", "0"))
        return self.rfile.read(length) if length else None

    def _headers(self, wire: Wire) -> Mapping[str, str]:
        content = self.headers.get("Content-Type")
        return {**wire.upstream.headers, **({"Content-Type": content} if content else {})}

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, response: http.client.HTTPResponse, fault: Fault) -> None:
        remaining = fault.cut_after
        while data := response.read1(65536):
            passed = fault.alter(data) if fault.alter else data
            if remaining is not None:
                passed = passed[:remaining]
                remaining -= len(passed)
            step = fault.piece or len(passed) or 1
            for start in range(0, len(passed), step):
                part = passed[start : start + step]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            if remaining == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        self.wfile.write(b"0\r\n\r\n")


def connect(upstream: Upstream) -> http.client.HTTPConnection:
    """A connection to a server, for one request."""
    address = urlsplit(upstream.url).netloc
    if upstream.client_context is None:
        return http.client.HTTPConnection(address, timeout=60)
    return http.client.HTTPSConnection(address, timeout=60, context=upstream.client_context)
