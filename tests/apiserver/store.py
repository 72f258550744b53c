"""What does an API server remember? Objects, their history, and how much of it was compacted away."""

from __future__ import annotations

import bisect
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from endpoints.names import ObjectName

Json = dict[str, Any]

REMEMBERED = 50_000
"""Steps of history at least; a real server keeps up to about twice as many of a kind."""
_VERSION = b'"resourceVersion":"'


class Item(NamedTuple):
    """An object as it was at one revision."""

    name: ObjectName
    labels: dict[str, str]
    revision: int
    body: bytes

    @property
    def document(self) -> Json:
        """The object, parsed: a copy."""
        parsed: Json = json.loads(self.body)
        return parsed


class Change(NamedTuple):
    """One step of history: `after` is None for a deletion."""

    kind: str
    revision: int
    before: Item | None
    after: Item | None


Selector = Callable[[Item], bool]


class Expired(Exception):
    """What is asked for was compacted away."""


class Store:
    """Objects by kind and name, under one growing revision; safe for any number of threads."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 1000
        self.floor = 0
        """Changes up to this revision are forgotten."""
        self._items: defaultdict[str, dict[ObjectName, Item]] = defaultdict(dict)
        self._history: list[Change] = []
        self._half_read: list[list[Item]] = []
        self._first_half_read = 0

    def put(self, document: Json) -> Item:
        """Create or replace an object, and return it as it is then."""
        meta = document["metadata"]
        name = ObjectName(meta.get("namespace", ""), meta["name"])
        with self._step() as revision:
            stamped = document | {"metadata": meta | {"resourceVersion": str(revision)}}
            item = Item(name, meta.get("labels") or {}, revision, msgspec.json.encode(stamped))
            self._record(document["kind"], name, item)
        return item

    def put_encoded(self, kind: str, bodies: Iterable[tuple[ObjectName, bytes]]) -> None:
        """Replace objects of a kind that keep their labels, and wake who waits only once.

        The bodies carry some version, which becomes another. Raises KeyError if one is not there.
        """
        with self.changed:
            for name, body in bodies:
                before = self._items[kind][name]
                self.revision += 1
                head, start, rest = body.partition(_VERSION)
                tail = rest[rest.index(b'"') :]
                stamped = b"%b%b%d%b" % (head, start, self.revision, tail)
                self._record(kind, name, Item(name, before.labels, self.revision, stamped))
            self.changed.notify_all()

    def put_all(self, documents: Iterable[Json]) -> None:
        """Create or replace many."""
        for document in documents:
            self.put(document)

    def get(self, kind: str, name: ObjectName) -> Item:
        """The object as it is. Raises KeyError."""
        with self.changed:
            return self._items[kind][name]

    def holds(self, kind: str, name: ObjectName) -> bool:
        """Tell whether there is such an object."""
        with self.changed:
            return name in self._items[kind]

    def delete(self, kind: str, name: ObjectName) -> None:
        """Delete an object. Raises KeyError if there is none."""
        with self._step() as revision:
            self._remember(Change(kind, revision, self._items[kind].pop(name), None))

    def compact(self) -> None:
        """Forget the past: revisions before this one, and lists that are half read."""
        with self._step():  # somewhere something else changes all the time
            self.floor = self.revision
            self._history.clear()
            self._first_half_read += len(self._half_read)
            self._half_read.clear()

    def snapshot(self, kind: str) -> tuple[int, list[Item]]:
        """The revision, and all objects of a kind in the order of a list."""
        with self.changed:
            items = sorted(self._items[kind].values(), key=lambda item: item.name)
            return self.revision, items

    def keep(self, items: list[Item]) -> int:
        """Remember a list whose pages are not all read; the number to ask for it."""
        with self.changed:
            self._half_read.append(items)
            return self._first_half_read + len(self._half_read) - 1

    def kept(self, number: int) -> list[Item]:
        """A list that was kept. Raises Expired."""
        with self.changed:
            if number < self._first_half_read:
                raise Expired("the provided continue parameter is too old")
            return self._half_read[number - self._first_half_read]

    def since(self, kind: str, revision: int) -> list[Change]:
        """What happened to a kind after a revision. Raises Expired."""
        with self.changed:
            if revision < self.floor:
                raise Expired(f"too old resource version: {revision} ({self.floor})")
            start = bisect.bisect_right(self._history, revision, key=lambda c: c.revision)
            return [change for change in self._history[start:] if change.kind == kind]

    def _record(self, kind: str, name: ObjectName, item: Item) -> None:
        before = self._items[kind].get(name)
        self._items[kind][name] = item
        self._remember(Change(kind, item.revision, before, item))

    def _remember(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) >= 2 * REMEMBERED:
            self.floor = self._history[REMEMBERED - 1].revision
            del self._history[:REMEMBERED]

    @contextmanager
    def _step(self) -> Iterator[int]:
        with self.changed:
            self.revision += 1
            yield self.revision
            self.changed.notify_all()
