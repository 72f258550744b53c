"""What is a load balancer told of a Service, and on which addresses?"""

from __future__ import annotations

import json

import pytest

from endpoints.names import Family, ObjectName
from endpoints.node import NodePortAddresses, NodeView
from endpoints.objects import EndpointPort, EndpointSlice, Service, ServicePort
from endpoints.planning import plan
from endpoints.slices import contribution
from modes.base import Plans
from proxy.serving.health_ports import Check, addresses_for, answer, check
from tests.unit.endpoints.build import (
    NODE_A,
    endpoint,
    endpoint_slice,
    exposed,
    service,
)

TWO_PORTS = [
    ServicePort(port=80, name="http", node_port=30080),
    ServicePort(port=443, name="https", node_port=30443),
]
BOTH = [EndpointPort(name="http", port=8080), EndpointPort(name="https", port=8443)]


def balanced(*cluster_ips: str, internal: str | None = None, port: int | None = 32100) -> Service:
    return service(
        type="LoadBalancer",
        cluster_ips=cluster_ips or ["10.96.7.7"],
        ports=TWO_PORTS,
        internal=internal,
        external="Local",
        health_check_node_port=port,
    )


def plans(of: Service, *slices: EndpointSlice) -> Plans:
    said = [found for one in slices if (found := contribution(one, "node-a"))]
    return plan(exposed(of), said, NODE_A)


def counted(*slices: EndpointSlice, internal: str | None = None) -> int:
    found = check(plans(balanced(internal=internal), *slices))
    assert found is not None
    return found.counts[Family.IPV4]


def test_a_service_without_the_port_is_not_checked() -> None:
    assert check(()) is None
    assert check(plans(balanced(port=None))) is None
    assert check(plans(service(health_check_node_port=32100))) is None


def test_an_endpoint_counts_once_whatever_its_ports() -> None:
    slices = endpoint_slice(
        endpoint("10.244.1.2", "node-a"), endpoint("10.244.1.3", "node-a"), ports=BOTH
    )
    assert counted(slices) == 2


def test_endpoints_of_some_ports_only_count() -> None:
    http = endpoint_slice(endpoint("10.244.1.2", "node-a"), name="pay-1", ports=BOTH[:1])
    https = endpoint_slice(endpoint("10.244.1.3", "node-a"), name="pay-2", ports=BOTH[1:])
    assert counted(http, https) == 2


@pytest.mark.parametrize("internal", ["Cluster", "Local"])
def test_only_what_is_ready_and_local_counts(internal: str) -> None:
    slices = endpoint_slice(
        endpoint("10.244.1.2", "node-a"),
        endpoint("10.244.1.3", "node-a", "not ready"),
        endpoint("10.244.1.4", "node-a", "terminating"),
        endpoint("10.244.2.2", "node-b"),
        ports=BOTH,
    )
    assert counted(slices, internal=internal) == 1


def test_what_only_terminates_does_not_count_though_it_serves() -> None:
    slices = endpoint_slice(endpoint("10.244.1.4", "node-a", "terminating"), ports=BOTH)
    assert plans(balanced(), slices)[0].local
    assert counted(slices) == 0


def test_ready_endpoints_count_before_the_balancer_has_an_address() -> None:
    ports = [ServicePort(port=80, name="http")]
    of = service(type="LoadBalancer", ports=ports, external="Local", health_check_node_port=32100)
    slices = endpoint_slice(
        endpoint("10.244.1.2", "node-a", zones=["eu-1b"]),
        endpoint("10.244.2.2", "node-b", zones=["eu-1a"]),
    )
    (only,) = plans(of, slices)
    assert [row.endpoint.address for row in only.unused] == ["10.244.1.2"]
    assert check((only,)) == Check(32100, {Family.IPV4: 1})


def test_families_count_for_themselves() -> None:
    of = balanced("10.96.7.7", "fd00:10:96::7")
    v4 = endpoint_slice(endpoint("10.244.1.2", "node-a"), ports=BOTH)
    v6 = endpoint_slice(
        endpoint("fd00:10:244:1::2", "node-a"),
        endpoint("fd00:10:244:1::3", "node-a"),
        name="pay-2",
        family="IPv6",
        ports=BOTH,
    )
    assert check(plans(of, v4, v6)) == Check(32100, {Family.IPV4: 1, Family.IPV6: 2})
    assert check(plans(of)) == Check(32100, {Family.IPV4: 0, Family.IPV6: 0})
    assert check(plans(balanced(), v4, v6)) == Check(32100, {Family.IPV4: 1})


def test_where_node_ports_answer() -> None:
    some = NodePortAddresses(addresses=("192.168.0.11", "192.168.0.12"))
    every = NodePortAddresses(match_all=True, addresses=("127.0.0.1",))
    node = NodeView("node-a", node_ports_v4=some, node_ports_v6=every)
    assert addresses_for(node, Family.IPV4) == ("192.168.0.11", "192.168.0.12")
    assert addresses_for(node, Family.IPV6) == ("::",)
    every_v4 = NodeView("node-a", node_ports_v4=every)
    assert addresses_for(every_v4, Family.IPV4) == ("0.0.0.0",)
    assert addresses_for(every_v4, Family.IPV6) == ()


@pytest.mark.parametrize(
    ("count", "healthy", "status"),
    [(0, True, 503), (0, False, 503), (3, False, 503), (3, True, 200)],
)
def test_the_status(count: int, *, healthy: bool, status: int) -> None:
    said = answer(ObjectName("shop", "pay"), count, healthy=healthy)
    assert said.status == status
    assert dict(said.headers) == {
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(count),
    }
    assert said.content_type == "application/json"
    assert json.loads(said.body) == {
        "service": {"namespace": "shop", "name": "pay"},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }


def test_the_body_is_indented_by_tabs_as_that_of_kube_proxy() -> None:
    said = answer(ObjectName("shop", "pay"), 2, healthy=True)
    assert said.body.decode() == (
        '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "pay"\n\t},\n'
        '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}'
    )
