"""Where does a packet to a Service go, seen from one node? Pure.

This is the specification: every mode and the real kernel are held to it (REFERENCE A.2). It speaks
of the first packet of a connection; the others follow their flow. `walk` reads from top to bottom
as the packet travels:

1. *Dispatch.* Destination, port and protocol are looked for among cluster IPs, external IPs and
   load balancer addresses; then a cluster IP without such a port refuses, and so does any other of
   them that the node holds; then NodePorts are looked for, if they answer on the destination.
2. *Source ranges* of a load balancer address drop who is not in them, the node itself included.
3. *Endpoints.* A Service that has none at all refuses. Else the policy of the frontend says which
   list is in force; an empty Local list drops: the client's balancer shall try another node.
4. *Masquerade.* Whether the endpoint sees the client's address or the node's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from endpoints.addresses import bracketed, contains, family
from endpoints.elsewhere import ports_of
from endpoints.names import Protocol, ServicePortName
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import (
    Endpoint,
    EndpointState,
    Frontend,
    FrontendKind,
    ServicePlan,
    TrafficPolicy,
    UnusedEndpoint,
)
from endpoints.scheduling import how


class Hook(StrEnum):
    """Where the packet enters: from an interface, or from a process of the node itself."""

    PREROUTING = "prerouting"
    OUTPUT = "output"


class Packet(msgspec.Struct, frozen=True):
    """The first packet of a connection, as it enters the node's netfilter."""

    source: str
    destination: str
    port: int
    protocol: Protocol
    hook: Hook = Hook.PREROUTING
    interface: str | None = None
    """The one it arrived on; None in OUTPUT."""


class Hop(msgspec.Struct, frozen=True, order=True):
    """A possible end of the way."""

    endpoint: Endpoint
    masqueraded: bool
    """The endpoint sees an address of the node instead of the packet's source."""


class Forward(msgspec.Struct, frozen=True):
    """To one of these, each with the same probability."""

    hops: frozenset[Hop]


class Drop(msgspec.Struct, frozen=True):
    """No answer."""


class Reject(msgspec.Struct, frozen=True):
    """TCP: a reset; others: ICMP port unreachable."""


class Pass(msgspec.Struct, frozen=True):
    """Not a Service's: the packet goes where routing takes it."""


Verdict = Forward | Drop | Reject | Pass


class Place(StrEnum):
    """Where something happens to a packet; each mode has names of its own for them."""

    PREROUTING = "prerouting"
    OUTPUT = "output"
    MARTIANS = "martians"
    """Loopback addresses, asked for by others than the node itself."""
    SOURCE_RANGES = "source ranges"
    UNKNOWN_PORT = "unknown port"
    NO_ENDPOINTS = "no endpoints"
    CLUSTER_LIST = "cluster list"
    """The choice among the endpoints of the Cluster list."""
    LOCAL_LIST = "local list"
    POSTROUTING = "postrouting"


class Step(msgspec.Struct, frozen=True):
    """What happens at one place of the packet's way, in words for an operator."""

    place: Place
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """The verdict and the way to it."""

    verdict: Verdict
    steps: tuple[Step, ...]
    service: ServicePortName | None = None
    frontend: Frontend | None = None
    unused: tuple[UnusedEndpoint, ...] = ()
    """Endpoints that the packet cannot reach although it reaches the Service."""
    affinity_seconds: int | None = None
    advice: str = ""
    """A sentence on what would be otherwise; often empty."""


def explain(plans: Iterable[ServicePlan], node: NodeView, packet: Packet) -> Verdict:
    """The verdict on a packet, given the plans of all Services of this node."""
    return walk(plans, node, packet).verdict


