"""What do Services promise to flows, and what did they promise before? Pure.

The memory that tells a lie from a stranger: of each frontend of UDP and SCTP, who serves it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from conntrack.flows import End
from conntrack.stale import UNKNOWN, Endpoints, Past, Reached
from endpoints.addresses import family
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import EndpointState, ServicePlan
from modes.base import Delta, Plans

Promise = Mapping[Reached, Endpoints]
"""The frontends of a Service and who serves each; nobody: packets are refused or dropped."""


class _Held(NamedTuple):
    service: ObjectName
    serving: Endpoints


def promise(plans: Plans, protocols: AbstractSet[Protocol]) -> Promise:
    """What a Service promises in these protocols."""
    found: dict[Reached, Endpoints] = {}
    for plan in plans:
        protocol = plan.name.protocol
        if protocol in protocols:
            serving = _serving(plan)
            for frontend in plan.frontends:
                at = Reached(plan.family, protocol, frontend.address, frontend.port)
                found.setdefault(at, serving)  # of two ports that are the same the first counts
    return found


def _serving(plan: ServicePlan) -> Endpoints:
    """Everybody who is ready, or serves on while terminating, wherever that is."""
    unused = (of.endpoint for of in plan.unused if of.endpoint.state is not EndpointState.NOT_READY)
    return frozenset(
        End(e.address, e.port) for of in (plan.cluster, plan.local, unused) for e in of
    )


def node_port_addresses(node: NodeView, of: Family) -> frozenset[str]:
    """The addresses of this node on which NodePorts answer."""
    chosen = node.node_ports(of)
    if not chosen.match_all:
        return frozenset(chosen.addresses)
    everywhere = {a for a in node.addresses if family(a) is of and not is_loopback(a)}
    return frozenset(everywhere.union(chosen.addresses))


class Promises:
    """What the kernel was told to do with the flows of these protocols."""

    def __init__(self, protocols: AbstractSet[Protocol]) -> None:
        """Nothing is known yet: neither now nor before."""
        self._protocols = protocols
        self._held: dict[Reached, _Held] = {}
        self._frontends: dict[ObjectName, tuple[Reached, ...]] = {}
        self._node_ports: Mapping[Family, frozenset[str]] = dict.fromkeys(Family, frozenset())
        self._unknown: set[ObjectName] = set()
        """Services that the kernel has refused since before our time."""
        self._began = False

    def serving(self, at: Reached) -> Endpoints | None:
        """Who serves an address and port; None: it is no frontend.

        An address that a Service names is that Service's, though a NodePort answers there too.
        """
        held = self._held.get(at)
        if held is None and at.address in self._node_ports[at.family]:
            held = self._held.get(at._replace(address=None))
        return held.serving if held else None

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],
        node: NodeView,
        refused: Collection[ObjectName],
        *,
        doubtful: bool = False,
    ) -> dict[Reached, Past]:
        """The kernel holds these Services now, and no others.

        `services` is walked once. Of `refused` ones the kernel has what it had before. `doubtful`:
        it may not have held what it was told before, so nobody knows the past of any. Returns the
        past of each frontend that is not served as it was, or whose past nobody knows.
        """
        new = {
            service: promised
            for service, plans in services.items()
            if service not in refused and (promised := promise(plans, self._protocols))
        }
        gone = {s for s in self._frontends if s not in new and s not in refused}
        known = self._began and not doubtful
        strange = self._unknown.intersection(new) if known else set(new)
        self._unknown = self._unknown.intersection(refused) if known else set(refused)
        self._began = True
        return self._change(new, gone, node, strange)

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> dict[Reached, Past]:
        """The kernel has taken a change, but for `refused` Services. Returns as `replaced`."""
        new = {
            service: promise(plans, self._protocols)
            for service, plans in delta.upserts.items()
            if service not in refused
        }
        gone = {s for s in delta.deletes if s in self._frontends and s not in refused}
        strange = self._unknown.intersection(new)
        self._unknown -= strange | delta.deletes
        return self._change(new, gone, node, strange)

    def _change(
        self,
        new: Mapping[ObjectName, Promise],
        gone: AbstractSet[ObjectName],
        node: NodeView,
        strange: AbstractSet[ObjectName],
    ) -> dict[Reached, Past]:
        node_ports = {of: node_port_addresses(node, of) for of in Family}
        touched = set(self._touched(new, gone))
        if node_ports != self._node_ports:
            touched.update(at for at in self._held if at.address is None)
        either = {of: node_ports[of] | self._node_ports[of] for of in Family}
        unknown = set(_addressed((at for service in strange for at in new[service]), node_ports))
        before = {at: self.serving(at) for at in _addressed(touched, either)}
        self._take(new, gone)
        self._node_ports = node_ports
        pasts = dict.fromkeys(unknown, UNKNOWN)
        for at, was in before.items():
            if at not in unknown and was != self.serving(at):
                pasts[at] = Past(was or frozenset(), bare=not was)
        return pasts

    def _touched(
        self, new: Mapping[ObjectName, Promise], gone: AbstractSet[ObjectName]
    ) -> Iterator[Reached]:
        """The frontends of which something differs."""
        for service in gone:
            yield from self._frontends[service]
        for service, promised in new.items():
            yield from (at for at in self._frontends.get(service, ()) if at not in promised)
            for at, serving in promised.items():
                held = self._held.get(at)
                if held is None or held.serving != serving:
                    yield at

    def _take(self, new: Mapping[ObjectName, Promise], gone: AbstractSet[ObjectName]) -> None:
        """Frontends wander between Services: first all are left, then all are taken."""
        for service in (*gone, *new):
            for at in self._frontends.pop(service, ()):
                held = self._held.get(at)
                if held and held.service == service:  # else another has taken it meanwhile
                    del self._held[at]
        for service, promised in new.items():
            if promised:
                self._frontends[service] = tuple(promised)
                self._held.update((at, _Held(service, of)) for at, of in promised.items())


def _addressed(
    frontends: Iterable[Reached], node_ports: Mapping[Family, AbstractSet[str]]
) -> Iterator[Reached]:
    """The frontends, a NodePort at each of its addresses."""
    for at in frontends:
        if at.address is not None:
            yield at
        else:
            yield from (at._replace(address=address) for address in node_ports[at.family])
