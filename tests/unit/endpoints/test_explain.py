"""Where does a packet to a Service go, seen from node-a? Tables of packets and their verdicts.

Pods A1 and A2 are on node-a, B1 on node-b; CLIENT is outside; NODE is node-a itself. A packet of
NODE enters at OUTPUT, every other one at PREROUTING. Verdicts are written as an operator reads
them: `A1 A2 B1 masqueraded`, `drop`, `reject`, `pass`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from endpoints.explain import Drop, Forward, Hook, Hop, Packet, Pass, Reject, Verdict, explain
from endpoints.names import Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.objects import EndpointPort, EndpointSlice, Service, ServicePort
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from endpoints.planning import plan
from tests.unit.endpoints.build import (
    NODE_A,
    V4,
    contributed,
    endpoint,
    endpoint_slice,
    exposed,
    service,
)

A1, A2, B1 = "10.244.1.2", "10.244.1.3", "10.244.2.2"
CLIENT, NODE = "203.0.113.7", "192.168.0.11"
CLUSTER_IP, EXTERNAL_IP, VIP = "10.96.7.7", "203.0.113.80", "198.51.100.20"
PORT, NODE_PORT = 80, 30080
SHORT = {A1: "A1", A2: "A2", B1: "B1", NODE: "NODE", "10.9.9.9": "X9"}

EVERYWHERE = endpoint_slice(endpoint(A1, "node-a"), endpoint(A2, "node-a"), endpoint(B1, "node-b"))
ELSEWHERE = endpoint_slice(endpoint(B1, "node-b"))
NOWHERE = endpoint_slice(endpoint(A1, "node-a", "not ready"))


def pay(
    internal: str | None = None, external: str | None = None, ranges: Iterable[str] = ()
) -> Service:
    """A Service that is reached in every way."""
    return service(
        type="LoadBalancer",
        ports=[ServicePort(port=PORT, name="http", node_port=NODE_PORT)],
        external_ips=[EXTERNAL_IP],
        balancers=[VIP],
        internal=internal,
        external=external,
        ranges=list(ranges),
    )


def plans(of: Service, *slices: EndpointSlice, node: NodeView = NODE_A) -> tuple[ServicePlan, ...]:
    return plan(exposed(of), [contributed(s) for s in slices], node)


def packet(
    source: str, destination: str, port: int | None = None, interface: str | None = None
) -> Packet:
    if port is None:
        port = NODE_PORT if destination == NODE else PORT
    hook = Hook.OUTPUT if source == NODE else Hook.PREROUTING
    return Packet(source, destination, port, Protocol.TCP, hook, interface)


def in_words(verdict: Verdict) -> str:
    match verdict:
        case Drop():
            return "drop"
        case Reject():
            return "reject"
        case Pass():
            return "pass"
        case Forward(hops):
            ends: dict[bool, list[str]] = {}
            for hop in sorted(hops):
                ends.setdefault(hop.masqueraded, []).append(SHORT[hop.endpoint.address])
            rows = [" ".join(names) + " masqueraded" * m for m, names in sorted(ends.items())]
            return ", ".join(rows)


def check(of: tuple[ServicePlan, ...], row: Packet, expected: str, node: NodeView = NODE_A) -> None:
    assert in_words(explain(of, node, row)) == expected


ALL = "A1 A2 B1"
EXTERNAL = (EXTERNAL_IP, VIP, NODE)

# Policies Cluster, endpoints everywhere.
CLUSTER = [
    (A1, CLUSTER_IP, "A2 B1, A1 masqueraded"),  # a hairpin is masqueraded
    (B1, CLUSTER_IP, "A1 A2 B1"),  # the node of B1 does its own hairpins
    (CLIENT, CLUSTER_IP, "A1 A2 B1 masqueraded"),
    (NODE, CLUSTER_IP, "A1 A2 B1 masqueraded"),
    *((source, to, "A1 A2 B1 masqueraded") for to in EXTERNAL for source in (A1, CLIENT, NODE)),
]


@pytest.mark.parametrize(("source", "destination", "expected"), CLUSTER)
def test_policy_cluster(source: str, destination: str, expected: str) -> None:
    check(plans(pay(), EVERYWHERE), packet(source, destination), expected)


# externalTrafficPolicy Local: endpoints everywhere, on another node only, nowhere.
EXTERNAL_LOCAL = [
    (CLIENT, "A1 A2", "drop", "reject"),
    (A1, "A2 B1, A1 masqueraded", "B1", "reject"),  # a pod bypasses the policy, unmasqueraded
    (NODE, "A1 A2 B1 masqueraded", "B1 masqueraded", "reject"),  # so does the node
]


@pytest.mark.parametrize("destination", EXTERNAL)
@pytest.mark.parametrize(("source", "everywhere", "elsewhere", "nowhere"), EXTERNAL_LOCAL)
def test_external_policy_local(
    source: str, destination: str, everywhere: str, elsewhere: str, nowhere: str
) -> None:
    of = pay(external="Local")
    check(plans(of, EVERYWHERE), packet(source, destination), everywhere)
    check(plans(of, ELSEWHERE), packet(source, destination), elsewhere)
    check(plans(of, NOWHERE), packet(source, destination), nowhere)


def test_external_policy_local_says_nothing_of_the_cluster_ip() -> None:
    check(plans(pay(external="Local"), ELSEWHERE), packet(CLIENT, CLUSTER_IP), "B1 masqueraded")


# internalTrafficPolicy Local binds pods and the node as well.
INTERNAL_LOCAL = [
    (A1, "A2, A1 masqueraded", "drop", "reject"),
    (NODE, "A1 A2 masqueraded", "drop", "reject"),
    (CLIENT, "A1 A2 masqueraded", "drop", "reject"),
]


@pytest.mark.parametrize(("source", "everywhere", "elsewhere", "nowhere"), INTERNAL_LOCAL)
def test_internal_policy_local(source: str, everywhere: str, elsewhere: str, nowhere: str) -> None:
    of = pay(internal="Local")
    check(plans(of, EVERYWHERE), packet(source, CLUSTER_IP), everywhere)
    check(plans(of, ELSEWHERE), packet(source, CLUSTER_IP), elsewhere)
    check(plans(of, NOWHERE), packet(source, CLUSTER_IP), nowhere)


def test_internal_policy_local_says_nothing_of_external_addresses() -> None:
    of = plans(pay(internal="Local"), ELSEWHERE)
    for destination in EXTERNAL:
        check(of, packet(CLIENT, destination), "B1 masqueraded")


TERMINATING = endpoint_slice(endpoint(A1, "node-a", "terminating"), endpoint(B1, "node-b"))


def test_a_terminating_endpoint_serves_on_where_the_policy_leaves_no_other() -> None:
    of = plans(pay(internal="Local", external="Local"), TERMINATING)
    check(of, packet(CLIENT, VIP), "A1")
    check(of, packet(B1, VIP), "B1")
    check(of, packet(CLIENT, CLUSTER_IP), "A1 masqueraded")


def detecting(mode: DetectLocalMode, *cidrs: str, interface: str = "") -> NodeView:
    return msgspec.structs.replace(NODE_A, local_traffic=LocalTraffic(mode, cidrs, interface))


NO_DETECTOR = detecting(DetectLocalMode.CLUSTER_CIDR)
NODE_CIDR = detecting(DetectLocalMode.NODE_CIDR, "10.244.1.0/24")
BRIDGE = detecting(DetectLocalMode.BRIDGE_INTERFACE, interface="cni0")
PREFIX = detecting(DetectLocalMode.INTERFACE_NAME_PREFIX, interface="veth")
MASQUERADE_ALL = msgspec.structs.replace(NODE_A, masquerade_all=True)

# node, source, arriving on -> to the cluster IP, to the load balancer with policy Local
DETECTION = [
    (NO_DETECTOR, A1, "cni0", "A2 B1, A1 masqueraded", "A2, A1 masqueraded"),
    (NO_DETECTOR, CLIENT, "eth0", "A1 A2 B1", "A1 A2"),
    (NO_DETECTOR, NODE, None, "A1 A2 B1", "A1 A2 B1 masqueraded"),
    (NODE_CIDR, A1, "cni0", "A2 B1, A1 masqueraded", "A2 B1, A1 masqueraded"),
    (NODE_CIDR, B1, "eth0", "A1 A2 B1 masqueraded", "A1 A2"),
    (BRIDGE, A1, "cni0", "A2 B1, A1 masqueraded", "A2 B1, A1 masqueraded"),
    (BRIDGE, A1, "eth0", "A1 A2 B1 masqueraded", "A2, A1 masqueraded"),
    (BRIDGE, CLIENT, "cni0", "A1 A2 B1", "A1 A2 B1"),
    (BRIDGE, NODE, None, "A1 A2 B1 masqueraded", "A1 A2 B1 masqueraded"),
    (PREFIX, A1, "veth12", "A2 B1, A1 masqueraded", "A2 B1, A1 masqueraded"),
    (PREFIX, CLIENT, "eth0", "A1 A2 B1 masqueraded", "A1 A2"),
    (MASQUERADE_ALL, A1, "cni0", "A1 A2 B1 masqueraded", "A2 B1, A1 masqueraded"),
]


@pytest.mark.parametrize(("node", "source", "interface", "internal", "external"), DETECTION)
def test_detection_of_local_pods(
    node: NodeView, source: str, interface: str | None, internal: str, external: str
) -> None:
    of = plans(pay(external="Local"), EVERYWHERE, node=node)
    check(of, packet(source, CLUSTER_IP, interface=interface), internal, node)
    check(of, packet(source, VIP, interface=interface), external, node)


def test_the_node_is_known_by_its_addresses_where_a_local_list_is_in_force() -> None:
    bridge_address = Packet("10.244.1.1", VIP, PORT, Protocol.TCP, Hook.OUTPUT)
    check(plans(pay(external="Local"), EVERYWHERE), bridge_address, "A1 A2 B1 masqueraded")


def test_a_packet_that_comes_back_from_outside_with_the_nodes_address_is_a_clients() -> None:
    returned = Packet(NODE, VIP, PORT, Protocol.TCP, Hook.PREROUTING)
    check(plans(pay(external="Local"), EVERYWHERE), returned, "A1 A2 masqueraded")


def test_masquerade_all_is_about_cluster_ips_only() -> None:
    of = plans(pay(external="Local"), EVERYWHERE)
    check(of, packet(CLIENT, VIP), "A1 A2", MASQUERADE_ALL)


HAIRPIN = {
    "a local endpoint": ("10.9.9.9", "node-a", "X9 masqueraded"),
    "one whose node is unknown": ("10.9.9.9", None, "X9 masqueraded"),
    "one on another node is that node's": ("10.9.9.9", "node-b", "X9"),
}


@pytest.mark.parametrize(("address", "node", "expected"), HAIRPIN.values(), ids=HAIRPIN)
def test_hairpin(address: str, node: str | None, expected: str) -> None:
    of = plans(pay(), endpoint_slice(endpoint(address, node)))
    check(of, packet(address, CLUSTER_IP), expected, NO_DETECTOR)


HOST_NETWORK = endpoint_slice(endpoint(NODE, "node-a"), endpoint(B1, "node-b"))


def test_an_endpoint_on_the_nodes_own_address_is_reached_without_postrouting() -> None:
    of = plans(pay(), HOST_NETWORK)
    check(of, packet(CLIENT, VIP), "NODE, B1 masqueraded")
    check(of, packet(CLIENT, CLUSTER_IP), "NODE, B1 masqueraded")
    # A packet of the node itself does pass it, on its way to lo.
    check(of, packet(NODE, VIP), "B1 NODE masqueraded")


RANGES = [
    # ranges, source, verdict at the load balancer address
    (["203.0.113.0/24"], CLIENT, "A1 A2"),
    (["198.18.0.0/15"], CLIENT, "drop"),
    (["198.18.0.0/15", "203.0.113.7/32"], CLIENT, "A1 A2"),
    (["203.0.113.0/24"], A1, "drop"),  # pods bypass the policy, not the ranges
    (["203.0.113.0/24"], NODE, "drop"),  # nor does the node
    (["192.168.0.0/24"], NODE, "A1 A2 B1 masqueraded"),
    (["192.168.0.0/24"], VIP, "A1 A2"),  # the node may know the balancer's address as its own
    (["0.0.0.0/0"], CLIENT, "A1 A2"),
    (["2001:db8::/32"], CLIENT, "A1 A2"),  # of the other family: no restriction in this one
]


@pytest.mark.parametrize(("ranges", "source", "expected"), RANGES)
def test_source_ranges(ranges: list[str], source: str, expected: str) -> None:
    check(plans(pay(external="Local", ranges=ranges), EVERYWHERE), packet(source, VIP), expected)


def test_source_ranges_are_for_the_load_balancer_address_only() -> None:
    of = plans(pay(ranges=["198.18.0.0/15"]), EVERYWHERE)
    for destination in (CLUSTER_IP, EXTERNAL_IP, NODE):
        check(of, packet(CLIENT, destination), "A1 A2 B1 masqueraded")


def test_source_ranges_drop_before_missing_endpoints_refuse() -> None:
    of = plans(pay(ranges=["203.0.113.0/24"]), NOWHERE)
    check(of, packet(A1, VIP), "drop")
    check(of, packet(CLIENT, VIP), "reject")


@pytest.mark.parametrize("destination", [CLUSTER_IP, *EXTERNAL])
@pytest.mark.parametrize("source", [A1, CLIENT, NODE])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_without_endpoints_everyone_is_refused(source: str, destination: str, policy: str) -> None:
    of = pay(internal=policy, external=policy)
    check(plans(of), packet(source, destination), "reject")
    check(plans(of, NOWHERE), packet(source, destination), "reject")


# destination, port -> verdict
DISPATCH = [
    (CLUSTER_IP, 81, "reject"),  # an unknown port of a cluster IP
    (CLUSTER_IP, NODE_PORT, "reject"),  # a node port is none of the cluster IP's
    (EXTERNAL_IP, 81, "pass"),  # the other addresses may have other uses
    (VIP, 81, "pass"),
    (VIP, NODE_PORT, "pass"),
    (NODE, PORT, "pass"),
    (NODE, 30081, "pass"),
    ("10.244.1.1", NODE_PORT, "pass"),  # the node's, but nodePortAddresses leaves it out
    ("192.168.0.12", NODE_PORT, "pass"),  # another node's
    ("10.96.7.8", PORT, "pass"),
]


@pytest.mark.parametrize(("destination", "port", "expected"), DISPATCH)
def test_dispatch(destination: str, port: int, expected: str) -> None:
    check(plans(pay(), EVERYWHERE), packet(CLIENT, destination, port), expected)


def test_another_protocol_is_another_port() -> None:
    of = plans(pay(), EVERYWHERE)
    for destination, expected in ((CLUSTER_IP, "reject"), (VIP, "pass")):
        udp = Packet(CLIENT, destination, PORT, Protocol.UDP)
        check(of, udp, expected)


def test_nothing_is_a_services_where_there_is_none() -> None:
    check((), packet(CLIENT, CLUSTER_IP), "pass")


ALL_ADDRESSES = msgspec.structs.replace(NODE_A, node_ports_v4=NodePortAddresses(match_all=True))
AND_LOOPBACK = msgspec.structs.replace(
    NODE_A, node_ports_v4=NodePortAddresses(match_all=True, addresses=("127.0.0.1",))
)
# node, destination -> verdict on a NodePort
NODE_PORTS = [
    (ALL_ADDRESSES, NODE, "A1 A2 B1 masqueraded"),
    (ALL_ADDRESSES, "10.244.1.1", "A1 A2 B1 masqueraded"),
    (ALL_ADDRESSES, "127.0.0.1", "pass"),
    (ALL_ADDRESSES, "192.168.0.12", "pass"),
    (AND_LOOPBACK, "127.0.0.1", "A1 A2 B1 masqueraded"),
    (AND_LOOPBACK, NODE, "A1 A2 B1 masqueraded"),
]


@pytest.mark.parametrize(("node", "destination", "expected"), NODE_PORTS)
def test_addresses_of_node_ports(node: NodeView, destination: str, expected: str) -> None:
    row = Packet(NODE, destination, NODE_PORT, Protocol.TCP, Hook.OUTPUT)
    check(plans(pay(), EVERYWHERE), row, expected, node)


def test_a_cluster_ip_serves_no_node_ports_even_if_the_node_has_it() -> None:
    bound = msgspec.structs.replace(ALL_ADDRESSES, addresses=ALL_ADDRESSES.addresses | {CLUSTER_IP})
    check(plans(pay(), EVERYWHERE), packet(CLIENT, CLUSTER_IP, NODE_PORT), "reject", bound)


def test_an_address_of_the_node_that_is_an_external_ip_serves_both() -> None:
    of = plans(
        service(
            type="NodePort",
            ports=[ServicePort(port=PORT, name="http", node_port=NODE_PORT)],
            external_ips=[NODE],
        ),
        EVERYWHERE,
    )
    for port in (PORT, NODE_PORT):
        check(of, packet(CLIENT, NODE, port), "A1 A2 B1 masqueraded")


def test_families_are_apart() -> None:
    of = service(
        type="NodePort",
        cluster_ips=["10.96.7.7", "fd00:10:96::7"],
        ports=[ServicePort(port=PORT, name="http", node_port=NODE_PORT)],
    )
    six = endpoint_slice(endpoint("fd00:10:244:1::2", "node-a"), name="pay-6", family="IPv6")
    both = plans(of, six)
    (hop,) = (Hop(both[1].cluster[0], masqueraded=False),)
    pod_v6 = Packet("fd00:10:244:2::2", "fd00:10:96::7", PORT, Protocol.TCP)
    assert explain(both, NODE_A, pod_v6) == Forward(frozenset({hop}))
    outside_v6 = Packet("2001:db8:203::7", "fd00:192:168::11", NODE_PORT, Protocol.TCP)
    assert explain(both, NODE_A, outside_v6) == Forward(
        frozenset({msgspec.structs.replace(hop, masqueraded=True)})
    )
    check(both, packet(CLIENT, CLUSTER_IP), "reject")
    check(both, packet(CLIENT, NODE), "reject")


def test_each_port_has_its_own_endpoints() -> None:
    of = service(
        ports=[
            ServicePort(port=80, name="http"),
            ServicePort(port=80, name="quic", protocol=Protocol.UDP),
        ]
    )
    quic = EndpointPort(name="quic", port=8443, protocol=Protocol.UDP)
    both = plans(of, EVERYWHERE, endpoint_slice(endpoint(B1), name="pay-2", ports=[quic]))
    udp = explain(both, NODE_A, Packet(A1, CLUSTER_IP, 80, Protocol.UDP))
    assert isinstance(udp, Forward)
    assert {str(hop.endpoint) for hop in udp.hops} == {f"{B1}:8443"}


def test_an_empty_cluster_list_refuses_even_if_a_plan_says_that_there_are_endpoints() -> None:
    by_hand = ServicePlan(
        name=ServicePortName("shop", "pay", "http", Protocol.TCP),
        family=V4,
        frontends=(Frontend(FrontendKind.CLUSTER_IP, CLUSTER_IP, PORT, TrafficPolicy.CLUSTER),),
        cluster=(),
        local=(Endpoint(A1, 8080, is_local=True),),
        has_any=True,
    )
    check((by_hand,), packet(CLIENT, CLUSTER_IP), "reject")