def walk(
    plans: Iterable[ServicePlan], node: NodeView, packet: Packet, scheduler: str = ""
) -> Explanation:
    """The verdict on a packet and every step towards it; IPVS: `scheduler` is the node's."""
    plans = tuple(plans)
    found = _dispatch(plans, node, packet)
    if found is None:
        return _undispatched(plans, node, packet)
    plan, frontend = found
    arrival = Step(
        Place(packet.hook),
        f"{_target(packet)} is {_A[frontend.kind]} of {plan.name}, policy {frontend.policy}",
    )
    if packet.hook is Hook.PREROUTING and is_loopback(packet.destination):
        text = f"nobody but the node itself reaches {packet.destination} -> drop"
        return _end(Drop(), plan, frontend, [arrival, Step(Place.MARTIANS, text)], plan.unused)
    if frontend.source_ranges and not any(
        contains(cidr, packet.source) for cidr in frontend.source_ranges
    ):
        return _outside_ranges(plan, frontend, node, packet, arrival)
    if not plan.has_any:
        reason = "no endpoint is ready, nor serving while terminating -> reject"
        refusal = Step(Place.NO_ENDPOINTS, reason)
        return _end(Reject(), plan, frontend, [arrival, refusal], plan.unused)
    bypass = _bypass(frontend, node, packet)
    is_local_list = frontend.policy is TrafficPolicy.LOCAL and not bypass
    endpoints = plan.local if is_local_list else plan.cluster
    unused = _unused(plan, endpoints, is_local_list=is_local_list)
    if not endpoints:
        return _nothing_in_force(plan, frontend, arrival, unused, is_local_list=is_local_list)
    hops = {e: _masquerade(plan, frontend, e, node, packet) for e in endpoints}
    steps = [arrival, _choice(plan, bypass, scheduler, is_local_list=is_local_list)]
    reasons = dict.fromkeys(reason for _, reason in hops.values())
    steps.extend(Step(Place.POSTROUTING, reason) for reason in reasons)
    verdict = Forward(frozenset(Hop(e, masqueraded) for e, (masqueraded, _) in hops.items()))
    return _end(verdict, plan, frontend, steps, unused)


def _dispatch(
    plans: tuple[ServicePlan, ...], node: NodeView, packet: Packet
) -> tuple[ServicePlan, Frontend] | None:
    """The frontend that the packet reaches. No two plans share one: conflicts are settled."""
    destination = packet.destination
    here = _same_port(plans, packet)
    for plan, frontend in here:
        if frontend.address == destination:
            return plan, frontend
    if FrontendKind.CLUSTER_IP in _kinds(plans, destination):
        return None
    return _node_port(here) if _serves_node_ports(node, destination) else None


def _same_port(
    plans: tuple[ServicePlan, ...], packet: Packet
) -> list[tuple[ServicePlan, Frontend]]:
    """The frontends of the packet's family, protocol and port."""
    of = family(packet.destination)
    return [
        (plan, frontend)
        for plan in plans
        if plan.name.protocol is packet.protocol and plan.family is of
        for frontend in plan.frontends
        if frontend.port == packet.port
    ]


def _node_port(
    here: Iterable[tuple[ServicePlan, Frontend]],
) -> tuple[ServicePlan, Frontend] | None:
    return next(((p, f) for p, f in here if f.kind is FrontendKind.NODE_PORT), None)


def _kinds(plans: tuple[ServicePlan, ...], address: str) -> set[FrontendKind]:
    """What an address is to Services."""
    return {f.kind for plan in plans for f in plan.frontends if f.address == address}


def _holds(node: NodeView, address: str) -> bool:
    """Whether the address of a Service is the node's only because it is a Service's."""
    return node.holds_addresses and address not in node.addresses


def _serves_node_ports(node: NodeView, destination: str) -> bool:
    """Whether NodePorts answer on this address."""
    node_ports = node.node_ports(family(destination))
    if destination in node_ports.addresses:
        return True
    return node_ports.match_all and destination in node.addresses and not is_loopback(destination)


def _bypass(frontend: Frontend, node: NodeView, packet: Packet) -> str:
    """Who bypasses externalTrafficPolicy Local, in words; empty if nobody does.

    A pod (where pods can be told apart) and the node itself come by the Cluster list, as if their
    packet had left the node and come back to any other.
    """
    if frontend.kind is FrontendKind.CLUSTER_IP or frontend.policy is TrafficPolicy.CLUSTER:
        return ""
    if packet.hook is Hook.OUTPUT:
        return "the node itself bypasses policy Local"
    if _from_local_pod(node, packet):
        return "a local pod bypasses policy Local"
    return ""


