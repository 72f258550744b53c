"""Which real servers take no new connections, and when do they go? Pure.

A real server whose endpoint is gone has weight 0 until nobody uses it or its time is over. The
deadline stands in a set of the kernel too (`ipsets.Kind.DRAINING`), so that it outlives us.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from modes.ipvs.ipsets import Element, Entry, Kind, SetName
from modes.ipvs.marks import as_address
from modes.ipvs.servers import FoundReal, RealServer, ServerKey, VirtualServer

LOOK_SECONDS = 5.0
"""How often it is looked whether those that drain have become idle."""


class Drained(msgspec.Struct):
    """What of one virtual server drains."""

    server: VirtualServer
    deadlines: dict[RealServer, float]
    """By a monotonic clock, in seconds."""
    lingers: bool
    """The virtual server has no other real servers: it goes with the last of these."""


class Draining:
    """All that drain."""

    def __init__(self) -> None:
        """Nothing does."""
        self._servers: dict[ServerKey, Drained] = {}

    def __bool__(self) -> bool:
        """Whether anything drains."""
        return bool(self._servers)

    def __iter__(self) -> Iterator[ServerKey]:
        """The virtual servers of which something drains."""
        return iter(tuple(self._servers))

    def get(self, key: ServerKey) -> Drained | None:
        """What drains of a virtual server."""
        return self._servers.get(key)

    def begin(self, key: ServerKey, server: VirtualServer, real: RealServer, until: float) -> None:
        """A real server drains until then; one that does already keeps its deadline."""
        drained = self._servers.setdefault(key, Drained(server, {}, lingers=False))
        drained.deadlines.setdefault(real, until)

    def end(self, key: ServerKey, real: RealServer) -> None:
        """It has come back, or is gone."""
        drained = self._servers.get(key)
        if drained is not None:
            drained.deadlines.pop(real, None)
            if not drained.deadlines:
                del self._servers[key]

    def forget(self, key: ServerKey) -> None:
        """The virtual server is gone."""
        self._servers.pop(key, None)

    def settle(self, key: ServerKey, *, lingers: bool) -> None:
        """Say whether a virtual server has nothing but what drains."""
        drained = self._servers.get(key)
        if drained is not None:
            drained.lingers = lingers

    def shares_entry(self, key: ServerKey, real: RealServer) -> bool:
        """Whether another port of the same address drains: their entries in the set are one."""
        drained = self._servers.get(key)
        others = drained.deadlines if drained is not None else {}
        return any(other.address == real.address and other != real for other in others)

    def lingers_without(self, key: ServerKey, due: Collection[RealServer]) -> bool:
        """Whether a virtual server has nothing left once these are gone."""
        drained = self._servers.get(key)
        return drained is not None and drained.lingers and len(due) == len(drained.deadlines)

    def due(
        self, key: ServerKey, found: Mapping[RealServer, FoundReal], now: float
    ) -> list[RealServer]:
        """Those whose time has come: idle, past their deadline, or removed by somebody else."""
        drained = self._servers.get(key)
        if drained is None:
            return []
        return [
            real
            for real, deadline in drained.deadlines.items()
            if real not in found or found[real].is_idle or now >= deadline
        ]

    def seconds_until_look(self, now: float) -> float | None:
        """When to look again; None: nothing drains."""
        deadlines = [at for of in self._servers.values() for at in of.deadlines.values()]
        return max(0.0, min(LOOK_SECONDS, min(deadlines) - now)) if deadlines else None


def entry(key: ServerKey, real: RealServer) -> Entry:
    """Where the deadline stands; a mark stands in the place of an address, with port 0."""
    address = as_address(key.mark, key.family) if key.mark else key.address
    element = Element(address, key.protocol, key.port, real.address)
    return Entry(SetName(Kind.DRAINING, key.family), element)
