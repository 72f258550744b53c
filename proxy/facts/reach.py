"""Does routing let a packet through to its endpoints, and the answers back? Pure.

The kernel was asked about each way (`proxy.facts.routing`), and its answer is the truth; but it
says little more than no, so what it knows of settings, links and routes has to tell why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from endpoints.addresses import contains, family, network
from endpoints.explain import Explanation, Forward, Hook, Packet, Pass
from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import Endpoint
from proxy.facts.facts import Facts, Way, Ways, exception
from proxy.facts.finding import Cause, Finding
from proxy.facts.wording import listed

_NOTHING = {
    "ENETUNREACH": "there is no route to it",
    "EHOSTUNREACH": "its route is of kind unreachable",
    "EINVAL": "its route is of kind blackhole",
    "EACCES": "its route is of kind prohibit",
}
_LOOSE = 2
_IP_FORWARD = "net.ipv4.ip_forward"
_IPV6_FORWARDING = "net.ipv6.conf.all.forwarding"


class _Fault(NamedTuple):
    """Why a way is none; those with the same cause and sentence make one finding."""

    cause: Cause
    head: str
    """The sentence up to the names of the ends that are concerned."""
    tail: str
    """What comes after them."""
    remedy: str
    may: bool = False
    """Whether the packet may pass all the same."""
    names_nodes: bool = False
    """Whether it matters on which nodes the ends are."""


class _Scene(NamedTuple):
    """What the judgement of a way needs."""

    packet: Packet
    explanation: Explanation
    node: NodeView
    facts: Facts
    ways: Ways

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        verdict = self.explanation.verdict
        hops = verdict.hops if isinstance(verdict, Forward) else frozenset()
        return {hop.endpoint.address: hop.endpoint for hop in hops}

    @property
    def passes(self) -> bool:
        """Whether any packet goes on at all; where rules end it, only its arrival counts."""
        return isinstance(self.explanation.verdict, Forward | Pass)


def reach(
    packet: Packet, explanation: Explanation, node: NodeView, facts: Facts, ways: Ways
) -> Iterator[Finding]:
    """Findings on the ways of a packet and of its answers."""
    scene = _Scene(packet, explanation, node, facts, ways)
    if ways.before is not None and (fault := _before(scene, ways.before)):
        yield _finding(scene, fault, [ways.before.destination], breaks=True)
    told: set[tuple[Cause, str]] = set()
    for judge, judged in ((_there, ways.there), (_back, ways.back)):
        found: defaultdict[tuple[Cause, str, str], list[tuple[_Fault, Way]]] = defaultdict(list)
        passable = len(judged)
        for way in judged:
            fault = judge(scene, way)
            passable -= fault is not None and not fault.may
            if fault and (fault.cause, fault.head) not in told:
                found[fault.cause, fault.head, fault.tail].append((fault, way))
        for faults in found.values():
            concerned = [way.destination for _, way in faults]
            yield _finding(scene, faults[0][0], concerned, breaks=not passable)
        told = {(cause, head) for cause, head, _ in found}
    if ways.suspected:
        yield _suspected(scene, ways.suspected)


def _finding(scene: _Scene, fault: _Fault, concerned: Sequence[str], *, breaks: bool) -> Finding:
    """`breaks`: no other way is left."""
    names = _on_nodes(scene, concerned) if fault.names_nodes else listed(concerned)
    text = f"{fault.head}{names}{fault.tail}"
    return Finding(fault.cause, breaks and not fault.may, text, fault.remedy)


def _on_nodes(scene: _Scene, addresses: Sequence[str]) -> str:
    """`10.244.2.3 or 10.244.2.4 on node-b`, `10.244.2.3 on node-b or 10.244.3.4 on node-c`."""
    ends = (scene.endpoints.get(address) for address in addresses)
    whose = [f" on {end.node}" if end and end.node else "" for end in ends]
    if len(set(whose)) == 1:
        return listed(addresses) + whose[0]
    return listed(map("".join, zip(addresses, whose, strict=True)))


def _before(scene: _Scene, way: Way) -> _Fault | None:
    """Of the node's own packets: connect(2) fails if nothing leads to the address asked for."""
    if not way.error:
        return None
    if is_loopback(scene.packet.source) and not way.route_error:
        return _localhost(scene)
    why = _NOTHING.get(way.route_error, f"from {scene.packet.source}: {way.error}")
    default = "default" if family(way.destination) is Family.IPV4 else "-6 default"
    return _Fault(
        Cause.NO_ROUTE,
        "this node sends nothing to ",
        f" ({why}), and rules see only what has a route",
        f"ip route add {default} via GATEWAY, or a route to {way.destination} by any interface",
    )


