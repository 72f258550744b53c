"""Which file says what about which object, and what does a saved file change? Pure.

A file counts with all its objects. Where two files hold the same object, the first file in sorted
order has it, and the other one takes over when that goes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from endpoints.documents import read_documents
from endpoints.events import Delete, Event, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import KIND_OF, Kind, KubernetesObject, name_of
from proxy.parsing.documents import documents
from proxy.parsing.malformed import Malformed

Key = tuple[Kind, ObjectName]


class Contents(msgspec.Struct, frozen=True):
    """What a file says."""

    objects: Mapping[Key, KubernetesObject] = {}
    unreadable: frozenset[ObjectName] = frozenset()
    """Objects that are there and were refused: what was known of them stays."""
    malformed: bool = False
    """A part of the file could not be understood: nobody knows which objects it speaks of."""
    problems: tuple[Problem, ...] = ()


def contents(data: bytes, path: str) -> Contents:
    """Read a file's bytes. Never raises: what cannot be read is among the problems."""
    broken: list[Problem] = []

    def readable() -> Iterator[tuple[object, str]]:
        for item in documents(data, is_json=path.endswith(".json")):
            if isinstance(item, Malformed):
                broken.append(Problem(f"{path}:{item.line}", "", "", item.reason))
            else:
                document, line = item
                yield document, f"{path}:{line}"

    page = read_documents(readable())
    objects: dict[Key, KubernetesObject] = {}
    repeated: list[Problem] = []
    for obj in page.objects:
        key = (KIND_OF[type(obj)], name_of(obj))
        if key in objects:
            reason = "is in this file twice; the first one is used"
            repeated.append(Problem(path, "", f"{key[0]} {key[1]}", reason))
        objects.setdefault(key, obj)
    problems = (*broken, *page.problems, *repeated)
    return Contents(objects, page.unreadable, bool(broken), problems)


class Files:
    """What all files say together."""

    def __init__(self) -> None:
        self._files: dict[str, dict[Key, KubernetesObject]] = {}
        self._holders: dict[Key, list[str]] = {}

    def __contains__(self, path: str) -> bool:
        """Whether something was read from the file."""
        return path in self._files

    def __iter__(self) -> Iterator[str]:
        """The files that were read."""
        return iter(self._files)

    def objects(self) -> tuple[KubernetesObject, ...]:
        """Each object once, as the file that has it says."""
        return tuple(self._files[paths[0]][key] for key, paths in self._holders.items())

    def replacements(self) -> tuple[Replace, ...]:
        """All objects, one event for each kind."""
        rows: dict[Kind, list[KubernetesObject]] = {kind: [] for kind in Kind}
        for obj in self.objects():
            rows[KIND_OF[type(obj)]].append(obj)
        return tuple(Replace(kind, tuple(objects)) for kind, objects in rows.items())

    def put(self, path: str, new: Contents) -> tuple[tuple[Event, ...], tuple[Problem, ...]]:
        """Take what a file says now, and return what that changes.

        A malformed file changes nothing; one that was never read before counts as far as it goes.
        """
        known = self._files.get(path)
        if known is not None and new.malformed:
            return (), new.problems
        kept = {key: obj for key, obj in (known or {}).items() if key[1] in new.unreadable}
        clashes = self._clashes(path, new.objects.keys() - (known or {}).keys())
        events = self._exchange(path, {**kept, **new.objects})
        return events, new.problems + clashes

    def remove(self, path: str) -> tuple[Event, ...]:
        """Forget a file, and return what that changes."""
        events = self._exchange(path, {})
        self._files.pop(path, None)
        return events

    def _exchange(self, path: str, new: dict[Key, KubernetesObject]) -> tuple[Event, ...]:
        old = self._files.get(path, {})
        keys = sorted(old.keys() | new.keys())
        before = [self._held(key) for key in keys]
        self._files[path] = new
        for key in [key for key in old if key not in new]:
            self._holders[key].remove(path)
            if not self._holders[key]:
                del self._holders[key]
        for key in [key for key in new if key not in old]:
            insort(self._holders.setdefault(key, []), path)
        return _differences(keys, before, self._held)

    def _held(self, key: Key) -> KubernetesObject | None:
        paths = self._holders.get(key)
        return self._files[paths[0]][key] if paths else None

    def _clashes(self, path: str, keys: Iterable[Key]) -> tuple[Problem, ...]:
        rows = []
        for kind, name in sorted(keys):
            others = self._holders.get((kind, name))
            if others:
                first, second = sorted((path, others[0]))
                reason = f"is in {first} too, which is used"
                rows.append(Problem(second, "", f"{kind} {name}", reason))
        return tuple(rows)


def _differences(
    keys: Iterable[Key],
    before: Iterable[KubernetesObject | None],
    held: Callable[[Key], KubernetesObject | None],
) -> tuple[Event, ...]:
    """What became of these objects, upserts first: make before break."""
    upserts: list[Event] = []
    deletes: list[Event] = []
    for key, old in zip(keys, before, strict=True):
        new = held(key)
        if new is None and old is not None:
            deletes.append(Delete(*key))
        elif new is not None and new != old:
            upserts.append(Upsert(new))
    return (*upserts, *deletes)
