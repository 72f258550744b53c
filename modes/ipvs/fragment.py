"""Which virtual servers, set elements and addresses does one Service need? Pure.

The plans have decided which endpoints are in force where; here is only said how IPVS gets to know.
README.md draws the way of a packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from endpoints.addresses import family as family_of
from endpoints.names import Family, Protocol
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from endpoints.planning import allow_node
from modes.ipvs.ipsets import NODE_PORTS, PLAIN, Element, Entry, Extra, Kind, SetName, at
from modes.ipvs.marks import Owner
from modes.ipvs.servers import PERSISTENT, RealServer, ServerKey, VirtualServer, Wanted


class Fragment(NamedTuple):
    """What one Service needs, in both families."""

    servers: Mapping[ServerKey, Wanted]
    silent: Mapping[ServerKey, Protocol]
    """Frontends without endpoints, and what is spoken there: connections that they have go on."""
    entries: Mapping[Entry, Extra]
    shared: frozenset[Entry]
    """Entries that other Services may need too."""
    addresses: frozenset[str]
    """What the node must hold for it; other Services may need the same."""
    marked: frozenset[Owner]
    """Its ports that have a mark."""


NOTHING = Fragment({}, {}, {}, frozenset(), frozenset(), frozenset())


class Choice(NamedTuple):
    """What is said of Services that say nothing themselves, and what may be said."""

    mark: Callable[[Owner], int]
    """The mark of a Service port."""
    server: Callable[[ServicePlan], VirtualServer]
    """How a Service port chooses, affinity aside."""


def render(plans: Iterable[ServicePlan], node: NodeView, choice: Choice) -> Fragment:
    """The fragment of a Service."""
    draft = _Draft(node, choice)
    for plan in plans:
        draft.add(plan)
    return Fragment(
        draft.servers,
        draft.silent,
        draft.entries,
        frozenset(draft.shared),
        frozenset(draft.addresses),
        frozenset(draft.marked),
    )


def node_port_addresses(node: NodeView, family: Family) -> tuple[str, ...]:
    """Where NodePorts have virtual servers in one family, sorted.

    Never on loopback addresses, which IPVS cannot translate from (REFERENCE D).
    """
    node_ports = node.node_ports(family)
    among = node.addresses if node_ports.match_all else node_ports.addresses
    return tuple(
        sorted(
            address
            for address in among
            if family_of(address) is family and not is_loopback(address)
        )
    )


class _Draft:
    """A fragment while it is made."""

    def __init__(self, node: NodeView, choice: Choice) -> None:
        self.node = node
        self.choice = choice
        self.servers: dict[ServerKey, Wanted] = {}
        self.silent: dict[ServerKey, Protocol] = {}
        self.entries: dict[Entry, Extra] = {}
        self.shared: set[Entry] = set()
        self.addresses: set[str] = set()
        self.marked: set[Owner] = set()

    def add(self, plan: ServicePlan) -> None:
        server = self._server(plan)
        for frontend in plan.frontends:
            for address in self._addresses(plan, frontend):
                self._frontend(plan, frontend, address, server)
        for endpoint in {*plan.cluster, *plan.local}:
            if endpoint.is_local or endpoint.node is None:
                itself = at(endpoint.address, endpoint.port, plan.name.protocol, endpoint.address)
                self.shared.add(Entry(SetName(Kind.LOOP_BACK, plan.family), itself))
        if plan.health_check_node_port:
            port = Element(port=plan.health_check_node_port)
            self._enter(Kind.HEALTH_CHECK_NODE_PORT, plan, port)

    def _server(self, plan: ServicePlan) -> VirtualServer:
        server = self.choice.server(plan)
        if not plan.affinity_seconds:
            return server
        return VirtualServer(server.scheduler, server.flags | PERSISTENT, plan.affinity_seconds)

    def _addresses(self, plan: ServicePlan, frontend: Frontend) -> Iterator[str]:
        if frontend.address is None:
            yield from node_port_addresses(self.node, plan.family)
            return
        if frontend.address not in self.node.addresses:
            self.addresses.add(frontend.address)
        yield frontend.address

    def _frontend(
        self, plan: ServicePlan, frontend: Frontend, address: str, server: VirtualServer
    ) -> None:
        is_local = frontend.policy is TrafficPolicy.LOCAL
        here = at(address, frontend.port, plan.name.protocol)
        key = ServerKey(plan.family, plan.name.protocol, address, frontend.port)
        self._say_kind(plan, frontend, here)
        if frontend.source_ranges:
            self._ranges(plan, frontend, here)
        if is_local and plan.has_any and not plan.local:
            self._enter(Kind.NO_LOCAL_ENDPOINTS, plan, here, Extra(str(plan.name)))
            self.silent[key] = plan.name.protocol
        else:
            endpoints = plan.local if is_local else plan.cluster
            self._serve(plan, key, server, endpoints)
            if endpoints:
                self._enter(Kind.VIRTUAL_SERVERS, plan, here, Extra(str(plan.name)))
            else:
                self._enter(Kind.NO_ENDPOINTS, plan, here, Extra(str(plan.name)))
        if is_local and frontend.kind is not FrontendKind.CLUSTER_IP:
            self._bypass(plan, here, server)

    def _bypass(self, plan: ServicePlan, here: Element, server: VirtualServer) -> None:
        """Lead those whom policy Local is not for to the Cluster list."""
        owner = (plan.family, plan.name)
        self.marked.add(owner)
        mark = self.choice.mark(owner)
        if plan.affinity_seconds:
            # A persistent virtual server of a mark keeps the port that the packet had, whatever the
            # real server's is (ip_vs_sched_persist, all kernels to 6.18).
            by_source = {"scheduler": "sh", "scheduler_flags": ("sh-fallback",)}
            server = self.choice.server(msgspec.structs.replace(plan, **by_source))
        self._serve(plan, ServerKey(plan.family, mark=mark), server, plan.cluster)
        if plan.cluster:
            self._enter(Kind.LOCAL_BYPASS, plan, here, Extra(str(plan.name), mark))

    def _serve(
        self,
        plan: ServicePlan,
        key: ServerKey,
        server: VirtualServer,
        endpoints: tuple[Endpoint, ...],
    ) -> None:
        if endpoints:
            reals = tuple(RealServer(e.address, e.port) for e in endpoints)
            self.servers[key] = Wanted(plan.name, server, reals)
        else:
            self.silent[key] = plan.name.protocol

    def _say_kind(self, plan: ServicePlan, frontend: Frontend, here: Element) -> None:
        """kube-proxy's sets: they say what is masqueraded."""
        is_local = frontend.policy is TrafficPolicy.LOCAL
        match frontend.kind:
            case FrontendKind.CLUSTER_IP:
                self._enter(Kind.CLUSTER_IP, plan, here)
            case FrontendKind.EXTERNAL_IP:
                kind = Kind.EXTERNAL_IP_LOCAL if is_local else Kind.EXTERNAL_IP
                self._enter(kind, plan, here)
            case FrontendKind.LOAD_BALANCER:
                self._enter(Kind.LOAD_BALANCER, plan, here)
                if is_local:
                    self._enter(Kind.LOAD_BALANCER_LOCAL, plan, here)
            case FrontendKind.NODE_PORT:
                every, local = NODE_PORTS[plan.name.protocol]
                is_hash = plan.name.protocol is Protocol.SCTP
                port = here if is_hash else Element(port=frontend.port)
                self._enter(every, plan, port)
                if is_local:
                    self._enter(local, plan, port)

    def _ranges(self, plan: ServicePlan, frontend: Frontend, here: Element) -> None:
        """Packets of the node to an address that it holds have that address as their source.

        Elsewhere they would have its primary address, so that is what the ranges are asked for.
        """
        self._enter(Kind.LOAD_BALANCER_FW, plan, here)
        for cidr in frontend.source_ranges:
            outside = at(here.address, here.port, plan.name.protocol, cidr)
            self._enter(Kind.LOAD_BALANCER_SOURCE_CIDR, plan, outside)
        if allow_node(frontend.source_ranges, self.node.primary):
            itself = at(here.address, here.port, plan.name.protocol, here.address)
            self._enter(Kind.LOAD_BALANCER_SOURCE_IP, plan, itself)

    def _enter(self, kind: Kind, plan: ServicePlan, element: Element, extra: Extra = PLAIN) -> None:
        self.entries[Entry(SetName(kind, plan.family), element)] = extra
