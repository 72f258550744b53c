"""Does an operator read why a packet goes where it goes? In the words of CLI.md."""

from __future__ import annotations

import msgspec
import pytest

from endpoints.explain import Explanation, Hook, Packet, explain, walk
from endpoints.names import Protocol
from endpoints.node import DetectLocalMode, LocalTraffic, NodeView
from endpoints.objects import EndpointSlice, Service, ServicePort, SliceEndpoint
from endpoints.planning import plan
from tests.unit.endpoints.build import (
    NODE_A,
    contributed,
    endpoint,
    endpoint_slice,
    exposed,
    service,
)

NODE = "192.168.0.11"
ZONED = endpoint_slice(
    endpoint("10.244.1.2", "node-a", zones=["eu-1a"]),
    endpoint("10.244.2.9", "node-b", zones=["eu-1a"]),
    endpoint("10.244.3.4", "node-c", zones=["eu-1b"]),
)
LOCAL_BALANCER = service(
    type="LoadBalancer",
    ports=[ServicePort(port=80, name="http", node_port=30080)],
    balancers=["198.51.100.20"],
    external="Local",
)


def walked(
    source: str,
    destination: str,
    of: Service,
    *slices: EndpointSlice,
    port: int = 80,
    node: NodeView = NODE_A,
) -> Explanation:
    hook = Hook.OUTPUT if source == NODE else Hook.PREROUTING
    packet = Packet(source, destination, port, Protocol.TCP, hook, "cni0")
    plans = plan(exposed(of), [contributed(s) for s in slices], node)
    found = walk(plans, node, packet)
    assert found.verdict == explain(plans, node, packet)
    return found


def rows(of: Explanation) -> list[str]:
    return [f"{step.place}: {step.text}" for step in of.steps]


def test_a_pod_to_a_cluster_ip() -> None:
    found = walked("10.244.1.9", "10.96.7.7", service(), ZONED)
    assert rows(found) == [
        "prerouting: 10.96.7.7:80/TCP is the cluster IP of shop/pay:http, policy Cluster",
        "cluster list: one of 2 endpoints, uniformly",
        "postrouting: 10.244.1.9 is a local pod (clusterCIDR 10.244.0.0/16): not masqueraded",
    ]
    assert [(str(u.endpoint), u.reason) for u in found.unused] == [
        ("10.244.3.4:8080", "ready, but hinted for zone eu-1b; this node is in eu-1a")
    ]
    assert str(found.service) == "shop/pay:http"
    assert found.frontend is not None
    assert (found.frontend.address, found.frontend.kind) == ("10.96.7.7", "ClusterIP")
    assert (found.affinity_seconds, found.advice) == (None, "")


def test_a_client_outside_the_source_ranges() -> None:
    of = service(
        type="LoadBalancer",
        balancers=["198.51.100.20"],
        ranges=["203.0.113.0/24"],
        external="Local",
    )
    found = walked("192.0.2.8", "198.51.100.20", of, ZONED)
    assert rows(found) == [
        "prerouting: 198.51.100.20:80/TCP is a load balancer address of shop/pay:http, policy Local",
        "source ranges: loadBalancerSourceRanges allows 203.0.113.0/24 only: 192.0.2.8 is outside -> drop",
    ]
    assert found.advice == (
        "A client inside the range would reach 10.244.1.2:8080 (100%), externalTrafficPolicy"
        " Local, client address kept."
    )


@pytest.mark.parametrize(
    ("policy", "slices", "advice"),
    [
        (
            "Local",
            [endpoint("10.244.2.9")],
            "would be dropped: policy Local, and no endpoint on this node.",
        ),
        ("Cluster", [], "would be refused: there is no endpoint."),
        (
            "Cluster",
            [endpoint("10.244.1.2"), endpoint("10.244.2.9")],
            (
                "would reach 10.244.1.2:8080 (50%) or 10.244.2.9:8080 (50%), externalTrafficPolicy"
                " Cluster, client address not kept."
            ),
        ),
        (
            "Cluster",
            [endpoint(f"10.244.1.{number}") for number in range(2, 6)],
            (
                "would reach one of 4 endpoints, externalTrafficPolicy Cluster, client address not"
                " kept."
            ),
        ),
    ],
)
def test_advice_for_a_client_inside(policy: str, slices: list[SliceEndpoint], advice: str) -> None:
    of = service(
        type="LoadBalancer",
        balancers=["198.51.100.20"],
        ranges=["203.0.113.0/24"],
        external=policy,
    )
    found = walked("192.0.2.8", "198.51.100.20", of, endpoint_slice(*slices))
    assert found.advice == f"A client inside the range {advice}"