def _there(scene: _Scene, way: Way) -> _Fault | None:
    """Of a packet on its way to an endpoint."""
    if not scene.passes:
        return _reverse_path(scene, way) if _is_refused(way) else None
    if way.route_error:
        return _down_network(scene, way) or _no_route(scene, way)
    if fault := _not_forwarding(scene, way):
        return fault
    if way.error:
        if scene.packet.hook is Hook.OUTPUT and is_loopback(scene.packet.source):
            return _localhost(scene)
        return _reverse_path(scene, way) or _refused(way)
    return _no_carrier(scene, way) or _strange_route(scene, way)


def _back(scene: _Scene, way: Way) -> _Fault | None:
    """Of an answer on its way to the client."""
    if way.route_error:
        return _down_network(scene, way) or _no_route(scene, way)
    if way.error:
        if fault := _not_forwarding(scene, way):
            return fault
        fault = _reverse_path(scene, way)
        return fault._replace(may=True) if fault else None
    return _no_carrier(scene, way)


def _is_refused(way: Way) -> bool:
    """Whether the kernel takes no packet from there, although it knows where it should go."""
    return bool(way.error) and not way.route_error


def _no_route(scene: _Scene, way: Way) -> _Fault:
    why = _NOTHING.get(way.route_error, way.route_error)
    nowhere = [
        route
        for route in scene.facts.routes
        if route.kind in ("blackhole", "unreachable", "prohibit")
        and contains(route.network, way.destination)
    ]
    if nowhere and way.route_error != "ENETUNREACH":
        best = max(nowhere, key=lambda route: network(route.network).prefixlen)
        why = f"the route `{best.kind} {best.network}` takes it"
    end = scene.endpoints.get(way.destination)
    there = f" and on {end.node}" if end and end.node else ""
    return _Fault(
        Cause.NO_ROUTE,
        "packets to ",
        f" go nowhere: {why}",
        f"ip route get {way.destination}; the network plug-in of the cluster writes routes to "
        f"pods: see that it runs on this node{there}"
        if end
        else f"ip route get {way.destination}; is this the address that was meant?",
        names_nodes=True,
    )


def _down_network(scene: _Scene, way: Way) -> _Fault | None:
    """A link that is down takes the route to its network with it."""
    for link in scene.facts.links:
        if not link.is_up and any(contains(held, way.destination) for held in link.addresses):
            return _Fault(
                Cause.LINK_DOWN,
                f"interface {link.name}, whose network holds ",
                ", is down",
                f"ip link set {link.name} up",
            )
    return None


def _no_carrier(scene: _Scene, way: Way) -> _Fault | None:
    link = scene.facts.link(way.interface)
    if link is None or link.has_carrier or way.is_local:
        return None
    return _Fault(
        Cause.LINK_DOWN,
        f"interface {link.name}, which leads to ",
        ", has no carrier",
        f"ip link show {link.name}; its other end is down or gone"
        + (", or none of its ports is up" if link.kind == "bridge" else ""),
    )


def _not_forwarding(scene: _Scene, way: Way) -> _Fault | None:
    """Whether what arrives may leave; of IPv4 each link decides for what arrives there."""
    if scene.packet.hook is Hook.OUTPUT or way.is_local:
        return None
    if family(way.destination) is Family.IPV4:
        sysctl = f"net.ipv4.conf.{way.arrival}.forwarding"
        link = scene.facts.link(way.arrival)
        is_off = link is not None and not link.forwards.get(Family.IPV4, True)
        if scene.facts.number(_IP_FORWARD) == 0:
            is_off, sysctl = is_off or link is None, _IP_FORWARD
    else:
        sysctl = _IPV6_FORWARDING
        is_excepted = scene.facts.number(exception(way.arrival)) == 1
        is_off = scene.facts.number(sysctl) == 0 and not is_excepted
    if not is_off:
        return None
    return _Fault(
        Cause.NOT_FORWARDING,
        f"{sysctl} is 0: this node passes no packets on, so none to ",
        "",
        f"sysctl -w {sysctl}=1",
    )


