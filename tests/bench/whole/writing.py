"""How is something written to an API server, and how is a cluster, object by object?"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from endpoints.names import ObjectName
from tests.apiserver.requests import named_in, path_of
from tests.bench import cluster
from tests.bench.cluster import Json, Size
from tests.bench.whole import content

PROGRESS_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_VERSION = frozenset({"resourceVersion"})
_WRITERS = 8
"""Connections that fill a server: its processors shall not wait for ours."""


class Refused(RuntimeError):
    """The server did not do what it was asked to."""


class Connection:
    """A connection to an API server that is kept open."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        context: ssl.SSLContext | None = None,
        withheld: frozenset[str] = _VERSION,
    ) -> None:
        """Connect when something is asked first. A context: the server is asked over TLS.

        What is withheld of an object's metadata is not sent: its version at least, so that a
        replacement is one of whatever is there.

        http.client switches Nagle's algorithm off by itself.
        """
        self.url = url
        self._withheld = withheld
        place = urlsplit(url).netloc
        self._connection = (
            http.client.HTTPConnection(place, timeout=_ANSWER_SECONDS)
            if context is None
            else http.client.HTTPSConnection(place, timeout=_ANSWER_SECONDS, context=context)
        )
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def write(self, method: str, document: Json) -> float:
        """Create (POST), replace (PUT) or delete (DELETE) an object, whatever version it names.

        Returns time.monotonic() when the answer was read. Raises Refused.
        """
        name = named_in(document)
        place = ObjectName(name.namespace, "") if method == "POST" else name
        path = path_of(str(document["kind"]), place)
        body = b"" if method == "DELETE" else self._encoded(document)
        self._connection.request(method, path, body=body, headers=self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        answered = time.monotonic()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}: {response.status} {answer[:500].decode()}")
        return answered

    def _encoded(self, document: Json) -> bytes:
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        sent = {key: value for key, value in metadata.items() if key not in self._withheld}
        return msgspec.json.encode(document | {"metadata": sent})

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def surroundings() -> Iterator[Json]:
    """The node, and the namespaces of all Services: also of those that are not there yet."""
    yield content.node(cluster.ZONES[0])
    for name in cluster.namespaces(Size(cluster.NAMESPACES, 1)):
        yield content.namespace(name)


def fill(connect: Callable[[], Connection], of: Size, tell: Callable[[str], None]) -> None:
    """Create a cluster with its node and namespaces, over several connections. Raises Refused."""
    with closing(connect()) as connection:
        for document in surroundings():
            connection.write("POST", document)
    source = _Source(content.objects(of))
    with ThreadPoolExecutor(_WRITERS) as pool:
        writers = {pool.submit(source.write_all, connect) for _ in range(_WRITERS)}
        running = writers
        while running:
            _, running = wait(running, PROGRESS_SECONDS, FIRST_EXCEPTION)
            tell(f"{source.taken:,} objects of {of}")
        for writer in writers:
            writer.result()


class _Source:
    """Objects that several threads write, each one once."""

    def __init__(self, objects: Iterator[Json]) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._broken = False
        self.taken = 0

    def write_all(self, connect: Callable[[], Connection]) -> None:
        """Write until there is no more, or until another one failed."""
        try:
            with closing(connect()) as connection:
                while (document := self._take()) is not None:
                    connection.write("POST", document)
        except BaseException:
            self._broken = True
            raise

    def _take(self) -> Json | None:
        with self._lock:
            if self._broken or (document := next(self._objects, None)) is None:
                return None
            self.taken += 1
            return document
