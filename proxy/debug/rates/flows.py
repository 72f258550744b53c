"""What does the kernel tell of the flows to Services, from now on?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from conntrack.flows import Filter
from conntrack.kernel import Events, Kernel
from conntrack.traffic import Reader, Sighting
from endpoints.names import Family
from proxy.debug.rates.counting import Counting, Tally
from proxy.debug.rates.reached import Places, as_tracked

_AT_ONCE = 1 << 16
"""Events that are read before something else is done: they may come faster than they are read."""
_SHARE_OF_LOOKING = 20
"""Where Services are reached is asked for again when so many times as long has gone by."""


class Told(msgspec.Struct, frozen=True):
    """What was told in an interval."""

    tallies: Mapping[str, Tally]
    """By Service port, of those that are in use."""
    has_gaps: bool
    """Whether the kernel dropped events for want of room."""


class Flows:
    """Asks conntrack in the network namespace of the thread that makes it."""

    def __init__(self, look: Callable[[], Places], clock: Callable[[], float]) -> None:
        """Count from now on; what was before counts for nothing.

        Args:
            look: finds out where Services are reached.
            clock: counts seconds.

        Raises EnvironmentFault, and KernelFault, and what `look` raises.
        """
        self._look, self._clock = look, clock
        self._counting = Counting()
        self._reader: Reader[str] = Reader({})
        self._has_gaps = False
        self.places: Places = {}
        """Where Services are reached, as far as it is known."""
        self._kernel = Kernel()
        try:
            self._events = Events()
        except BaseException:
            self._kernel.close()
            raise
        try:
            self._find_places()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the sockets back."""
        self._events.close()
        self._kernel.close()

    def hear(self) -> None:
        """Read the events that have come. Raises KernelFault."""
        for _, datagram in zip(range(_AT_ONCE), self._events.take(), strict=False):
            if datagram is None:
                self._has_gaps = True
                continue
            for service, seen in self._reader.sightings(datagram):
                self._counting.happened(service, seen)

    def told(self) -> Told:
        """What happened since this was asked last. Raises as at the beginning."""
        self.hear()
        self._counting.listed(self._listed(self._reader))
        self.hear()
        told = Told(self._counting.taken(), self._has_gaps)
        self._has_gaps = False
        if self._clock() >= self._look_after:
            self._find_places()
        return told

    def _find_places(self) -> None:
        """Flows to a place that is new here count from now on."""
        began = self._clock()
        places = self._look()
        self._look_after = self._clock() + _SHARE_OF_LOOKING * (self._clock() - began)
        if added := {at: service for at, service in places.items() if at not in self.places}:
            self._counting.before(self._listed(Reader(as_tracked(added))))
            self.hear()
        if places != self.places:
            self.places = places
            self._reader.places = as_tracked(places)

    def _listed(self, reader: Reader[str]) -> Iterator[tuple[str, Sighting]]:
        for family in Family:
            for datagram in self._kernel.datagrams(Filter(family)):
                yield from reader.sightings(datagram)
