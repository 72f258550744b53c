"""What does one Service mean for this node? Seen from node-a; pods by their node: a, b, c."""

from __future__ import annotations

import msgspec
import pytest

from endpoints.names import Protocol
from endpoints.objects import EndpointPort, LoadBalancerIngress, Service, ServicePort, SliceEndpoint
from endpoints.plan import FrontendKind, ServicePlan
from endpoints.planning import effective, plan
from tests.unit.endpoints.build import (
    NODE_A,
    V4,
    V6,
    addresses,
    contributed,
    endpoint,
    endpoint_slice,
    exposed,
    planned,
    service,
)

PODS = {"10.244.1.2": "node-a", "10.244.1.3": "node-a", "10.244.2.2": "node-b"}

CLUSTER = service()
INTERNAL_LOCAL = service(internal="Local")
EXTERNAL_LOCAL = service(external_ips=["203.0.113.80"], external="Local")
BOTH_LOCAL = service(external_ips=["203.0.113.80"], internal="Local", external="Local")
NEVER_USED = service(external="Local")

A1, A2, B1 = PODS

# Service, states of A1, A2 and B1 -> the Cluster list, the Local list, has_any.
# r ready, t serving and terminating, n not ready
LISTS: list[tuple[Service, str, set[str], set[str], bool]] = [
    (CLUSTER, "rrr", {A1, A2, B1}, set(), True),
    (CLUSTER, "rnt", {A1}, set(), True),
    (CLUSTER, "ttn", {A1, A2}, set(), True),
    (CLUSTER, "nnn", set(), set(), False),
    # internalTrafficPolicy Local: nothing uses the Cluster list.
    (INTERNAL_LOCAL, "rrr", set(), {A1, A2}, True),
    (INTERNAL_LOCAL, "rtr", set(), {A1}, True),
    (INTERNAL_LOCAL, "tnr", set(), {A1}, True),
    (INTERNAL_LOCAL, "nnr", set(), set(), True),
    (INTERNAL_LOCAL, "nnt", set(), set(), True),
    (INTERNAL_LOCAL, "nnn", set(), set(), False),
    # externalTrafficPolicy Local: pods and the node itself use the Cluster list.
    (EXTERNAL_LOCAL, "rrr", {A1, A2, B1}, {A1, A2}, True),
    (EXTERNAL_LOCAL, "nnr", {B1}, set(), True),
    # The two fallbacks are independent: B1 is ready, so A1 is only in the Local list.
    (EXTERNAL_LOCAL, "tnr", {B1}, {A1}, True),
    (EXTERNAL_LOCAL, "ttt", {A1, A2, B1}, {A1, A2}, True),
    (EXTERNAL_LOCAL, "rtn", {A1}, {A1}, True),
    (BOTH_LOCAL, "tnr", {B1}, {A1}, True),
    # externalTrafficPolicy Local on a Service that is not reached from outside.
    (NEVER_USED, "rrr", {A1, A2, B1}, set(), True),
]
STATE = {"r": "ready", "t": "terminating", "n": "not ready"}


def pods(states: str) -> list[SliceEndpoint]:
    return [endpoint(a, n, STATE[s]) for (a, n), s in zip(PODS.items(), states, strict=True)]


@pytest.mark.parametrize(("of", "states", "cluster", "local", "has_any"), LISTS)
def test_lists(of: Service, states: str, cluster: set[str], local: set[str], has_any: bool) -> None:
    found = planned(of, endpoint_slice(*pods(states)))
    assert {e.address for e in found.cluster} == cluster
    assert {e.address for e in found.local} == local
    assert found.has_any is has_any


def test_lists_are_sorted_however_the_slice_is() -> None:
    forth = planned(BOTH_LOCAL, endpoint_slice(*pods("rrr")))
    back = planned(BOTH_LOCAL, endpoint_slice(*reversed(pods("rrr"))))
    assert forth == back
    assert addresses(forth.cluster) == ["10.244.1.2:8080", "10.244.1.3:8080", "10.244.2.2:8080"]


def reasons(of: ServicePlan) -> dict[str, str]:
    return {u.endpoint.address: u.reason for u in of.unused}


UNUSED: list[tuple[Service, str, dict[str, str]]] = [
    (CLUSTER, "rrr", {}),
    (CLUSTER, "rnt", {A2: "not ready", B1: "terminating; ready endpoints exist"}),
    (CLUSTER, "nnn", {A1: "not ready", A2: "not ready", B1: "not ready"}),
    (INTERNAL_LOCAL, "rtr", {A2: "terminating; ready endpoints exist", B1: "not on this node"}),
    (INTERNAL_LOCAL, "nnt", {A1: "not ready", A2: "not ready", B1: "not on this node"}),
    (EXTERNAL_LOCAL, "tnr", {A2: "not ready"}),
    (EXTERNAL_LOCAL, "rrt", {B1: "terminating; ready endpoints exist"}),
]


@pytest.mark.parametrize(("of", "states", "expected"), UNUSED)
def test_unused(of: Service, states: str, expected: dict[str, str]) -> None:
    assert reasons(planned(of, endpoint_slice(*pods(states)))) == expected


def test_many_slices_are_one_service() -> None:
    slices = [
        endpoint_slice(endpoint("10.244.2.2"), name="pay-2"),
        endpoint_slice(endpoint("10.244.1.2"), endpoint("10.244.2.2"), name="pay-1"),
        endpoint_slice(name="pay-3"),
    ]
    assert addresses(planned(CLUSTER, *slices).cluster) == ["10.244.1.2:8080", "10.244.2.2:8080"]


