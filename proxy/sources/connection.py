"""How does a request reach the API server, and why did it not?

Authentication, TLS and proxies are the `kubernetes` client's; bodies are left as bytes. Every
failure becomes a `Failure` in words an operator can act on.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse, IncompleteRead, responses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast
from urllib.parse import urlencode, urlsplit
from weakref import WeakSet

import msgspec

from proxy import log
from proxy.bucket import TokenBucket
from proxy.sources.client import library
from proxy.sources.kubeconfig import (
    ApiConfig,
    Identity,
    NoCredentials,
    authorization,
    loaded,
    stamps,
)
from proxy.sources.watch import Failure
from proxy.version import version

if TYPE_CHECKING:
    import urllib3

_CHUNK = 65536
_ROOM = 1 << 18
"""Bytes that are asked of the socket at a time."""
_LONGEST_MESSAGE = 300


class _Status(msgspec.Struct):
    """`metav1.Status`, the body of a refusal."""

    message: str = ""


class _Client(NamedTuple):
    """The client of the `kubernetes` package, which ships no types, and what we use of it."""

    server: str
    configuration: Any
    pool: urllib3.PoolManager
    stamps: tuple[tuple[int, int, int], ...] | None


class _Ask(NamedTuple):
    """A request."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = ""


class Observer(Protocol):
    """Who counts requests; told by the thread that sends them."""

    def answered(self, method: str, code: str, host: str, seconds: float) -> None:
        """A request was answered with this HTTP status, after so long.

        `<error>` stands for no answer, as in client-go. Of a stream this is the beginning.
        """


class Nobody:
    """Counts nothing."""

    def answered(self, method: str, code: str, host: str, seconds: float) -> None:
        """As of an Observer."""


class Patience(msgspec.Struct, frozen=True):
    """How long a server may be silent before it counts as gone."""

    connect_seconds: float = 10.0
    answer_seconds: float = 30.0
    """Between a request and its answer, and between two parts of an answer."""
    watch_seconds: float = 90.0
    """Between two parts of a watch. The API server sends a bookmark about every minute, so that
    only a dead connection is silent for longer; a live one is resumed at the price of a request."""


class Failed(Exception):
    """A request that was not answered as it should be."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Stream:
    """The chunks of an answer, as they come."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def wait(self, seconds: float) -> None:
        """From now on the server may be silent for so long."""
        # A server that closes afterwards (HTTP/1.0, a proxy) has taken the socket away already.
        if (stream := getattr(self._response.connection, "sock", None)) is not None:
            stream.settimeout(seconds)

    def __iter__(self) -> Iterator[bytes]:
        """Each chunk as the server made it, or of at most 64 KiB where it makes none."""
        from urllib3 import HTTPResponse as Chunked  # noqa: PLC0415 (comes with the client)

        response = self._response
        if isinstance(response, Chunked) and response.chunked:
            # A server makes one of each object and event; this takes half the time of `read1`.
            return response.read_chunked()
        return iter(lambda: response.read1(_CHUNK), b"")