def _from_local_pod(node: NodeView, packet: Packet) -> bool:
    return node.local_traffic.is_local_pod(packet.source, packet.interface)


def _masquerade(
    plan: ServicePlan, frontend: Frontend, endpoint: Endpoint, node: NodeView, packet: Packet
) -> tuple[bool, str]:
    """Whether the endpoint sees the node's address instead of the packet's source, and why.

    REFERENCE A.2, masquerade decision; it is taken in postrouting, and only there.
    """
    source = packet.source
    if packet.hook is Hook.PREROUTING and endpoint.address in node.addresses:
        # A packet that came from outside and stays on the node goes through INPUT instead.
        return False, f"{endpoint} is on the node itself: not passed, so not masqueraded"
    if source == endpoint.address and (endpoint.is_local or endpoint.node is None):
        # A pod would take an answer of its own for a stranger's: it must see another address.
        return True, f"{source} reaches itself (hairpin): masqueraded"
    if packet.hook is Hook.OUTPUT and frontend.address and _holds(node, frontend.address):
        text = f"{frontend.address} is held by this node and would be the source: masqueraded"
        return True, text
    if frontend.kind is FrontendKind.CLUSTER_IP:
        return _masquerade_internal(plan, node, packet)
    return _masquerade_external(frontend, node, source)


def _masquerade_external(frontend: Frontend, node: NodeView, source: str) -> tuple[bool, str]:
    if frontend.policy is TrafficPolicy.CLUSTER:
        return True, f"{_A[frontend.kind]} with policy Cluster: masqueraded"
    if source in node.addresses:
        return True, f"{source} is the node itself: masqueraded"
    return False, f"policy Local keeps the client's address {source}: not masqueraded"


def _masquerade_internal(plan: ServicePlan, node: NodeView, packet: Packet) -> tuple[bool, str]:
    """The same for a cluster IP, hairpin aside: only pods route answers back by themselves."""
    if node.masquerade_all:
        return True, "masqueradeAll is set: masqueraded"
    if not node.local_traffic.known(plan.family):
        return False, f"local pods cannot be told apart in {plan.family}: not masqueraded"
    how = node.local_traffic.told_by(packet.source, packet.interface)
    if _from_local_pod(node, packet):
        return False, f"{packet.source} is a local pod ({how}): not masqueraded"
    return True, f"{packet.source} is not a local pod ({how}): masqueraded"


def _undispatched(plans: tuple[ServicePlan, ...], node: NodeView, packet: Packet) -> Explanation:
    target = _target(packet)
    kinds = _kinds(plans, packet.destination)
    is_cluster_ip = FrontendKind.CLUSTER_IP in kinds
    if is_cluster_ip or (kinds and _holds(node, packet.destination)):
        what = "a cluster IP" if is_cluster_ip else "held by this node for Services"
        text = f"{packet.destination} is {what}, but no Service has {target}"
        steps = Step(Place(packet.hook), text), Step(Place.UNKNOWN_PORT, "unknown port -> reject")
        return Explanation(Reject(), steps, advice=ports_of(plans, packet.destination))
    text = f"{target} is no address and port of a Service"
    owner = _node_port(_same_port(plans, packet))
    if owner and packet.destination in node.addresses:
        left_out = f"nodePortAddresses leaves {packet.destination} out"
        text = f"{packet.port} is the node port of {owner[0].name}, but {left_out}"
    advice = ports_of(plans, packet.destination)
    return Explanation(Pass(), (Step(Place(packet.hook), text),), advice=advice)


