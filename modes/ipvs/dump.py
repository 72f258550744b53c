"""What do the virtual servers and the sets that the kernel holds mean to an operator? Pure.

The sets tell what a virtual server is for: ours name its Service port, kube-proxy's say of which
kind it is. What is not ours, or kube-proxy's where our sets are not there, is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from endpoints.names import Family, Protocol
from endpoints.plan import TrafficPolicy
from modes.held import (
    EVERYTHING,
    DumpedClient,
    DumpedFrontend,
    DumpedReal,
    DumpedServer,
    DumpedService,
    DumpedTraffic,
    Only,
)
from modes.ipvs.adopt import Found
from modes.ipvs.draining import entry
from modes.ipvs.ipsets import FOREIGN, NODE_PORTS, Element, Extra, FoundSet, Kind, SetName, at
from modes.ipvs.marks import Layout
from modes.ipvs.persistence import Kept
from modes.ipvs.schedulers import named
from modes.ipvs.servers import (
    PERSISTENT,
    FoundServer,
    ServerKey,
    Traffic,
)

_NODE = "node"
NOBODYS = "(not ours)"
"""No set names their Service port: all of one protocol and family are shown as one."""
_BOTH = f"{TrafficPolicy.LOCAL} (pods: {TrafficPolicy.CLUSTER})"
_EITHER = f"{TrafficPolicy.CLUSTER} or {TrafficPolicy.LOCAL}"
_AT_AN_ADDRESS = {
    Kind.CLUSTER_IP: None,
    Kind.EXTERNAL_IP: None,
    Kind.EXTERNAL_IP_LOCAL: Kind.EXTERNAL_IP_LOCAL,
    Kind.LOAD_BALANCER: Kind.LOAD_BALANCER_LOCAL,
}
"""The sets of addresses, and the one that says that the policy is Local."""
_REFUSING = {Kind.NO_ENDPOINTS: "KUBE-REFUSE", Kind.NO_LOCAL_ENDPOINTS: "DROP"}


def services_in(
    found: Found, layout: Layout, only: Only = EVERYTHING, kept: Iterable[Kept] = ()
) -> tuple[DumpedService, ...]:
    """The Services that are meant, sorted by name, protocol and family.

    `kept`: whom affinity keeps where. A virtual server of a mark that is only there for connections
    that drain belongs to no frontend any more, and is left out.
    """
    services: dict[tuple[str, str, str], list[_Reached]] = defaultdict(list)
    for family in Family:
        reader = _Reader(found, layout, family)
        for key, name in reader.meant(only).items():
            services[name, key.protocol.value, family.value].append(reader.reached(key))
    clients: dict[ServerKey, list[Kept]] = defaultdict(list)
    for one in kept:
        clients[one.key].append(one)
    told = (
        DumpedService(
            *service,
            tuple(_frontends(reached)),
            _affinity(reached),
            _clients(reached, clients),
            _flows(reached),
        )
        for service, reached in sorted(services.items())
    )
    return tuple(of for of in told if only.holds(of))


def servers_meant(
    sets: Mapping[SetName, FoundSet], layout: Layout, only: Only
) -> Callable[[ServerKey], bool]:
    """Which virtual servers may be of the Services that are meant: also those that no set names."""
    named, meant = set[ServerKey](), set[ServerKey]()
    for family in Family:
        reader = _Reader(Found({}, sets, frozenset()), layout, family)
        for keys, found in ((named, reader.named()), (meant, reader.meant(only))):
            keys.update(found)
            keys.update(filter(None, map(reader.marked, found)))
    return lambda key: key in meant or key not in named


class _Reached(msgspec.Struct):
    """An address and port at which a Service port is reached."""

    key: ServerKey
    kind: str
    """The set that says of which kind it is; empty: none does."""
    is_node_port: bool
    policy: str
    refusal: str
    """`KUBE-NO-ENDPOINTS -> KUBE-REFUSE`; empty: it does not refuse."""
    found: FoundServer | None
    bypass: tuple[ServerKey, FoundServer] | None
    """The virtual server for whom policy Local is not, by its mark."""
    ranges: tuple[str, ...]
    servers: tuple[DumpedServer, ...]
    """The one of the address, then the bypass."""

    @property
    def is_local(self) -> bool:
        return self.policy in {TrafficPolicy.LOCAL, _BOTH}

    @property
    def local(self) -> tuple[str, ...]:
        return _chosen(self.found) if self.is_local else ()

    @property
    def cluster(self) -> tuple[str, ...]:
        if self.is_local:
            return _chosen(self.bypass[1]) if self.bypass else ()
        return _chosen(self.found)

    @property
    def shape(self) -> object:
        """What is the same at all addresses of the node, as a rule."""
        ways = (self.kind, self.policy, self.refusal, self.found and self.found.server)
        return ways, self.local, self.cluster, self.ranges, self.bypass and self.bypass[0]

    def frontend(
        self, address: str, servers: tuple[DumpedServer, ...], others: int
    ) -> DumpedFrontend:
        """`others`: so many more addresses have a virtual server of their own."""
        return DumpedFrontend(
            address,
            self.key.port,
            self.policy,
            self._way(others),
            self.cluster,
            self.local,
            self.ranges,
            servers,
            self._new_flows(servers),
        )

    def _new_flows(self, servers: Sequence[DumpedServer]) -> int | None:
        """A virtual server with a mark counts for all frontends of its Service together."""
        marked = str(self.bypass[0]) if self.bypass else ""
        own = [of.traffic.connections for of in servers if of.name != marked]
        return sum(own) if own else None

    def _way(self, others: int) -> str:
        more = f" and {others} more" if others else ""
        if self.refusal:
            way = self.refusal
        elif self.found:
            way = f"{self.key} {_scheduler(self.found)}{more}"
        else:
            way = "no virtual server"
        if self.bypass:
            mark, server = self.bypass
            way += f" (pods: mark {mark.mark:#x} {_scheduler(server)})"
        return " -> ".join(filter(None, (self.kind, way)))


class _Reader:
    """The sets and virtual servers of one family."""

    def __init__(self, found: Found, layout: Layout, family: Family) -> None:
        self._found = found
        self._layout = layout
        self._family = family
        sets = {kind: found.sets.get(self._name(kind)) for kind in Kind}
        self._held = {kind: of.elements if of is not None else {} for kind, of in sets.items()}
        self._ranges: dict[tuple[str, Protocol | None, int], set[str]] = defaultdict(set)
        for element in self._elements(Kind.LOAD_BALANCER_SOURCE_CIDR):
            self._ranges[element.address, element.protocol, element.port].add(element.other)

    def _elements(self, kind: Kind) -> Mapping[Element, Extra]:
        return self._held[kind]

    def _name(self, kind: Kind) -> SetName:
        return SetName(kind, self._family)

    def meant(self, only: Only) -> dict[ServerKey, str]:
        """As `named`, of those Services that may be meant."""
        named = self.named()
        if only.all:
            return named
        if only.service:
            return {key: name for key, name in named.items() if only.names(name)}
        names = {
            name
            for key, name in named.items()
            if (key.port, key.protocol) == (only.port, only.protocol)
            and (key.address == only.address or self._kind(key)[0] in NODE_PORTS[key.protocol])
        }
        return {
            key: name
            for key, name in named.items()
            if name in names and key.protocol is only.protocol
        }

    def named(self) -> dict[ServerKey, str]:
        """Every address and port where a Service is reached, with the name of its port."""
        registry = self._elements(Kind.VIRTUAL_SERVERS)
        named: dict[ServerKey, str] = {}
        for kind in (Kind.VIRTUAL_SERVERS, Kind.LOCAL_BYPASS, *_REFUSING):
            for element, extra in self._elements(kind).items():
                if element.protocol and registry.get(element) != FOREIGN:
                    key = ServerKey(self._family, element.protocol, element.address, element.port)
                    named[key] = named.get(key) or extra.comment
        if self._name(Kind.VIRTUAL_SERVERS) not in self._found.sets:
            named |= dict.fromkeys(self._left_by_kube_proxy(), NOBODYS)
        return {key: name or NOBODYS for key, name in named.items()}

    def _left_by_kube_proxy(self) -> Iterator[ServerKey]:
        for key in self._found.servers:
            if key.family is self._family and not key.mark:
                kind, _ = self._kind(key)
                # On an address that is held for Services, the port of a node port means nothing.
                if kind in _AT_AN_ADDRESS or (kind and key.address not in self._found.addresses):
                    yield key

    def _kind(self, key: ServerKey) -> tuple[Kind | None, TrafficPolicy]:
        """The set that says what a virtual server is for, and what sets say of its policy."""
        here = at(key.address, key.port, key.protocol)
        for kind, local in _AT_AN_ADDRESS.items():
            if here in self._elements(kind):
                return kind, self._said(here, local)
        kind, local = NODE_PORTS[key.protocol]
        if key.protocol is not Protocol.SCTP:
            here = Element(port=key.port)
        if here in self._elements(kind):
            return kind, self._said(here, local)
        return None, TrafficPolicy.CLUSTER

    def _said(self, here: Element, local: Kind | None) -> TrafficPolicy:
        is_local = local is not None and here in self._elements(local)
        return TrafficPolicy.LOCAL if is_local else TrafficPolicy.CLUSTER

    def reached(self, key: ServerKey) -> _Reached:
        """An address and port with all that belongs to it."""
        here = at(key.address, key.port, key.protocol)
        kind, said = self._kind(key)
        refusal = next((of for of in _REFUSING if here in self._elements(of)), None)
        server = self._found.servers.get(key)
        bypass = self._bypass(key)
        servers = [self._dumped(key, server)] if server else []
        servers += [self._dumped(*bypass)] if bypass else []
        return _Reached(
            key,
            str(self._name(kind)) if kind else "",
            kind in NODE_PORTS[key.protocol],
            self._policy(key, kind, said, refusal),
            f"{self._name(refusal)} -> {_REFUSING[refusal]}" if refusal else "",
            server,
            bypass,
            tuple(sorted(self._ranges.get((key.address, key.protocol, key.port), ()))),
            tuple(servers),
        )

    def marked(self, key: ServerKey) -> ServerKey | None:
        """The virtual server of the mark that those get who bypass policy Local."""
        here = at(key.address, key.port, key.protocol)
        extra = self._elements(Kind.LOCAL_BYPASS).get(here)
        if extra is None or not self._layout.is_ours(extra.mark):
            return None
        return ServerKey(self._family, mark=extra.mark)

    def _bypass(self, key: ServerKey) -> tuple[ServerKey, FoundServer] | None:
        marked = self.marked(key)
        server = self._found.servers.get(marked) if marked else None
        return (marked, server) if marked and server else None

    def _policy(
        self, key: ServerKey, kind: Kind | None, said: TrafficPolicy, refusal: Kind | None
    ) -> str:
        if at(key.address, key.port, key.protocol) in self._elements(Kind.LOCAL_BYPASS):
            return _BOTH
        if refusal is Kind.NO_LOCAL_ENDPOINTS:
            return TrafficPolicy.LOCAL.value
        return self._internal_policy(key) if kind is Kind.CLUSTER_IP else said.value

    def _internal_policy(self, key: ServerKey) -> str:
        """No set tells it; but whoever is not on this node is in no Local list."""
        server = self._found.servers.get(key)
        reals = [real for real, of in server.reals.items() if of.weight] if server else []
        local = self._elements(Kind.LOOP_BACK)
        if reals and all(at(r.address, r.port, key.protocol, r.address) in local for r in reals):
            return _EITHER
        return TrafficPolicy.CLUSTER.value

    def _dumped(self, key: ServerKey, server: FoundServer) -> DumpedServer:
        deadlines = self._elements(Kind.DRAINING)
        reals = []
        for real, of in sorted(server.reals.items()):
            left = None if of.weight else deadlines.get(entry(key, real).element)
            reals.append(
                DumpedReal(
                    str(real),
                    of.weight,
                    of.active,
                    of.inactive,
                    _traffic(of.traffic),
                    left.timeout_seconds if left else None,
                )
            )
        return DumpedServer(str(key), _scheduler(server), tuple(reals), _traffic(server.traffic))


def _frontends(reached: Collection[_Reached]) -> list[DumpedFrontend]:
    """Node ports that are the same on all addresses of the node are one."""
    frontends = []
    at_the_node: dict[int, list[_Reached]] = defaultdict(list)
    for of in sorted(reached, key=lambda of: of.key):
        if of.is_node_port:
            at_the_node[of.key.port].append(of)
        else:
            frontends.append(of.frontend(of.key.address, of.servers, 0))
    for _, same in sorted(at_the_node.items()):
        frontends += _node_port(same)
    return frontends


def _node_port(reached: Sequence[_Reached]) -> list[DumpedFrontend]:
    first = reached[0]
    if any(of.shape != first.shape for of in reached):
        return [of.frontend(of.key.address, of.servers, 0) for of in reached]
    servers = {server.name: server for of in reached for server in of.servers}
    if first.bypass:
        bypass = str(first.bypass[0])
        servers[bypass] = servers.pop(bypass)  # comes last
    return [first.frontend(_NODE, tuple(servers.values()), len(reached) - 1)]


def _affinity(reached: Collection[_Reached]) -> int | None:
    """The affinity timeout, which all virtual servers of a Service port share."""
    servers = (of.found or (of.bypass and of.bypass[1]) for of in reached)
    return next(
        (
            server.server.persistence_seconds
            for server in servers
            if server and server.server.flags & PERSISTENT
        ),
        None,
    )


def _clients(
    reached: Collection[_Reached], kept: Mapping[ServerKey, Sequence[Kept]]
) -> tuple[DumpedClient, ...]:
    """Each client once, however many frontends it knows; who drains keeps nobody."""
    latest: dict[tuple[str, str], int] = {}
    for of in reached:
        for one in kept.get(of.key, ()):
            if of.found and one.real in of.found.reals and of.found.reals[one.real].weight:
                pair = one.client, str(one.real)
                latest[pair] = max(latest.get(pair, 0), one.seconds_left)
    return tuple(DumpedClient(*pair, left) for pair, left in sorted(latest.items()))


def _flows(reached: Collection[_Reached]) -> dict[str, int]:
    """New connections by endpoint, of all its virtual servers."""
    servers = {server.name: server for of in reached for server in of.servers}
    flows: dict[str, int] = {}
    for server in servers.values():
        for real in server.reals:
            flows[real.endpoint] = flows.get(real.endpoint, 0) + real.traffic.connections
    return flows


def _chosen(server: FoundServer | None) -> tuple[str, ...]:
    """Whoever takes new connections."""
    if server is None:
        return ()
    return tuple(str(real) for real, of in sorted(server.reals.items()) if of.weight)


def _scheduler(found: FoundServer) -> str:
    """`rr`, `mh mh-port`."""
    return " ".join((found.server.scheduler, *named(found.server)))


def _traffic(of: Traffic) -> DumpedTraffic:
    return DumpedTraffic(of.connections, of.packets_in, of.packets_out, of.bytes_in, of.bytes_out)
