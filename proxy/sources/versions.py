"""Is what a server says newer than what it said before? Pure.

Resource versions of one kind are numbers that only grow, decimal and without leading zeros
(KEP-5504). What is spelled otherwise cannot be compared, and is taken as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.names import ObjectName

NOWHERE = ("", "0")
"""No version of anything: a watch from there begins with all there is."""
_MOST_DIGITS = 40
_MOST_GONE = 1000
"""Deletions that are remembered. A server that tells of an object after it told of its deletion
does so soon, or not at all."""


def comparable(version: str) -> int | None:
    """The number that a resource version is; None if it is none."""
    if not (version.isascii() and version.isdecimal()) or len(version) > _MOST_DIGITS:
        return None
    return None if version.startswith("0") else int(version)


class Versions:
    """Which version of each object of one kind is known.

    `floor` is the version of the list that it began with, `latest` the newest that was seen of
    anything; None where that could not be compared.
    """

    def __init__(self) -> None:
        self.floor: int | None = None
        self.latest: int | None = None
        self._known: dict[ObjectName, int] = {}
        self._gone: dict[ObjectName, int] = {}

    def __len__(self) -> int:
        """How many versions are remembered."""
        return len(self._known) + len(self._gone)

    def begin(self, version: str) -> None:
        """The list is complete, and as of this version."""
        self.floor = self.latest = comparable(version)

    def advance(self, version: str) -> bool:
        """The server has come as far as this; whether we have to follow it there."""
        number = comparable(version)
        if version in NOWHERE or (number and self.latest and number <= self.latest):
            return False
        self.latest = number
        return True

    def is_past(self, version: str) -> bool:
        """Whether the server was further than this already."""
        number = comparable(version)
        return number is not None and self.latest is not None and number < self.latest

    def admit(self, name: ObjectName, version: str, *, gone: bool = False) -> bool:
        """Whether this version of an object, or its deletion, is news; then it is what is known.

        The deletion may carry the version of the last change. What the list did not hold, and is no
        newer than the list, was deleted before.
        """
        number = comparable(version)
        known = self._known.get(name)
        if number is not None:
            limit = self._gone.get(name, self.floor) if known is None else known
            if limit is not None and number < limit + (known is None or not gone):
                return False
        if known is not None and (gone or number is None):
            del self._known[name]
        if self._gone:
            self._gone.pop(name, None)
        if number is None:
            return True
        (self._gone if gone else self._known)[name] = number
        if len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]
        return True

    def keep(self, names: Iterable[ObjectName], before: Versions) -> None:
        """These objects are there, in a version that nobody could read."""
        for name in names:
            if name not in self._known and name in before._known:
                self._known[name] = before._known[name]

    def behind(self, before: Versions) -> str:
        """What shows that this is older than what was known before; empty if nothing does."""
        if self.latest is not None and before.latest is not None and self.latest < before.latest:
            return f"resourceVersion {self.latest} after {before.latest}"
        for name, version in self._known.items():
            if (known := before._known.get(name, version)) > version:
                return f"{name} of resourceVersion {version} after {known}"
        return ""
