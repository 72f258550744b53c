"""What does a Kubernetes API server answer to lists and watches? A small one, in threads.

It keeps the rules that a client may rely on: pages of one revision, watches from any revision that
is not compacted away, bookmarks, initial events, selectors that turn a change into an addition or
a deletion, 410 Gone. Whether it keeps them as the real one does is tested in `test_server`.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.store import (
    Change,
    Expired,
    Item,
    Json,
    Selector,
    Store,
    field_selector,
    label_selector,
)

PATHS = {
    "/api/v1/services": (Kind.SERVICE, "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": (Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1"),
    "/api/v1/nodes": (Kind.NODE, "v1"),
}


class Refusal(Exception):
    """An answer that is a `metav1.Status`."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


class Query(NamedTuple):
    """What a GET asks for."""

    kind: Kind
    api_version: str
    parameters: dict[str, str]
    selects: Selector

    @classmethod
    def parse(cls, target: str) -> Query:
        """Read a request's target. Raises Refusal."""
        parts = urlsplit(target)
        if parts.path not in PATHS:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        parameters = dict(parse_qsl(parts.query))
        try:
            labels = label_selector(parameters.get("labelSelector", ""))
            fields = field_selector(parameters.get("fieldSelector", ""))
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        kind, api_version = PATHS[parts.path]
        return cls(kind, api_version, parameters, lambda item: labels(item) and fields(item))

    def is_true(self, name: str) -> bool:
        return self.parameters.get(name) in ("true", "1")


class Event(NamedTuple):
    """A line of a watch."""

    type: str
    object: bytes