# source, destination, port, Service, endpoints -> the steps after the first
A1 = endpoint("10.244.1.2", "node-a")
A2 = endpoint("10.244.1.3", "node-a")
B1 = endpoint("10.244.2.2", "node-b")
HOST = endpoint(NODE, "node-a")
STICKY = service(affinity_seconds=60)
EXTERNAL = service(external_ips=["203.0.113.80"])
STORIES: dict[str, tuple[str, str, int, Service, list[SliceEndpoint], list[str]]] = {
    "not a pod": (
        "203.0.113.7",
        "10.96.7.7",
        80,
        service(),
        [A1],
        [
            "cluster list: the only endpoint",
            "postrouting: 203.0.113.7 is not a local pod (clusterCIDR 10.244.0.0/16): masqueraded",
        ],
    ),
    "affinity": (
        "10.244.1.9",
        "10.96.7.7",
        80,
        STICKY,
        [A1, B1],
        [
            "cluster list: one of 2 endpoints, uniformly; a client keeps its endpoint for 60 s after each connection",
            "postrouting: 10.244.1.9 is a local pod (clusterCIDR 10.244.0.0/16): not masqueraded",
        ],
    ),
    "hairpin": (
        "10.244.1.2",
        "10.96.7.7",
        80,
        service(),
        [A1, B1],
        [
            "cluster list: one of 2 endpoints, uniformly",
            "postrouting: 10.244.1.2 reaches itself (hairpin): masqueraded",
            "postrouting: 10.244.1.2 is a local pod (clusterCIDR 10.244.0.0/16): not masqueraded",
        ],
    ),
    "host network": (
        "203.0.113.7",
        "203.0.113.80",
        80,
        EXTERNAL,
        [HOST],
        [
            "cluster list: the only endpoint",
            "postrouting: 192.168.0.11:8080 is on the node itself: not passed, so not masqueraded",
        ],
    ),
    "policy Cluster from outside": (
        "203.0.113.7",
        "203.0.113.80",
        80,
        EXTERNAL,
        [A1],
        [
            "cluster list: the only endpoint",
            "postrouting: an external IP with policy Cluster: masqueraded",
        ],
    ),
    "policy Local from outside": (
        "203.0.113.7",
        NODE,
        30080,
        LOCAL_BALANCER,
        [A1, A2, B1],
        [
            "local list: one of 2 endpoints on this node, uniformly",
            "postrouting: policy Local keeps the client's address 203.0.113.7: not masqueraded",
        ],
    ),
    "policy Local from a pod": (
        "10.244.1.9",
        NODE,
        30080,
        LOCAL_BALANCER,
        [B1],
        [
            "cluster list: a local pod bypasses policy Local: the only endpoint",
            "postrouting: policy Local keeps the client's address 10.244.1.9: not masqueraded",
        ],
    ),
    "policy Local from the node": (
        NODE,
        NODE,
        30080,
        LOCAL_BALANCER,
        [B1],
        [
            "cluster list: the node itself bypasses policy Local: the only endpoint",
            "postrouting: 192.168.0.11 is the node itself: masqueraded",
        ],
    ),
    "policy Local without local endpoint": (
        "203.0.113.7",
        NODE,
        30080,
        LOCAL_BALANCER,
        [B1],
        ["no endpoints: policy Local, and no usable endpoint on this node -> drop"],
    ),
    "no endpoints": (
        "203.0.113.7",
        NODE,
        30080,
        LOCAL_BALANCER,
        [],
        ["no endpoints: no endpoint is ready, nor serving while terminating -> reject"],
    ),
    "unknown port": (
        "10.244.1.9",
        "10.96.7.7",
        81,
        service(),
        [A1],
        ["unknown port: unknown port -> reject"],
    ),
}