def test_a_plan_per_port_and_family_each_with_its_own_endpoints() -> None:
    of = service(
        cluster_ips=["10.96.7.7", "fd00:10:96::7"],
        ports=[
            ServicePort(port=80, name="http"),
            ServicePort(port=53, name="dns", protocol=Protocol.UDP),
        ],
    )
    ports = [
        EndpointPort(name="http", port=8080),
        EndpointPort(name="dns", port=5353, protocol=Protocol.UDP),
    ]
    slices = [
        endpoint_slice(endpoint("10.244.1.2"), ports=ports),
        endpoint_slice(endpoint("fd00:10:244:1::2"), name="pay-6", family="IPv6", ports=ports[:1]),
    ]
    found = plan(exposed(of), [contributed(s) for s in slices], NODE_A)
    assert {(p.name.port, p.family): addresses(p.cluster) for p in found} == {
        ("http", V4): ["10.244.1.2:8080"],
        ("http", V6): ["[fd00:10:244:1::2]:8080"],
        ("dns", V4): ["10.244.1.2:5353"],
        ("dns", V6): [],
    }


def test_a_service_without_slices_has_a_plan_that_rejects() -> None:
    found = planned(CLUSTER)
    assert (found.cluster, found.has_any, found.unused) == ((), False, ())


def test_what_is_lost_is_left_out_and_a_port_that_lost_all_has_no_plan() -> None:
    exposure = exposed(EXTERNAL_LOCAL)
    cluster_ip = ("10.96.7.7", 80, Protocol.TCP)
    external_ip = ("203.0.113.80", 80, Protocol.TCP)
    (without,) = plan(exposure, [], NODE_A, {cluster_ip})
    assert [f.kind for f in without.frontends] == [FrontendKind.EXTERNAL_IP]
    assert plan(exposure, [], NODE_A, {cluster_ip, external_ip}) == ()


def test_losing_the_only_external_frontend_leaves_nothing_that_asks_for_local() -> None:
    slices = [contributed(endpoint_slice(*pods("rrr")))]
    (found,) = plan(exposed(EXTERNAL_LOCAL), slices, NODE_A, {("203.0.113.80", 80, Protocol.TCP)})
    assert (len(found.cluster), found.local) == (3, ())


NODE = frozenset({"127.0.0.1", "192.168.0.11", "fd00:192:168::11"})
VIP = "198.51.100.20"

RANGES = {
    "none of the node's": (["203.0.113.0/24"], ["203.0.113.0/24"]),
    "sorted and merged": (
        ["203.0.113.128/25", "198.18.0.0/15", "203.0.113.0/25", "203.0.113.7/32"],
        ["198.18.0.0/15", "203.0.113.0/24"],
    ),
    "host bits are dropped": (["203.0.113.7/24"], ["203.0.113.0/24"]),
    "blanks too": ([" 203.0.113.0/24 "], ["203.0.113.0/24"]),
    "the node's own: the address of the balancer is allowed too": (
        ["192.168.0.0/24"],
        ["192.168.0.0/24", "198.51.100.20/32"],
    ),
    "everything is no restriction": (["203.0.113.0/24", "0.0.0.0/0"], []),
    "nor is everything in two halves": (["0.0.0.0/1", "128.0.0.0/1"], []),
}


@pytest.mark.parametrize(("configured", "expected"), RANGES.values(), ids=RANGES)
def test_source_ranges(configured: list[str], expected: list[str]) -> None:
    assert list(effective(tuple(configured), VIP, NODE)) == expected


def test_source_ranges_v6() -> None:
    balancer = "2001:db8:198::20"
    assert effective(("fd00:192:168::/64",), balancer, NODE) == (
        "2001:db8:198::20/128",
        "fd00:192:168::/64",
    )
    assert effective(("::/0",), balancer, NODE) == ()


def test_only_the_load_balancer_address_is_restricted() -> None:
    of = service(
        type="LoadBalancer",
        ports=[ServicePort(port=80, name="http", node_port=30080)],
        external_ips=["203.0.113.80"],
        balancers=[LoadBalancerIngress(ip=VIP)],
        ranges=["203.0.113.0/24"],
    )
    assert {f.kind: f.source_ranges for f in planned(of).frontends} == {
        FrontendKind.CLUSTER_IP: (),
        FrontendKind.EXTERNAL_IP: (),
        FrontendKind.LOAD_BALANCER: ("203.0.113.0/24",),
        FrontendKind.NODE_PORT: (),
    }


def test_equal_input_is_an_equal_plan_with_an_equal_hash() -> None:
    one = planned(BOTH_LOCAL, endpoint_slice(*pods("rtr")))
    two = planned(BOTH_LOCAL, endpoint_slice(*pods("rtr")))
    assert one == two
    assert hash(one) == hash(two)


def test_affinity_and_health_check_port_arrive() -> None:
    of = service(
        type="LoadBalancer", external="Local", affinity_seconds=60, health_check_node_port=32000
    )
    found = planned(of)
    assert (found.affinity_seconds, found.health_check_node_port) == (60, 32000)


def test_the_node_decides_what_is_local() -> None:
    elsewhere = msgspec.structs.replace(NODE_A, name="node-b", zone=None)
    hinted = [endpoint(A1, "node-a", nodes=["node-a"]), endpoint(B1, "node-b", nodes=["node-b"])]
    assert addresses(planned(CLUSTER, endpoint_slice(*hinted), node=elsewhere).cluster) == [
        "10.244.2.2:8080"
    ]