class FakeApiServer:
    """Serves a `Store` over HTTP or HTTPS on loopback until it is stopped."""

    def __init__(
        self,
        *,
        bookmark_seconds: float = 60.0,
        token: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.store = Store()
        self.bookmark_seconds = bookmark_seconds
        self.token = token
        """Who sends another one is answered 401; empty: everyone is served."""
        self.knows_initial_events = True
        """False: as a server that is older than they are, and skips parameters it does not know."""
        self.events: dict[tuple[str, str], Json] = {}
        """What was posted to `events`, by namespace and name."""
        self.refuses_events: list[tuple[int, str]] = []
        """Statuses and messages for the next requests about events."""
        self.stopping = False
        self.headers: dict[str, str] = {}
        self.client_context: ssl.SSLContext | None = None
        self.peers: list[bytes] = []
        """The certificates that clients showed, request by request."""
        self.asked = threading.Semaphore(0)
        """Released by each request."""
        self._server = _Server(("127.0.0.1", 0), _Answer)
        self._server.api = self
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def create(self, document: Json) -> None:
        self.store.put(document)

    def patch(self, kind: Kind, name: ObjectName, changes: Json) -> None:
        """Change an object by a merge patch (RFC 7386)."""
        self.store.put(merged(self.store.get(kind, name).document, changes))

    def delete(self, kind: Kind, name: ObjectName) -> None:
        self.store.delete(kind, name)

    def recorded(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until the events are as they should be. Raises TimeoutError."""
        with self.store.changed:
            if not self.store.changed.wait_for(condition, seconds):
                raise TimeoutError(f"events {self.events}")

    def compact(self) -> None:
        self.store.compact()

    def stop(self) -> None:
        self.stopping = True
        with self.store.changed:
            self.store.changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: FakeApiServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the story."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    connection: socket.socket

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass

    def do_GET(self) -> None:
        api = self.server.api
        try:
            self._authenticate()
            query = Query.parse(self.path)
            if query.is_true("watch"):
                self._stream(watch(api, query))
            else:
                self._send(200, page(api.store, query))
        except Refusal as refusal:
            self._send(refusal.code, json.dumps(refusal.status).encode())

    def do_POST(self) -> None:
        document = self._document()
        meta = document["metadata"]
        key = (meta["namespace"], meta["name"])
        self._event(key[0], lambda events: _created(events, key, document))

    def do_PATCH(self) -> None:
        changes = self._document()
        *_, namespace, _, name = self.path.split("/")
        key = (namespace, name)
        self._event(namespace, lambda events: _patched(events, key, changes))

    def _document(self) -> Json:
        length = int(self.headers["Content-Length"])
        document: Json = json.loads(self.rfile.read(length))
        return document

    def _event(self, namespace: str, change: Callable[[dict[tuple[str, str], Json]], int]) -> None:
        """Change an event of a namespace, and answer with the status."""
        try:
            self._authenticate()
            self._send(self._changed(namespace, change), b"{}")
        except Refusal as refusal:
            self._send(refusal.code, json.dumps(refusal.status).encode())

    def _changed(self, namespace: str, change: Callable[[dict[tuple[str, str], Json]], int]) -> int:
        api = self.server.api
        if not self.path.startswith(f"/api/v1/namespaces/{namespace}/events"):
            raise Refusal(404, "NotFound", self.path)
        with api.store.changed:
            if api.refuses_events:
                code, message = api.refuses_events.pop(0)
                raise Refusal(code, "Refused", message)
            status = change(api.events)
            api.store.changed.notify_all()
        return status

    def _authenticate(self) -> None:
        self.server.api.asked.release()
        if isinstance(self.connection, ssl.SSLSocket):
            self.server.api.peers.append(self.connection.getpeercert(binary_form=True) or b"")
        token = self.server.api.token
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if token and (scheme.lower(), given) != ("bearer", token):
            raise Refusal(401, "Unauthorized", "Unauthorized")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[Event]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            line = b'{"type":"%b","object":%b}\n' % (event.type.encode(), event.object)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")


def _created(events: dict[tuple[str, str], Json], key: tuple[str, str], document: Json) -> int:
    if key in events:
        raise Refusal(409, "AlreadyExists", f"events {key[1]} already exists")
    events[key] = document
    return 201


def _patched(events: dict[tuple[str, str], Json], key: tuple[str, str], changes: Json) -> int:
    if key not in events:
        raise Refusal(404, "NotFound", f"events {key[1]} not found")
    events[key] = merged(events[key], changes)
    return 200


def page(store: Store, query: Query) -> bytes:
    """A list, or a page of it. Raises Refusal."""
    if token := query.parameters.get("continue"):
        try:
            revision, number, start = json.loads(base64.urlsafe_b64decode(token))
            items = store.kept(number)
        except Expired as error:
            raise Refusal(410, "Expired", str(error)) from None
        except ValueError:
            raise Refusal(400, "BadRequest", "continue key is not valid") from None
    else:
        revision, everything = store.snapshot(query.kind)
        items = [item for item in everything if query.selects(item)]
        number, start = -1, 0
    end = start + (int(query.parameters.get("limit", "0")) or len(items))
    meta: Json = {"resourceVersion": str(revision)}
    if end < len(items):
        number = store.keep(items) if number < 0 else number
        rest = json.dumps([revision, number, end])
        meta["continue"] = base64.urlsafe_b64encode(rest.encode()).decode()
        if not query.parameters.keys() & {"labelSelector", "fieldSelector"}:
            meta["remainingItemCount"] = len(items) - end
    head = {"kind": f"{query.kind}List", "apiVersion": query.api_version, "metadata": meta}
    body = b",".join(item.body for item in items[start:end])
    return json.dumps(head).encode()[:-1] + b',"items":[' + body + b"]}"


def watch(api: FakeApiServer, query: Query) -> Iterator[Event]:
    """The events of a watch, until it ends. Raises Refusal before the first."""
    version = query.parameters.get("resourceVersion", "")
    initial = query.is_true("sendInitialEvents") and api.knows_initial_events
    if initial and query.parameters.get("resourceVersionMatch") != "NotOlderThan":
        message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise Refusal(422, "Invalid", message)
    if not initial and version not in ("", "0"):
        return _changes(api, query, int(version))
    revision, items = api.store.snapshot(query.kind)
    first = [Event("ADDED", item.body) for item in items if query.selects(item)]
    if initial:
        first.append(_bookmark(query, revision, {"k8s.io/initial-events-end": "true"}))
    return itertools.chain(first, _changes(api, query, revision))


def _changes(api: FakeApiServer, query: Query, revision: int) -> Iterator[Event]:
    """What happens after a revision, and bookmarks while nothing happens."""
    deadline = time.monotonic() + float(query.parameters.get("timeoutSeconds", "1800"))
    due = min(deadline, time.monotonic() + api.bookmark_seconds)
    while not api.stopping:
        try:
            changes, revision = _wait(api, query, revision, due)
        except Expired as error:
            yield Event("ERROR", json.dumps(Refusal(410, "Expired", str(error)).status).encode())
            return
        for change in changes:
            yield from _seen(change, query.selects)
        if (now := time.monotonic()) < due:
            continue
        if query.is_true("allowWatchBookmarks"):
            yield _bookmark(query, revision, {})
        if now >= deadline:
            return
        due = min(deadline, now + api.bookmark_seconds)


def _wait(
    api: FakeApiServer, query: Query, revision: int, until: float
) -> tuple[list[Change], int]:
    """What happened after a revision, and the revision up to which this is all."""
    with api.store.changed:
        while not (changes := api.store.since(query.kind, revision)):
            remaining = until - time.monotonic()
            if api.stopping or remaining <= 0:
                break
            api.store.changed.wait(remaining)
        return changes, api.store.revision


def _seen(change: Change, selects: Selector) -> Iterator[Event]:
    """The change as somebody sees it who sees only what is selected."""
    before = change.before if change.before and selects(change.before) else None
    after = change.after if change.after and selects(change.after) else None
    if after is not None:
        yield Event("MODIFIED" if before else "ADDED", after.body)
    elif before is not None:
        yield Event("DELETED", _stamped(before, change.revision))


def _stamped(item: Item, revision: int) -> bytes:
    document = item.document
    document["metadata"]["resourceVersion"] = str(revision)
    return json.dumps(document).encode()


def _bookmark(query: Query, revision: int, annotations: Json) -> Event:
    meta = {"resourceVersion": str(revision), "annotations": annotations}
    head = {"kind": query.kind, "apiVersion": query.api_version, "metadata": meta}
    return Event("BOOKMARK", json.dumps(head).encode())


def merged(document: Json, changes: Json) -> Json:
    """A document after a merge patch: null deletes, objects are merged, all else replaces."""
    result = dict(document)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            inner = result.get(key)
            result[key] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[key] = value
    return result