@pytest.mark.parametrize(
    ("source", "destination", "port", "of", "endpoints", "steps"), STORIES.values(), ids=STORIES
)
def test_steps(
    source: str,
    destination: str,
    port: int,
    of: Service,
    endpoints: list[SliceEndpoint],
    steps: list[str],
) -> None:
    found = walked(source, destination, of, endpoint_slice(*endpoints), port=port)
    assert rows(found)[1:] == steps


# destination, port -> the first step, of a packet of the node itself
ARRIVALS = [
    (NODE, 30080, "output: 192.168.0.11:30080/TCP is the node port of shop/pay:http, policy Local"),
    ("10.96.7.7", 81, "output: 10.96.7.7 is a cluster IP, but no Service has 10.96.7.7:81/TCP"),
    ("10.9.9.9", 80, "output: 10.9.9.9:80/TCP is no address and port of a Service"),
    (
        "10.244.1.1",
        30080,
        "output: 30080 is the node port of shop/pay:http, but nodePortAddresses leaves 10.244.1.1 out",
    ),
]


@pytest.mark.parametrize(("destination", "port", "text"), ARRIVALS)
def test_arrival(destination: str, port: int, text: str) -> None:
    found = walked(NODE, destination, LOCAL_BALANCER, endpoint_slice(A1), port=port)
    assert rows(found)[0] == text


def test_ipv6_addresses_are_in_brackets() -> None:
    of = service(cluster_ips=["fd00:10:96::7"])
    six = endpoint_slice(endpoint("fd00:10:244:1::2"), family="IPv6")
    found = walked("fd00:10:244:2::2", "fd00:10:96::7", of, six)
    assert rows(found) == [
        "prerouting: [fd00:10:96::7]:80/TCP is the cluster IP of shop/pay:http, policy Cluster",
        "cluster list: the only endpoint",
        "postrouting: fd00:10:244:2::2 is a local pod (clusterCIDR fd00:10:244::/48): not masqueraded",
    ]


DETECTORS = [
    (
        LocalTraffic(DetectLocalMode.NODE_CIDR, ("10.244.1.0/24",)),
        "10.244.1.9 is a local pod (podCIDR 10.244.1.0/24): not masqueraded",
    ),
    (
        LocalTraffic(DetectLocalMode.BRIDGE_INTERFACE, interface="cni0"),
        "10.244.1.9 is a local pod (interface cni0, arrived on cni0): not masqueraded",
    ),
    (
        LocalTraffic(DetectLocalMode.INTERFACE_NAME_PREFIX, interface="veth"),
        "10.244.1.9 is not a local pod (interface veth*, arrived on cni0): masqueraded",
    ),
    (
        LocalTraffic(DetectLocalMode.CLUSTER_CIDR),
        "local pods cannot be told apart in IPv4: not masqueraded",
    ),
]


@pytest.mark.parametrize(("local_traffic", "text"), DETECTORS)
def test_how_pods_are_told_apart(local_traffic: LocalTraffic, text: str) -> None:
    node = msgspec.structs.replace(NODE_A, local_traffic=local_traffic)
    found = walked("10.244.1.9", "10.96.7.7", service(), endpoint_slice(A1), node=node)
    assert rows(found)[-1] == f"postrouting: {text}"


def test_masquerade_all_is_named() -> None:
    node = msgspec.structs.replace(NODE_A, masquerade_all=True)
    found = walked("10.244.1.9", "10.96.7.7", service(), endpoint_slice(A1), node=node)
    assert rows(found)[-1] == "postrouting: masqueradeAll is set: masqueraded"


def test_what_only_the_other_list_holds_is_unused_too() -> None:
    slices = endpoint_slice(endpoint("10.244.1.2", "node-a", "terminating"), B1)
    outside = walked("203.0.113.7", NODE, LOCAL_BALANCER, slices, port=30080)
    inside = walked("10.244.1.9", NODE, LOCAL_BALANCER, slices, port=30080)
    assert [(str(u.endpoint), u.reason) for u in (*outside.unused, *inside.unused)] == [
        ("10.244.2.2:8080", "not on this node"),
        ("10.244.1.2:8080", "terminating; ready endpoints exist"),
    ]


def test_affinity_is_told() -> None:
    found = walked("10.244.1.9", "10.96.7.7", STICKY, endpoint_slice(A1))
    assert found.affinity_seconds == 60
