"""How do people who look at an object learn what this node has to say about it?

By Kubernetes Events. One thread posts them, from a queue that has an end: who records an event
never waits, and an event that cannot be posted is lost and costs nothing else.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Generic, TypeVar

import msgspec

from proxy import log
from proxy.bucket import TokenBucket
from proxy.events.recorder import EventType, Reference
from proxy.sources.connection import Connection, Failed, Patience
from proxy.sources.kubeconfig import ApiConfig, checked
from proxy.sources.watch import Backoff, Failure

COMPONENT = "headgate"
QUEUE_LENGTH = 1000
"""As client-go: events beyond are lost."""
REMEMBERED = 4096
"""Events that a later one may be counted with, and objects whose events are limited."""
SAME_SECONDS = 600.0
"""Equal events within this time are one that is counted."""
BURST, PER_SECOND = 25, 1 / 300
"""Events of one object: as client-go's spam filter."""
TRIES = 5
FLUSH_SECONDS = 2.0
_LONGEST_MESSAGE = 1024
"""More is refused by the API server (ValidateEventCreate)."""

K = TypeVar("K")
V = TypeVar("V")


class _Recorded(msgspec.Struct, frozen=True):
    """An event as it was recorded; equal ones are counted."""

    about: Reference
    type: str
    reason: str
    message: str


class _Posted(msgspec.Struct):
    """What is known of an event on the server."""

    name: str
    count: int
    last: float


class _Bounded(Generic[K, V]):
    """A dictionary that forgets what was used longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def drop(self, key: K) -> None:
        self._held.pop(key, None)

    def __len__(self) -> int:
        return len(self._held)


class Timing(msgspec.Struct, frozen=True):
    """Clock, date and chance; tests have their own."""

    clock: Callable[[], float] = time.monotonic
    """Seconds since some moment."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random: Callable[[], float] = random.random
    """Values in [0, 1)."""


class Events:
    """Posts events of this node in a daemon thread of its own; a `Recorder`."""

    def __init__(self, config: ApiConfig, timing: Timing | None = None) -> None:
        self._node = config.node_name
        self._timing = timing or Timing()
        self._connection = Connection(config, checked(config), Patience())
        self._queue: queue.Queue[_Recorded | None] = queue.Queue(QUEUE_LENGTH)
        self._stopping = threading.Event()
        self._over = False
        self._posted: _Bounded[_Recorded, _Posted] = _Bounded(REMEMBERED)
        self._limits: _Bounded[Reference, TokenBucket] = _Bounded(REMEMBERED)
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def record(self, about: Reference, type: EventType, reason: str, message: str) -> None:  # noqa: A002 (the field's name)
        """Post this event some time; without a word it is lost when too many are waiting."""
        try:
            self._queue.put_nowait(_Recorded(about, type, reason, message[:_LONGEST_MESSAGE]))
        except queue.Full:
            log.info("Event lost", v=2, reason=reason, object=f"{about.namespace}/{about.name}")

    def stop(self) -> None:
        """Post what is waiting, for two seconds at most, and end the thread."""
        deadline = time.monotonic() + FLUSH_SECONDS
        self._stopping.set()  # from here on nothing is tried twice
        try:
            self._queue.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            log.info("Events lost", v=2, reason="the API server takes none", events=QUEUE_LENGTH)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._over = True
        self._connection.close()
        self._thread.join(FLUSH_SECONDS)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None and not self._over:
            if not self._admitted(event.about):
                continue
            backoff = Backoff(self._timing.random)
            for _ in range(TRIES):
                failure = self._post(event)
                if failure is None or not _may_pass(failure) or self._stopping.is_set():
                    break
                self._stopping.wait(max(backoff.next(), failure.retry_after_seconds))

    def _admitted(self, about: Reference) -> bool:
        bucket = self._limits.get(about)
        if bucket is None:
            bucket = TokenBucket(PER_SECOND, BURST, self._timing.clock)
            self._limits.put(about, bucket)
        return bucket.take()

    def _post(self, event: _Recorded) -> Failure | None:
        """Create the event, or count it with the one that was created; why that failed."""
        try:
            self._create_or_count(event)
        except Failed as error:
            self._tell(error.failure)
            return error.failure
        return None

    def _create_or_count(self, event: _Recorded) -> None:
        """Raises Failed."""
        path = f"/api/v1/namespaces/{_namespace(event.about)}/events"
        now = self._timing.clock()
        posted = self._posted.get(event)
        if posted is not None and now - posted.last <= SAME_SECONDS:
            changes = {"count": posted.count + 1, "lastTimestamp": self._stamp()}
            try:
                self._connection.patch(f"{path}/{posted.name}", msgspec.json.encode(changes))
            except Failed as error:
                if error.failure.code != HTTPStatus.NOT_FOUND:
                    raise
                self._posted.drop(event)  # events live for an hour on the server
            else:
                posted.count, posted.last = posted.count + 1, now
                return
        name = f"{event.about.name}.{time.time_ns():016x}"
        try:
            self._connection.post(path, msgspec.json.encode(self._document(event, name)))
        except Failed as error:
            if error.failure.code != HTTPStatus.CONFLICT:  # it was taken, and the answer lost
                raise
        self._posted.put(event, _Posted(name, 1, now))

    def _document(self, event: _Recorded, name: str) -> dict[str, object]:
        """The Event of core/v1."""
        about, stamp = event.about, self._stamp()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": _namespace(about)},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message,
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }

    def _stamp(self) -> str:
        return self._timing.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def _tell(self, failure: Failure) -> None:
        """Say once what keeps events from being posted."""
        kind = str(failure.code or failure.reason)
        if kind in self._told or self._stopping.is_set():
            return
        self._told.add(kind)
        log.warning("Events are not posted", server=self._connection.server, reason=failure)


def _may_pass(failure: Failure) -> bool:
    """Whether the same request may succeed later."""
    code = failure.code
    return code in (0, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS) or code >= (
        HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _namespace(about: Reference) -> str:
    """Events about what has no namespace, a Node, are kept in `default`."""
    return about.namespace or "default"
