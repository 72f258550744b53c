"""What to ask the API server next, and how long to wait before? Pure.

One `Watch` follows one kind: it asks for a stream that begins with all there is, resumes after a
cut and begins again when the server has forgotten where we were. A server that knows no such stream
is listed page by page instead. It knows no sockets and no clock; who drives it
(`proxy.sources.api`) sends the requests and tells what came of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from endpoints.decode import Watched, decode_list, decode_watch
from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import Kind, KubernetesObject, name_of
from endpoints.validate import Shared
from proxy.sources.versions import NOWHERE, Versions

BASE_SECONDS = 0.5
CAP_SECONDS = 30.0
HEALTHY_SECONDS = 5.0
"""A stream that lived so long has worked: the next request need not wait."""
GONE = 410
_TRANSIENT = frozenset({0, 401, 403, 429, 500, 502, 503})
"""After these the same request may succeed later; 0 is no answer at all. After any other, and any
ERROR in a stream, only a new list is sure to be right: 410 when the server has compacted away our
resource version, 400 when a continue token makes no sense to it."""
_NO_SUCH_STREAM = frozenset({400, 422})
"""What a server answers that does not know initial events, or has the feature switched off."""
_INITIAL_TRIES = 3
"""After so many streams whose initial events did not come to an end, pages may do better."""
_LISTS_TO_BELIEVE = 3
"""So many in a row from the past, and the server was restored from a backup: that is all there is.
One may come from a server that lags behind the others."""
_STALE_EVENTS = 16
"""More than these in a row tell nothing new: then only a list can say who is right."""
_SHORT_STREAMS = 3
"""More than these in a row are worth a word: something between us and the server ends them."""
_SILENT_STREAMS = 2
"""After so many in a row we list again. A living server sends bookmarks; the watch of a resource
version that is ahead of it, because its etcd was restored from a backup, is accepted and silent."""


class ListFrom(msgspec.Struct, frozen=True):
    """Ask for a page of the list: the first if the token is empty."""

    continue_token: str = ""


class WatchAll(msgspec.Struct, frozen=True):
    """Ask for a stream that begins with all there is (WatchList, KEP-3157)."""


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
    list, `failed` for a request that failed or was refused; for a stream `opened`, `line` for each
    of its lines and `ended` at its end. The messages that come back are for the queue, in this
    order. What is older than what was told before is not told.
    """

    def __init__(self, kind: Kind, random: Callable[[], float]) -> None:
        self.kind = kind
        self.request: ListFrom | WatchAll | WatchFrom = WatchAll()
        self.initial = False
        """Whether the stream that is open has not told yet all there is."""
        self._in_pages = False
        self._backoff = Backoff(random)
        self._versions = Versions()
        self._gather = _Gather()
        self._doubts = 0
        self._expiries = 0
        self._progress = False
        self._stale_events = 0
        self._short_streams = 0
        self._silent_streams = 0
        self._unfinished_streams = 0

    @property
    def steady(self) -> bool:
        """Whether streams do not end as soon as they begin, time and again."""
        return self._short_streams <= _SHORT_STREAMS

    def page(self, body: bytes) -> list[Replace | Problem]:
        """A page has come; the last one completes the list.

        A list is one `Replace`, however many pages it came in and whatever was known before.
        Raises Broken if this is no list, or one from the past: then `failed` is due.
        """
        try:
            page = decode_list(body, self.kind)
        except msgspec.DecodeError as error:
            raise Broken(Failure(f"the answer is no list: {error}")) from error
        for obj in page.objects:
            self._gather.add(name_of(obj), obj)
        self._gather.unreadable |= page.unreadable
        self._gather.problems += page.problems
        if page.continue_token:
            self.request = ListFrom(page.continue_token)
            return []
        return self._complete(page.resource_version)

    def opened(self) -> None:
        """The stream that was asked for begins."""
        self.initial = isinstance(self.request, WatchAll)

    def line(self, line: bytes) -> Sequence[Upsert | Delete | Replace | Problem]:
        """A line of the stream has come.

        Raises Broken if it is no event, the server's word that it cannot go on, or nothing that
        could follow what came before: then the stream is to be closed, and `ended` is due.
        """
        try:
            watched = decode_watch(line, self.kind, self._gather.shared if self.initial else None)
        except msgspec.DecodeError as error:
            raise self._broken(f"a line of the watch is no event: {error}") from error
        if watched.type == "ERROR":
            raise self._broken(watched.message or "an error in the watch", watched.code)
        if self.initial:
            return self._initially(watched)
        self._short_streams = self._silent_streams = 0
        return self._changed(watched)

    def ended(self, lasted_seconds: float, failure: Failure | None = None) -> Pause:
        """The stream has ended, in good order or by a failure in its middle."""
        is_silence = failure is not None and failure.is_silence
        initial, self.initial = self.initial, False
        if initial:
            self._unfinished(for_good=is_silence)
        healthy = lasted_seconds >= HEALTHY_SECONDS and not (initial or self._doubts)
        if healthy or self._progress:
            self._backoff.reset()
            self._expiries = 0
        self._short_streams = 0 if healthy or self._progress else self._short_streams + 1
        self._progress = False
        if is_silence and not initial:
            self._silent_streams += 1
            if self._silent_streams >= _SILENT_STREAMS:
                self._silent_streams = 0
                self._list_again()
        if failure is not None and failure.code == GONE:
            return self._expired()
        failures_before, seconds = self._backoff.failures, self._backoff.next()
        if failures_before == 0 and healthy:
            return Pause(0.0)
        reason = str(failure or "closed by the server")
        if self._doubts:
            return Pause(seconds, reason)
        return Pause(seconds, "" if self.steady else f"watches end at once: {reason}")

    def failed(self, failure: Failure) -> Pause:
        """The request was not answered, was refused, or was answered with nonsense."""
        if isinstance(self.request, WatchAll) and failure.code not in _TRANSIENT - {500}:
            self._unfinished(for_good=failure.code in _NO_SUCH_STREAM)
            if self._in_pages:
                return Pause(0.0)
        if failure.code not in _TRANSIENT:
            self._list_again()
        if failure.code == GONE:
            return self._expired()
        wanted = min(failure.retry_after_seconds, CAP_SECONDS)
        return Pause(max(self._backoff.next(), wanted), str(failure))

    def _initially(self, watched: Watched) -> list[Replace | Problem]:
        """Before the end of the initial events, changes of what was told may come between them."""
        if watched.initial_events_end and watched.resource_version not in NOWHERE:
            self.initial = False
            return self._complete(watched.resource_version)
        if watched.type == "BOOKMARK":
            # No other bookmark comes before the end, except where initial events are not known.
            self._unfinished(for_good=True)
            raise Broken(Failure("the server does not say where what is there already ends"))
        self._gather.change(watched)
        return []

    def _changed(self, watched: Watched) -> list[Upsert | Delete | Problem]:
        version, gone = watched.resource_version, isinstance(watched.event, Delete)
        is_bookmark = watched.type == "BOOKMARK"
        if is_bookmark and self._versions.is_past(version):
            raise self._broken(f"the watch went back to resourceVersion {version}")
        if watched.name and not self._versions.admit(watched.name, version, gone=gone):
            self._stale_events += 1
            if self._stale_events > _STALE_EVENTS:
                raise self._broken("the watch tells only what was known")
            return []
        if self._versions.advance(version):
            self.request = WatchFrom(version)
        self._progress |= not is_bookmark
        self._stale_events = 0
        return [item for item in (watched.event, watched.problem) if item is not None]

    def _complete(self, version: str) -> list[Replace | Problem]:
        """This is all there is, as of this version. Raises Broken if it is from the past."""
        gather = self._gather
        gather.versions.begin(version)
        self._unfinished_streams = self._stale_events = 0
        behind = gather.versions.behind(self._versions)
        self._list_again()
        if behind and self._doubts + 1 < _LISTS_TO_BELIEVE:
            self._doubts += 1
            raise Broken(Failure(f"a list from the past: {behind}"))
        if not behind:
            gather.versions.keep(gather.unreadable, self._versions)
        self._doubts = 0
        self._versions = gather.versions
        self.request = WatchFrom(version)
        replace = Replace(self.kind, tuple(gather.objects.values()), frozenset(gather.unreadable))
        return [replace, *gather.problems]

    def _expired(self) -> Pause:
        """The server has forgotten where we were: no reason to worry, once.

        Nor to wait, even after an outage: a server that says so is back.
        """
        seconds = self._backoff.next()
        self._expiries += 1
        return Pause(0.0 if self._expiries == 1 else seconds)

    def _unfinished(self, *, for_good: bool) -> None:
        """A stream did not come to the end of its initial events; begin anew."""
        self._unfinished_streams += 1
        self._in_pages |= for_good or self._unfinished_streams >= _INITIAL_TRIES
        self._list_again()

    def _broken(self, reason: str, code: int = 0) -> Broken:
        self._list_again()
        return Broken(Failure(reason, code))

    def _list_again(self) -> None:
        self.request = ListFrom() if self._in_pages else WatchAll()
        self._stale_events = 0
        self._gather = _Gather()


class _Gather:
    """What a list has told so far."""

    def __init__(self) -> None:
        self.objects: dict[ObjectName, KubernetesObject] = {}
        self.unreadable: set[ObjectName] = set()
        self.problems: list[Problem] = []
        self.versions = Versions()
        self.shared = Shared({})

    def add(self, name: ObjectName, obj: KubernetesObject) -> None:
        """An object is there."""
        if self.versions.admit(name, obj.metadata.resource_version):
            self.objects[name] = obj
            self.unreadable.discard(name)

    def change(self, watched: Watched) -> None:
        """An event is one of the initial ones, or came between them."""
        name, event = watched.name, watched.event
        gone = isinstance(event, Delete)
        if name:
            if not self.versions.admit(name, watched.resource_version, gone=gone):
                return
            if isinstance(event, Upsert):
                self.objects[name] = event.object
            else:
                self.objects.pop(name, None)
            if event is None:
                self.unreadable.add(name)
            else:
                self.unreadable.discard(name)
        if watched.problem is not None:
            self.problems.append(watched.problem)
