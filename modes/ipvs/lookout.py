"""Has anybody else changed what IPVS, its sets and its link hold? Pure.

The kernel tells nobody, so what it holds is counted from time to time and held against the counts
after our last change. They are taken before each change of ours too, or it would hide what came
before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import msgspec

from endpoints.names import Family
from modes.base import EnvironmentFault, Foreign, KernelFault, Tell
from modes.ipvs.servers import LINK, ServerKey

LOOK_SECONDS = 0.5
SAMPLE = 2
"""So many virtual servers are asked for each time."""


class Counts(msgspec.Struct, frozen=True):
    """What the kernel says at once, however much it holds."""

    servers: int
    """Virtual servers of IPv4, whoever made them; those of IPv6 the kernel does not count."""
    sets: Mapping[str, int]
    """Our sets that are there, with how many elements each has; one whose elements expire: 0."""
    link: int
    """The index of the link; 0 if there is none."""
    lost: frozenset[str] = frozenset()
    """Addresses that were taken from the link since the last time."""
    deaf: bool = False
    """Some of which were not told."""


class Lookout:
    """Remembers what is right, and what was seen to be wrong."""

    def __init__(
        self, count: Callable[[], Counts], needs: Callable[[str], bool], tell: Tell
    ) -> None:
        """`needs` tells whether an address shall be on the link."""
        self._count = count
        self._tell = tell
        self._needs = needs
        self._noted: Counts | None = None
        self._seen: dict[Foreign, None] = {}
        self._sample: Iterator[ServerKey] = iter(())
        self._samples: list[ServerKey] | None = None

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Whatever changes meanwhile, is our doing."""
        self.look()
        try:
            yield
        finally:
            self._noted = self._counted()
            self._samples = None

    def look(self) -> None:
        """See what has changed since the last time; each change is told once."""
        found = self._counted()
        if self._noted and found:
            self._see(_differences(self._noted, found))
        self._noted = found

    def settle(self) -> None:
        """Everything will be read now: what was changed before is not to be told any more."""
        self.look()
        self._seen = {}

    def _counted(self) -> Counts | None:
        try:
            found = self._count()
        except (KernelFault, OSError) as fault:
            self._tell("Not looked at", reason=str(fault))
            return None
        self._see(self._lost(found))
        return found

    def sample(
        self, servers: Callable[[], Iterable[ServerKey]], exists: Callable[[ServerKey], bool]
    ) -> None:
        """Ask for some virtual servers of IPv6, for the next ones the next time."""
        chosen = list(islice(self._sample, SAMPLE))
        if not chosen:
            if self._samples is None:
                self._samples = sorted(key for key in servers() if key.family is Family.IPV6)
            self._sample = iter(self._samples)
            chosen = list(islice(self._sample, SAMPLE))
        try:
            missing = [key for key in chosen if not exists(key)]
            if missing:  # some of them may be gone by our own doing, since they were chosen
                missing = sorted(set(missing).intersection(servers()))
            self._see(f"virtual server {key} deleted" for key in missing)
        except (KernelFault, EnvironmentFault, OSError) as fault:
            self._tell("Not looked at", reason=str(fault))

    def take(self) -> tuple[Foreign, ...]:
        """What was seen since the last time."""
        seen, self._seen = tuple(self._seen), {}
        return seen

    def _see(self, differences: Iterable[str]) -> None:
        self._seen |= dict.fromkeys(map(Foreign, differences))

    def _lost(self, found: Counts) -> Iterator[str]:
        if found.deaf:
            yield f"addresses of {LINK}: notifications were lost"
        lost = sorted(filter(self._needs, found.lost))
        if lost and found.link:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            yield f"address {lost[0]}{more} of {LINK} deleted"


def _differences(noted: Counts, found: Counts) -> Iterator[str]:
    if found.servers != noted.servers:
        yield f"{found.servers:,} virtual servers of IPv4 instead of {noted.servers:,}"
    yield from _of_sets(noted.sets, found.sets)
    if found.link != noted.link:
        yield f"link {LINK} {'made anew' if found.link else 'deleted'}"


def _of_sets(noted: Mapping[str, int], found: Mapping[str, int]) -> Iterator[str]:
    changed = [name for name, number in noted.items() if found.get(name) != number]
    for name in changed[:1]:
        more = f", and {len(changed) - 1} more sets changed" if len(changed) > 1 else ""
        number = found.get(name)
        what = "deleted" if number is None else f"has {number:,} elements, not {noted[name]:,}"
        yield f"set {name} {what}{more}"
