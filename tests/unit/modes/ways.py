"""Which ways of packets do the modes name the places of? One for each place and kind of frontend."""

from __future__ import annotations

from typing import NamedTuple

from endpoints.explain import Explanation, Hook, Packet, walk
from endpoints.names import Protocol
from endpoints.objects import Service, ServicePort, SliceEndpoint
from endpoints.plan import ServicePlan
from tests.unit.endpoints.build import NODE_A, endpoint, endpoint_slice, planned, service

NODE = "192.168.0.11"
POD, OUTSIDE = "10.244.1.9", "203.0.113.7"
CLUSTER_IP, BALANCER, EXTERNAL_IP = "10.96.7.7", "198.51.100.20", "203.0.113.80"
HERE = endpoint("10.244.1.2", "node-a")
THERE = endpoint("10.244.2.9", "node-b")


def _exposed(external: str, affinity_seconds: int | None = None) -> Service:
    """shop/pay:http, reached by every kind of address."""
    return service(
        type="LoadBalancer",
        ports=[ServicePort(port=80, name="http", node_port=30080)],
        external_ips=[EXTERNAL_IP],
        balancers=[BALANCER],
        ranges=["203.0.113.0/24"],
        external=external,
        affinity_seconds=affinity_seconds,
    )


CLUSTER, LOCAL = _exposed("Cluster"), _exposed("Local")
STICKY = _exposed("Local", 60)


class Way(NamedTuple):
    """What the mode was given, and what becomes of a packet."""

    plan: ServicePlan
    explanation: Explanation


def way(source: str, destination: str, port: int, of: Service, *endpoints: SliceEndpoint) -> Way:
    """The way of a packet to a Service with these endpoints, seen from node-a."""
    hook = Hook.OUTPUT if source == NODE else Hook.PREROUTING
    packet = Packet(source, destination, port, Protocol.TCP, hook)
    plan = planned(of, endpoint_slice(*endpoints))
    return Way(plan, walk([plan], NODE_A, packet))


WAYS: dict[str, Way] = {
    "cluster IP": way(POD, CLUSTER_IP, 80, CLUSTER, HERE, THERE),
    "from the node": way(NODE, CLUSTER_IP, 80, CLUSTER, HERE),
    "node port": way(OUTSIDE, NODE, 30080, CLUSTER, HERE, THERE),
    "local": way(OUTSIDE, BALANCER, 80, LOCAL, HERE, THERE),
    "local node port": way(OUTSIDE, NODE, 30080, LOCAL, HERE, THERE),
    "affinity": way(POD, CLUSTER_IP, 80, STICKY, HERE, THERE),
    "local node port with affinity": way(OUTSIDE, NODE, 30080, STICKY, HERE),
    "outside of the ranges": way("192.0.2.8", BALANCER, 80, LOCAL, HERE),
    "unknown port": way(POD, CLUSTER_IP, 81, CLUSTER, HERE),
    "no endpoints": way(POD, CLUSTER_IP, 80, CLUSTER),
    "no endpoints, external IP": way(OUTSIDE, EXTERNAL_IP, 80, CLUSTER),
    "no endpoints, balancer": way(OUTSIDE, BALANCER, 80, CLUSTER),
    "no local endpoints, node port": way(OUTSIDE, NODE, 30080, LOCAL, THERE),
    "no Service": way(POD, "10.9.9.9", 80, CLUSTER, HERE),
}