class Connection:
    """The API server, for any number of threads. Nothing is sent before the first request."""

    def __init__(
        self,
        config: ApiConfig,
        identity: Identity,
        patience: Patience,
        observer: Observer | None = None,
    ) -> None:
        self._config = config
        self._patience = patience
        self._identity = identity
        self._observer = observer or Nobody()
        self._lock = threading.Lock()
        self.server = identity.server
        """The URL that is talked to, as far as it is known."""
        self._client: _Client | None = None
        self._open = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._closed = threading.Event()
        self._turn = threading.Lock()
        self._bucket = TokenBucket(config.qps, config.burst, time.monotonic)

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The body of an answer with status 200. Raises Failed."""
        with self._answer(_Ask("GET", f"{path}?{urlencode(query)}")) as response:
            return response.read()

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[Stream]:
        """An answer with status 200 that goes on as long as it likes. Raises Failed, inside too."""
        with self._answer(_Ask("GET", f"{path}?{urlencode(query)}")) as response:
            stream = Stream(response)
            stream.wait(self._patience.watch_seconds)
            yield stream

    def post(self, path: str, document: bytes) -> None:
        """Create an object, given as JSON. Raises Failed."""
        with self._answer(_Ask("POST", path, document, "application/json")) as response:
            response.drain_conn()

    def patch(self, path: str, changes: bytes) -> None:
        """Change an object by a merge patch (RFC 7386). Raises Failed."""
        ask = _Ask("PATCH", path, changes, "application/merge-patch+json")
        with self._answer(ask) as response:
            response.drain_conn()

    def close(self) -> None:
        """End every request of every thread; none is answered from now on."""
        self._closed.set()
        self._cut()

    def _cut(self) -> None:
        with self._open:
            sockets = list(self._sockets)
        for open_socket in sockets:
            with contextlib.suppress(OSError):  # the server was faster
                socket.socket.shutdown(open_socket, socket.SHUT_RDWR)

    @contextmanager
    def _answer(self, ask: _Ask) -> Iterator[urllib3.BaseHTTPResponse]:
        library()  # first: urllib3 is a part of what one thread at a time may import
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 (comes with the client)

        try:
            self._wait_for_turn()
            client, token = self._connected()
        except NoCredentials as error:
            self._forget()
            raise Failed(Failure(str(error))) from error
        try:
            with closing(self._observed(client, token, ask)) as response:
                if response.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
                    if response.status == HTTPStatus.UNAUTHORIZED:
                        self._forget()
                    raise Failed(_refusal(response))
                yield response
        except (HTTPError, OSError) as error:
            root = _root(error)
            if isinstance(root, ssl.SSLError):
                self._forget()  # a certificate may have been rotated
            silent = isinstance(root, TimeoutError)
            raise Failed(Failure(_words(root), is_silence=silent)) from error

    def _wait_for_turn(self) -> None:
        """Send no more requests than the operator allows."""
        if self._config.qps <= 0:
            return
        with self._turn:
            seconds = self._bucket.reserve()
        self._closed.wait(seconds)

    def _observed(self, client: _Client, token: str, ask: _Ask) -> urllib3.BaseHTTPResponse:
        """The answer as far as its headers have come."""
        began, code = time.monotonic(), "<error>"
        try:
            response = self._send(client, token, ask)
            code = str(response.status)
            return response
        finally:
            host = urlsplit(client.server).netloc
            self._observer.answered(ask.method, code, host, time.monotonic() - began)

    def _send(self, client: _Client, token: str, ask: _Ask) -> urllib3.BaseHTTPResponse:
        from urllib3 import Timeout  # noqa: PLC0415
        from urllib3.exceptions import ProtocolError  # noqa: PLC0415

        headers = {"Accept": "application/json", "User-Agent": f"headgate/{version()}"}
        if token:
            headers["Authorization"] = token
        if ask.content_type:
            headers["Content-Type"] = ask.content_type
        patience = self._patience
        request = partial(
            client.pool.request,
            ask.method,
            client.server + ask.path,
            body=ask.body or None,
            headers=headers,
            timeout=Timeout(connect=patience.connect_seconds, read=patience.answer_seconds),
            preload_content=False,
            retries=False,  # and no redirects: waiting is the business of `Watch`
        )
        try:
            return request()
        except ProtocolError:
            if self._closed.is_set():
                raise
            # A connection that was kept open since the last answer may be closed by now.
            return request()

    def _connected(self) -> tuple[_Client, str]:
        """The client, made anew after `_forget` or a rotation, and the token of this moment.

        Under the lock: an exec plugin runs once for all threads. Raises NoCredentials.
        """
        with self._lock:
            if self._client is not None and self._rotated(self._client):
                log.info("Credentials were replaced; connecting anew", server=self.server)
                self._client = None
                # Watches too: who was let in by the old certificate shows the new one.
                self._cut()
            if self._client is None:
                self._client = self._connect()
            return self._client, authorization(self._client.configuration, self._identity)

    def _rotated(self, client: _Client) -> bool:
        now = stamps(self._config, client.configuration)
        return now is not None and now != client.stamps

    def _forget(self) -> None:
        """Credentials, certificates included, are read again for the next request."""
        with self._lock:
            self._client = None

    def _connect(self) -> _Client:
        configuration = loaded(self._config, self._identity)
        stamp = stamps(self._config, configuration)
        pool: urllib3.PoolManager = library().api_client(configuration).rest_client.pool_manager
        pool.pool_classes_by_scheme = {
            scheme: self._tracked(of) for scheme, of in pool.pool_classes_by_scheme.items()
        }
        self.server = configuration.host.rstrip("/")
        return _Client(self.server, configuration, pool, stamp)

    def _tracked(self, pool: type[urllib3.HTTPConnectionPool]) -> type[urllib3.HTTPConnectionPool]:
        """The same kind of connections, known to `close`, whose answers are read in large parts."""
        plain = pool.ConnectionCls

        def connect(connection: urllib3.connection.HTTPConnection) -> None:
            plain.connect(connection)
            if connection.sock is not None:
                with self._open:
                    self._sockets.add(connection.sock)
            if self._closed.is_set():
                self._cut()

        parts = {"connect": connect, "response_class": _Roomy}
        tracked = type(plain.__name__, (plain,), parts)
        return type(pool.__name__, (pool,), {"ConnectionCls": tracked})


class _Roomy(HTTPResponse):
    """An answer that asks the socket for more than 8 KiB at a time, which is two EndpointSlices.

    Each time another thread may take its turn, which costs more than the reading.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp.close()
        self.fp = cast("Any", sock.makefile("rb", _ROOM))


def _refusal(response: urllib3.BaseHTTPResponse) -> Failure:
    body = response.read(_CHUNK)
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = ""  # a proxy's page, for example
    text = message or response.reason or responses.get(response.status, "no reason given")
    seconds = response.headers.get("Retry-After", "")
    wanted = float(seconds) if seconds.isdecimal() else 0.0
    return Failure(text[:_LONGEST_MESSAGE], response.status, retry_after_seconds=wanted)


def _root(error: BaseException) -> BaseException:
    """What lies beneath: urllib3 wraps what the socket said, in several ways."""
    while (
        inner := error.__cause__
        or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        or getattr(error, "reason", None)
    ) and isinstance(inner, BaseException):
        error = inner
    return error


def _words(root: BaseException) -> str:
    match root:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {root.verify_message}"
        case socket.gaierror():
            return f"its name cannot be resolved: {root.strerror}"
        case TimeoutError():
            return "no answer in time"
        case IncompleteRead():
            return "cut in the middle of an answer"
        case OSError() if root.strerror:
            return root.strerror[0].lower() + root.strerror[1:]
        case _:
            return str(root) or type(root).__name__
