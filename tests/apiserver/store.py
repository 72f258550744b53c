"""What does an API server remember? Objects, their history, and how much of it was compacted away."""

from __future__ import annotations

import bisect
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from endpoints.names import ObjectName
from endpoints.objects import Kind

Json = dict[str, Any]


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

    kind: Kind
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
        self._items: dict[Kind, dict[ObjectName, Item]] = {kind: {} for kind in Kind}
        self._history: list[Change] = []
        self._half_read: list[list[Item]] = []
        self._first_half_read = 0

    def put(self, document: Json) -> None:
        """Create or replace an object."""
        meta = document["metadata"]
        name = ObjectName(meta.get("namespace", ""), meta["name"])
        with self._step() as revision:
            stamped = document | {"metadata": meta | {"resourceVersion": str(revision)}}
            body = json.dumps(stamped, separators=(",", ":")).encode()
            item = Item(name, meta.get("labels") or {}, revision, body)
            self._record(Kind(document["kind"]), name, item)

    def put_all(self, documents: Iterable[Json]) -> None:
        """Create or replace many."""
        for document in documents:
            self.put(document)

    def get(self, kind: Kind, name: ObjectName) -> Item:
        """The object as it is. Raises KeyError."""
        with self.changed:
            return self._items[kind][name]

    def delete(self, kind: Kind, name: ObjectName) -> None:
        """Delete an object. Raises KeyError if there is none."""
        with self._step() as revision:
            self._history.append(Change(kind, revision, self._items[kind].pop(name), None))

    def compact(self) -> None:
        """Forget the past: revisions before this one, and lists that are half read."""
        with self._step():  # somewhere something else changes all the time
            self.floor = self.revision
            self._history.clear()
            self._first_half_read += len(self._half_read)
            self._half_read.clear()

    def snapshot(self, kind: Kind) -> tuple[int, list[Item]]:
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

    def since(self, kind: Kind, revision: int) -> list[Change]:
        """What happened to a kind after a revision. Raises Expired."""
        with self.changed:
            if revision < self.floor:
                raise Expired(f"too old resource version: {revision} ({self.floor})")
            start = bisect.bisect_right(self._history, revision, key=lambda c: c.revision)
            return [change for change in self._history[start:] if change.kind is kind]

    def _record(self, kind: Kind, name: ObjectName, item: Item) -> None:
        before = self._items[kind].get(name)
        self._items[kind][name] = item
        self._history.append(Change(kind, item.revision, before, item))

    @contextmanager
    def _step(self) -> Iterator[int]:
        with self.changed:
            self.revision += 1
            yield self.revision
            self.changed.notify_all()


def label_selector(text: str) -> Selector:
    """`!key`, `key`, `key=value`, with commas between. Raises ValueError for anything else."""

    def term(part: str) -> Callable[[dict[str, str]], bool]:
        if not part or set(part) & set("() "):
            raise ValueError(f"unable to parse the label selector {text!r}")
        key, equals, value = part.partition("=")
        if equals:
            return lambda labels: labels.get(key) == value
        if part.startswith("!"):
            return lambda labels: part[1:] not in labels
        return lambda labels: part in labels

    terms = [term(part) for part in text.split(",")] if text else []
    return lambda item: all(matches(item.labels) for matches in terms)


def field_selector(text: str) -> Selector:
    """`metadata.name=...` and `metadata.namespace=...`. Raises ValueError for anything else."""

    def term(part: str) -> Callable[[ObjectName], bool]:
        key, _, value = part.partition("=")
        match key:
            case "metadata.name":
                return lambda name: name.name == value
            case "metadata.namespace":
                return lambda name: name.namespace == value
            case _:
                raise ValueError(f"field label not supported: {key}")

    terms = [term(part) for part in text.split(",")] if text else []
    return lambda item: all(matches(item.name) for matches in terms)
