"""What to ask the API server next, and how long to wait before? Pure.

One `Watch` follows one kind: it lists page by page, watches from there, resumes after a cut and
lists again when the server has forgotten where we were. It knows no sockets and no clock; who
drives it (`proxy.sources.api`) sends the requests and tells what came of them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from endpoints.decode import decode_list, decode_watch
from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import Kind, KubernetesObject

BASE_SECONDS = 0.5
CAP_SECONDS = 30.0
HEALTHY_SECONDS = 5.0
"""A stream that lived so long has worked: the next request need not wait."""
GONE = 410
_TRANSIENT = frozenset({0, 401, 403, 429, 500, 502, 503})
"""After these the same request may succeed later; 0 is no answer at all. After any other, and any
ERROR in a stream, only a new list is sure to be right: 410 when the server has compacted away our
resource version, 400 when a continue token makes no sense to it."""
_SHORT_STREAMS = 3
"""More than these in a row are worth a word: something between us and the server ends them."""
_SILENT_STREAMS = 2
"""After so many in a row we list again. A living server sends bookmarks; the watch of a resource
version that is ahead of it, because its etcd was restored from a backup, is accepted and silent."""


class ListFrom(msgspec.Struct, frozen=True):
    """Ask for a page of the list: the first if the token is empty."""

    continue_token: str = ""


class WatchFrom(msgspec.Struct, frozen=True):
    """Ask for a stream of what changed after this resource version."""

    resource_version: str


class Failure(msgspec.Struct, frozen=True):
    """A request that was not answered as it should be."""

    reason: str
    code: int = 0
    """The HTTP status; 0 if there was no answer, or one that makes no sense."""
    is_silence: bool = False
    """Nothing came for as long as we were willing to wait."""
    retry_after_seconds: float = 0.0
    """What the server asked for (the header Retry-After of 429 and 503)."""

    def __str__(self) -> str:
        """`403 services is forbidden`, `connection refused`."""
        return f"{self.code} {self.reason}" if self.code else self.reason


class Pause(msgspec.Struct, frozen=True):
    """Wait so long, then send the next request."""

    seconds: float
    outage: str = ""
    """What an operator should know; empty in the ordinary course of things."""


class Backoff:
    """How long to wait after so many failures in a row.

    Twice as long each time, up to a cap; the last half of it is random, lest all nodes of a
    cluster ask in the same moment. `random` returns values in [0, 1).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.failures = 0

    def next(self) -> float:
        """Count one more failure; the seconds to wait."""
        ceiling = min(CAP_SECONDS, BASE_SECONDS * float(1 << min(self.failures, 16)))
        self.failures += 1
        return ceiling * (1 + self._random()) / 2

    def reset(self) -> None:
        """It works: the next failure is the first."""
        self.failures = 0


class Lines:
    """Cuts a stream of chunks into lines; a line that was cut short never comes out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, without their newlines; empty ones are skipped."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line for line in lines if line.strip()]


class Broken(Exception):
    """What came cannot be used; `Watch.request` already says what to ask instead."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Watch:
    """The course of one kind, from the first list on.

    `request` says what to ask next; then exactly one of these happens: `page` for the answer to a
    list, `failed` for a request that failed or was refused; for a stream `line` for each of its
    lines and `ended` at its end. The messages that come back are for the queue, in this order.
    """

    def __init__(self, kind: Kind, random: Callable[[], float]) -> None:
        self.kind = kind
        self.request: ListFrom | WatchFrom = ListFrom()
        self._backoff = Backoff(random)
        self._objects: list[KubernetesObject] = []
        self._unreadable: set[ObjectName] = set()
        self._problems: list[Problem] = []
        self._progress = False
        self._short_streams = 0
        self._silent_streams = 0

    @property
    def steady(self) -> bool:
        """Whether streams do not end as soon as they begin, time and again."""
        return self._short_streams <= _SHORT_STREAMS

    def page(self, body: bytes) -> list[Replace | Problem]:
        """A page has come; the last one completes the list.

        A list is one `Replace`, however many pages it came in and whatever was known before.
        Raises Broken if this is no list: then `failed` is due.
        """
        try:
            page = decode_list(body, self.kind)
        except msgspec.DecodeError as error:
            raise Broken(Failure(f"the answer is no list: {error}")) from error
        self._objects += page.objects
        self._unreadable |= page.unreadable
        self._problems += page.problems
        if page.continue_token:
            self.request = ListFrom(page.continue_token)
            return []
        replace = Replace(self.kind, tuple(self._objects), frozenset(self._unreadable))
        messages: list[Replace | Problem] = [replace, *self._problems]
        self._list_again()
        self.request = WatchFrom(page.resource_version)
        return messages

    def line(self, line: bytes) -> list[Upsert | Delete | Problem]:
        """A line of the stream has come.

        Raises Broken if it is no event, or the server's word that it cannot go on: then the stream
        is to be closed, and `ended` is due.
        """
        try:
            watched = decode_watch(line, self.kind)
        except msgspec.DecodeError as error:
            self._list_again()
            raise Broken(Failure(f"a line of the watch is no event: {error}")) from error
        if watched.type == "ERROR":
            self._list_again()
            raise Broken(Failure(watched.message or "an error in the watch", watched.code))
        if watched.resource_version:
            self.request = WatchFrom(watched.resource_version)
        self._progress |= watched.type != "BOOKMARK"
        self._short_streams = self._silent_streams = 0
        return [item for item in (watched.event, watched.problem) if item is not None]

    def ended(self, lasted_seconds: float, failure: Failure | None = None) -> Pause:
        """The stream has ended, in good order or by a failure in its middle."""
        healthy = lasted_seconds >= HEALTHY_SECONDS
        if healthy or self._progress:
            self._backoff.reset()
        self._short_streams = 0 if healthy or self._progress else self._short_streams + 1
        self._progress = False
        if failure is not None and failure.is_silence:
            self._silent_streams += 1
            if self._silent_streams >= _SILENT_STREAMS:
                self._silent_streams = 0
                self._list_again()
        expired = failure is not None and failure.code == GONE
        failures_before, seconds = self._backoff.failures, self._backoff.next()
        if failures_before == 0 and (healthy or expired):
            return Pause(0.0)
        if self.steady:
            return Pause(seconds)
        return Pause(seconds, f"watches end at once: {failure or 'closed by the server'}")

    def failed(self, failure: Failure) -> Pause:
        """The request was not answered, was refused, or was answered with nonsense."""
        if failure.code not in _TRANSIENT:
            self._list_again()
        failures_before, seconds = self._backoff.failures, self._backoff.next()
        if failure.code == GONE:
            return Pause(seconds if failures_before else 0.0)
        wanted = min(failure.retry_after_seconds, CAP_SECONDS)
        return Pause(max(seconds, wanted), str(failure))

    def _list_again(self) -> None:
        self.request = ListFrom()
        self._objects, self._unreadable, self._problems = [], set(), []