def _outside_ranges(
    plan: ServicePlan, frontend: Frontend, node: NodeView, packet: Packet, arrival: Step
) -> Explanation:
    ranges = ", ".join(frontend.source_ranges)
    text = f"loadBalancerSourceRanges allows {ranges} only: {packet.source} is outside -> drop"
    inside = Packet(
        source=frontend.source_ranges[0].partition("/")[0],
        destination=packet.destination,
        port=packet.port,
        protocol=packet.protocol,
    )
    match walk((plan,), node, inside).verdict:
        case Forward(hops):
            share = f"({100 / len(hops):.3g}%)"
            ends = " or ".join(f"{hop.endpoint} {share}" for hop in sorted(hops))
            ends = ends if len(hops) <= _FEW else f"one of {len(hops)} endpoints"
            kept = "kept" if frontend.policy is TrafficPolicy.LOCAL else "not kept"
            fate = f"reach {ends}, externalTrafficPolicy {frontend.policy}, client address {kept}"
        case Reject():
            fate = "be refused: there is no endpoint"
        case _:
            fate = "be dropped: policy Local, and no endpoint on this node"
    steps = [arrival, Step(Place.SOURCE_RANGES, text)]
    advice = f"A client inside the range would {fate}."
    return _end(Drop(), plan, frontend, steps, plan.unused, advice)


def _nothing_in_force(
    plan: ServicePlan,
    frontend: Frontend,
    arrival: Step,
    unused: tuple[UnusedEndpoint, ...],
    *,
    is_local_list: bool,
) -> Explanation:
    """The Service has endpoints, but none in the list in force.

    Of a plan made by `plan` that is always the Local list. An empty Cluster list refuses.
    """
    if is_local_list:
        text = "policy Local, and no usable endpoint on this node -> drop"
        step = Step(Place.NO_ENDPOINTS, text)
        return _end(Drop(), plan, frontend, [arrival, step], unused)
    step = Step(Place.NO_ENDPOINTS, "policy Cluster, and no usable endpoint -> reject")
    return _end(Reject(), plan, frontend, [arrival, step], unused)


def _choice(plan: ServicePlan, bypass: str, scheduler: str, *, is_local_list: bool) -> Step:
    count = len(plan.local if is_local_list else plan.cluster)
    what = "endpoint on this node" if is_local_list else "endpoint"
    many = "endpoints on this node" if is_local_list else "endpoints"
    way = how(scheduler and (plan.scheduler or scheduler))
    text = f"the only {what}" if count == 1 else f"one of {count} {many}, {way}"
    if plan.affinity_seconds is not None and count > 1:
        keeps = f"a client keeps its endpoint for {plan.affinity_seconds} s"
        text += f"; {keeps} after each connection"
    place = Place.LOCAL_LIST if is_local_list else Place.CLUSTER_LIST
    return Step(place, f"{bypass}: {text}" if bypass else text)


def _unused(
    plan: ServicePlan, in_force: tuple[Endpoint, ...], *, is_local_list: bool
) -> tuple[UnusedEndpoint, ...]:
    """What the plan does not use at all, and what only its other list holds."""

    def reason(endpoint: Endpoint) -> str:
        if is_local_list and not endpoint.is_local:
            return "not on this node"
        if endpoint.state is EndpointState.TERMINATING:
            return "terminating; ready endpoints exist"
        return "ready, but hinted for another zone or node"

    others = set(plan.cluster if is_local_list else plan.local) - set(in_force)
    return tuple(sorted((*plan.unused, *(UnusedEndpoint(e, reason(e)) for e in others))))


_FEW = 3
"""So many endpoints are named in a sentence."""

_A = {
    FrontendKind.CLUSTER_IP: "the cluster IP",
    FrontendKind.EXTERNAL_IP: "an external IP",
    FrontendKind.LOAD_BALANCER: "a load balancer address",
    FrontendKind.NODE_PORT: "the node port",
}


def _target(packet: Packet) -> str:
    return f"{bracketed(packet.destination)}:{packet.port}/{packet.protocol}"


def _end(
    verdict: Verdict,
    plan: ServicePlan,
    frontend: Frontend,
    steps: Iterable[Step],
    unused: tuple[UnusedEndpoint, ...],
    advice: str = "",
) -> Explanation:
    return Explanation(
        verdict, tuple(steps), plan.name, frontend, unused, plan.affinity_seconds, advice
    )
