"""Who is told of what syncs do?

Figures, health, Events of Kubernetes: each is an `Observer`, told by the thread that syncs, and
must return at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from endpoints.events import Problem
from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.objects import Node
from modes.base import ApplyReport, Foreign, Plans


class Synced(msgspec.Struct, frozen=True):
    """A sync that the kernel took."""

    seconds: float
    """From the first look at the news to the kernel's last answer."""
    report: ApplyReport
    full: bool
    """All Services were compared with the kernel, and not just those that changed."""
    services: int
    """How many there are."""
    node: NodeView
    triggered: tuple[float, ...] = ()
    """When the changes of EndpointSlices that it carries were made, in seconds since 1970, as
    their annotations say."""


class Repair(msgspec.Struct, frozen=True):
    """Rules that somebody else had changed are again what they should be."""

    cause: Foreign
    seconds: float
    """From the notice to the kernel's last answer."""
    report: ApplyReport


class Observer:
    """Wants to know nothing; those that want to know something override it."""

    def queued(self, services: int, slices: int) -> None:
        """So many more Services and EndpointSlices have news that no sync has carried yet."""

    def node(self, node: Node | None) -> None:
        """The Node object of this node is this now; None: there is none."""

    def planning_all(self) -> None:
        """All Services are planned anew: what was planned before counts no more."""

    def planned(self, service: ObjectName, plans: Plans) -> None:
        """A Service means this for the node now; empty plans: it needs nothing, or is gone."""

    def synced(self, synced: Synced) -> None:
        """The kernel agrees with all that was queued, but for what `refused` told."""

    def failed(self, reason: str) -> None:
        """A sync failed as a whole; what the kernel holds is not known."""

    def refused(self, service: ObjectName, reason: str) -> None:
        """The kernel refuses a Service, for a reason that is new."""

    def skipped(self, problem: Problem) -> None:
        """Input cannot be used."""

    def drifted(self, foreign: Foreign) -> None:
        """Our rules are not what they should be, or may not be and nobody may look yet."""

    def compared(self) -> None:
        """All rules were compared with the kernel, with nobody suspected, and are right."""

    def settled(self) -> None:
        """What was suspected was looked into: our rules are what they should be."""

    def repaired(self, repair: Repair) -> None:
        """Our rules had been changed, and are right again."""

    def fought(self, foreign: Foreign, pause_seconds: float) -> None:
        """Somebody changes our rules again and again: the next repair waits so long."""

    def cleaned(self, deleted: Mapping[Family, int], seconds: Mapping[Family, float]) -> None:
        """So many flows that had become lies are deleted, which took so long.

        Told by another thread (`proxy.cleaning`).
        """


class Observers(Observer):
    """Tells several, in their order."""

    def __init__(self, all_: Iterable[Observer]) -> None:
        self._all = tuple(all_)

    def queued(self, services: int, slices: int) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.queued(services, slices)

    def node(self, node: Node | None) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.node(node)

    def planning_all(self) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.planning_all()

    def planned(self, service: ObjectName, plans: Plans) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.planned(service, plans)

    def synced(self, synced: Synced) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.synced(synced)

    def failed(self, reason: str) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.failed(reason)

    def refused(self, service: ObjectName, reason: str) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.refused(service, reason)

    def skipped(self, problem: Problem) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.skipped(problem)

    def drifted(self, foreign: Foreign) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.drifted(foreign)

    def compared(self) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.compared()

    def settled(self) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.settled()

    def repaired(self, repair: Repair) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.repaired(repair)

    def fought(self, foreign: Foreign, pause_seconds: float) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.fought(foreign, pause_seconds)

    def cleaned(self, deleted: Mapping[Family, int], seconds: Mapping[Family, float]) -> None:
        """As of an Observer."""
        for observer in self._all:
            observer.cleaned(deleted, seconds)
