"""What does a Kubernetes API server answer to lists, watches and writes? A small one, in threads.

It keeps the rules that a client may rely on: pages of one revision, watches from any revision that
is not compacted away, bookmarks, initial events, selectors that turn a change into an addition or
a deletion, 410 Gone. Whether it keeps them as the real one does is tested in `test_server`. It
answers in JSON whatever else a client would rather have.
"""

from __future__ import annotations

import base64
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.requests import Query, Refusal
from tests.apiserver.store import Change, Expired, Item, Json, Selector, Store
from tests.apiserver.writes import created, deleted, replaced

WRITE_BYTES = 1 << 18
"""Lines of a watch are sent together up to about so much."""
_EVENTS = "/events"
_LATER_EVENTS = "/apis/events.k8s.io/v1/"
_SOME_EVENT = b'{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{}}'


Events = dict[tuple[str, str], Json]


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
        self.events: Events = {}
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
        with self._refusing():
            query, store = Query.parse(self.path), self.server.api.store
            if query.is_true("watch"):
                self._stream(watch(self.server.api, query))
            else:
                self._send(200, one(store, query) if query.name.name else page(store, query))

    def do_POST(self) -> None:
        body = self._body()
        with self._refusing():
            if self.path.startswith(_LATER_EVENTS):  # kube-proxy's, in a form that is not JSON
                self._send(201, _SOME_EVENT)
            elif self.path.endswith(_EVENTS):
                document = json.loads(body)
                key = (document["metadata"]["namespace"], document["metadata"]["name"])
                self._send(self._event(lambda events: _created(events, key, document)), b"{}")
            else:
                self._send(*created(self.server.api.store, self.path, json.loads(body)))

    def do_PATCH(self) -> None:
        body = self._body()
        with self._refusing():
            if self.path.startswith(_LATER_EVENTS):
                self._send(200, _SOME_EVENT)
                return
            *_, namespace, kind, name = self.path.split("/")
            if f"/{kind}" != _EVENTS:
                raise Refusal(404, "NotFound", self.path)
            key, changes = (namespace, name), json.loads(body)
            self._send(self._event(lambda events: _patched(events, key, changes)), b"{}")

    def do_PUT(self) -> None:
        document = json.loads(self._body())
        with self._refusing():
            self._send(*replaced(self.server.api.store, self.path, document))

    def do_DELETE(self) -> None:
        self._body()
        with self._refusing():
            self._send(*deleted(self.server.api.store, self.path))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Answer to who may ask; whatever is refused meanwhile is the answer."""
        try:
            self._authenticate()
            yield
        except Refusal as refusal:
            self._send(refusal.code, json.dumps(refusal.status).encode())

    def _event(self, change: Callable[[Events], int]) -> int:
        """Change the events, and return the status to answer. Raises Refusal."""
        api = self.server.api
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

    def _stream(self, batches: Iterator[Sequence[Event]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for batch in batches:
            for chunks in _chunks(batch):
                self.wfile.write(chunks)
        self.wfile.write(b"0\r\n\r\n")


def _chunks(batch: Sequence[Event]) -> Iterator[bytes]:
    """A chunk for each event, as the real one sends them, and as many together as one may send."""
    size, waiting = 0, list[bytes]()
    for event in batch:
        line = b'{"type":"%b","object":%b}\n' % (event.type.encode(), event.object)
        waiting.append(b"%x\r\n%b\r\n" % (len(line), line))
        size += len(line)
        if size >= WRITE_BYTES:
            yield b"".join(waiting)
            size, waiting = 0, []
    yield b"".join(waiting)


def _created(events: Events, key: tuple[str, str], document: Json) -> int:
    if key in events:
        raise Refusal(409, "AlreadyExists", f"events {key[1]} already exists")
    events[key] = document
    return 201


def _patched(events: Events, key: tuple[str, str], changes: Json) -> int:
    if key not in events:
        raise Refusal(404, "NotFound", f"events {key[1]} not found")
    events[key] = merged(events[key], changes)
    return 200


def one(store: Store, query: Query) -> bytes:
    """An object. Raises Refusal."""
    try:
        return store.get(query.kind, query.name).body
    except KeyError:
        raise Refusal(404, "NotFound", f"{query.name} not found") from None


_BATCH = 200
"""Events of what is there already that are told together."""


def page(store: Store, query: Query) -> bytes:
    """A list, or a page of it. Raises Refusal.

    Any version will do for a client that asks for version 0; it gets all from the server's cache,
    in one page (Kubernetes API concepts, "resourceVersion unset or 0").
    """
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
    is_paged = query.parameters.get("resourceVersion") != "0"
    end = start + ((is_paged and int(query.parameters.get("limit", "0"))) or len(items))
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


def watch(api: FakeApiServer, query: Query) -> Iterator[Sequence[Event]]:
    """The events of a watch as they come, until it ends. Raises Refusal before the first."""
    version = query.parameters.get("resourceVersion", "")
    initial = query.is_true("sendInitialEvents") and api.knows_initial_events
    if initial and query.parameters.get("resourceVersionMatch") != "NotOlderThan":
        message = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise Refusal(422, "Invalid", message)
    if not initial and version not in ("", "0"):
        return _changes(api, query, int(version))
    revision, items = api.store.snapshot(query.kind)
    there = (Event("ADDED", item.body) for item in items if query.selects(item))
    end = [_bookmark(query, revision, {"k8s.io/initial-events-end": "true"})] if initial else []
    return itertools.chain(_batches(there), [end], _changes(api, query, revision))


def _batches(events: Iterator[Event]) -> Iterator[Sequence[Event]]:
    """Some at a time: who reads the first ones need not wait for the last."""
    return iter(lambda: list(itertools.islice(events, _BATCH)), [])


def _changes(api: FakeApiServer, query: Query, revision: int) -> Iterator[Sequence[Event]]:
    """What happens after a revision, and bookmarks while nothing happens."""
    deadline = time.monotonic() + float(query.parameters.get("timeoutSeconds", "1800"))
    due = min(deadline, time.monotonic() + api.bookmark_seconds)
    while not api.stopping:
        try:
            changes, revision = _wait(api, query, revision, due)
        except Expired as error:
            gone = Refusal(410, "Expired", str(error)).status
            yield [Event("ERROR", json.dumps(gone).encode())]
            return
        yield [event for change in changes for event in _seen(change, query.selects)]
        if (now := time.monotonic()) < due:
            continue
        if query.is_true("allowWatchBookmarks"):
            yield [_bookmark(query, revision, {})]
        if now >= deadline:
            return
        due = min(deadline, now + api.bookmark_seconds)


def _wait(
    api: FakeApiServer, query: Query, revision: int, until: float
) -> tuple[list[Change], int]:
    """What happened after a revision, and the revision up to which this is all."""
    with api.store.changed:
        while not (changes := api.store.since(query.kind, revision)):
            revision = api.store.revision  # what happened to other kinds is not looked at again
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
