"""How many connections began, and how much went through them, since the last look? Pure.

What conntrack lists and what it tells as events is folded together. Both may tell of the same flow,
whichever first, and events may be lost: each beginning counts once and each byte once, as far as
they are told of at all. A flow that took the place of another in all respects, with its ports and
in the same memory, is told from that one by the end of the first, or by counters that fell.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from conntrack.traffic import Sighting


class Tally(msgspec.Struct):
    """What happened to one Service port."""

    began: int = 0
    bytes_in: int = 0
    """From clients."""
    bytes_out: int = 0
    flows: int = 0
    """In the last list, each direction together; in any state, TIME_WAIT too."""
    uncounted: int = 0
    """Of these, how many are older than the accounting of the kernel."""


_Bytes = tuple[int, int]
_NOTHING = (0, 0)


class Counting:
    """Folds what is seen of flows to Services, whose names are given with each sighting."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._there: dict[bytes, _Bytes] = {}
        """Flows that are known, each with the bytes that were counted already."""
        self._gone: dict[bytes, _Bytes] = {}
        """Those that the last list had no more: their ends may yet be told of, with last bytes."""
        self._tallies: dict[str, Tally] = {}

    def before(self, seen: Iterable[tuple[str, Sighting]]) -> None:
        """These flows began, and their bytes went, before anybody counted."""
        for _, one in seen:
            self._there[one.flow] = one.bytes_in or 0, one.bytes_out or 0

    def happened(self, service: str, seen: Sighting) -> None:
        """An event; those of one flow come in their order. What was in a list began before."""
        known = self._there.pop(seen.flow, None) or self._gone.pop(seen.flow, None)
        counted = _count(self._of(service), known, seen)
        if not seen.has_ended:
            self._there[seen.flow] = counted

    def listed(self, seen: Iterable[tuple[str, Sighting]]) -> None:
        """All flows that are there. Events older than this list are told before the next one."""
        for tally in self._tallies.values():
            tally.flows = tally.uncounted = 0
        there: dict[bytes, _Bytes] = {}
        for service, one in seen:
            flow = one.flow
            tally = self._of(service)
            known = there.get(flow)  # some are listed twice, when the kernel's table grows
            if known is None:
                tally.flows += 1
                tally.uncounted += one.bytes_in is None
                known = self._there.pop(flow, None) or self._gone.get(flow)
            there[flow] = _count(tally, known, one)
        self._gone, self._there = self._there, there

    def taken(self) -> dict[str, Tally]:
        """What happened to each Service port since this was asked last, if anything did."""
        taken = {name: tally for name, tally in self._tallies.items() if tally != Tally()}
        self._tallies = {
            name: Tally(flows=tally.flows, uncounted=tally.uncounted)
            for name, tally in taken.items()
        }
        return taken

    def _of(self, service: str) -> Tally:
        tally = self._tallies.get(service)
        if tally is None:
            tally = self._tallies[service] = Tally()
        return tally


def _count(tally: Tally, known: _Bytes | None, seen: Sighting) -> _Bytes:
    """Count what is new in a sighting, and return the bytes that are counted then."""
    if seen.bytes_in is None or seen.bytes_out is None:
        tally.began += known is None
        return known or _NOTHING
    now = (seen.bytes_in, seen.bytes_out)
    if known is None or (not seen.has_ended and (now[0] < known[0] or now[1] < known[1])):
        tally.began += 1
        known = _NOTHING
    tally.bytes_in += max(0, now[0] - known[0])
    tally.bytes_out += max(0, now[1] - known[1])
    return now