def _reverse_path(scene: _Scene, way: Way) -> _Fault | None:
    """The kernel drops what arrives elsewhere than answers to its source would leave."""
    link = scene.facts.link(way.arrival)
    if link is None or family(way.source) is Family.IPV6:
        return None
    if scene.facts.is_own(way.source):
        return _Fault(
            Cause.REVERSE_PATH,
            f"{way.source} is an address of this node: what arrives on {link.name} as if from "
            "there is dropped, also if it goes to ",
            "",
            f"ip address show to {way.source}; no two machines may have the same address",
        )
    value = scene.facts.rp_filter(link)
    if not value:
        return None
    sysctl = f"net.ipv4.conf.{link.name}.rp_filter"
    homes = {answer.interface for answer in scene.ways.back if answer.interface}
    why = f"the way back is by {listed(sorted(homes))}" if homes else "the way back is another one"
    if value == _LOOSE:
        why = "there is no way back"
    loosened = f"sysctl -w {sysctl}={_LOOSE}, or " if value != _LOOSE else ""
    return _Fault(
        Cause.REVERSE_PATH,
        f"rp_filter={value} drops what arrives on {link.name} from {way.source} and goes to ",
        f": {why}",
        f"{loosened}ip route add {way.source} dev {link.name}",
        may=not scene.ways.is_arrival_known,
    )


def _suspected(scene: _Scene, ways: Sequence[Way]) -> Finding:
    """Nobody said where the packet arrives, but packets were dropped."""
    links, count = [way.arrival for way in ways], scene.facts.reverse_path_drops
    packets = "1 packet" if count == 1 else f"{count} packets"
    text = (
        f"rp_filter has dropped {packets}, and would drop those "
        f"from {scene.packet.source} if they arrive on {listed(links)}: the way back is another one"
    )
    first = links[0]
    remedy = (
        f"ask again with --interface {first} if they do arrive there; then "
        f"sysctl -w net.ipv4.conf.{first}.rp_filter={_LOOSE}"
    )
    return Finding(Cause.REVERSE_PATH, breaks=False, text=text, remedy=remedy)


def _localhost(scene: _Scene) -> _Fault:
    source = scene.packet.source
    return _Fault(
        Cause.LOCALHOST,
        f"net.ipv4.conf.all.route_localnet is 0: the kernel sends nothing from {source} to ",
        "",
        "sysctl -w net.ipv4.conf.all.route_localnet=1, or ask at another address of the node",
    )


def _refused(way: Way) -> _Fault:
    return _Fault(
        Cause.NO_ROUTE,
        f"the kernel passes nothing from {way.source} on to ",
        f" ({way.error})",
        f"ip route get {way.destination} from {way.source} iif {way.arrival or 'INTERFACE'}",
    )


def _strange_route(scene: _Scene, way: Way) -> _Fault | None:
    """A pod reached by the default route: usual in some clouds, a hole in other networks."""
    end = scene.endpoints.get(way.destination)
    if end is None or not way.is_default:
        return None
    if end.is_local:
        text = " is a pod of this node, but only the default route leads to it"
    elif end.node and (known := _known_way(scene)):
        text = f" has no route but the default one, while {known}"
    else:
        return None
    return _Fault(
        Cause.NO_ROUTE,
        "pod ",
        text,
        f"ip route get {way.destination}; the network plug-in of the cluster writes routes to "
        "pods: see that it runs on this node",
        may=True,
        names_nodes=not end.is_local,
    )


def _known_way(scene: _Scene) -> str:
    """A route to pods of another node, as proof that there should be one for each."""
    for way in scene.ways.there:
        end = scene.endpoints.get(way.destination)
        if way.gateway and not way.is_default and end and end.node and not end.is_local:
            return f"{way.network} by {way.gateway} leads to {end.node}"
    pods = [cidr for cidr in scene.node.local_traffic.cidrs if _is_of(cidr, scene.packet)]
    for route in scene.facts.routes:
        if route.gateway and any(_is_within(route.network, cidr) for cidr in pods):
            return f"{route.network} by {route.gateway} leads to another node"
    return ""


def _is_of(cidr: str, packet: Packet) -> bool:
    return family(cidr) is family(packet.destination)


def _is_within(inner: str, outer: str) -> bool:
    return network(inner).network_address in network(outer)
