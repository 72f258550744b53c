"""Where does a Service want to be reached?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.exposure import expose
from endpoints.names import Family, Protocol
from endpoints.objects import Annotations, LoadBalancerIngress, Service, ServicePort
from tests.unit.endpoints.build import exposed, service


def reached(of: Service) -> list[str]:
    """All frontends, port by port: `ClusterIP 10.96.7.7:80/TCP Cluster`."""
    return [
        f"{row.kind} {row.address or f'node/{port.family}'}:{row.port}/{port.name.protocol} {row.policy}"
        for port in exposed(of).ports
        for row in port.frontends
    ]


NOT_OURS = {
    "another proxy's, by label": service(labels={"service.kubernetes.io/service-proxy-name": ""}),
    "headless by label": service(labels={"service.kubernetes.io/headless": ""}),
    "headless by cluster IP": service(cluster_ips=("None",)),
    "without a cluster IP": service(cluster_ips=()),
    "with an empty cluster IP": service(cluster_ips=("",)),
    "ExternalName": service(type="ExternalName"),
}


@pytest.mark.parametrize("of", NOT_OURS.values(), ids=NOT_OURS)
def test_is_not_ours(of: Service) -> None:
    assert expose(of) is None


def test_another_label_makes_no_difference() -> None:
    assert expose(service(labels={"app": "pay"})) == expose(service())


def test_a_load_balancer_is_reached_in_dispatch_order() -> None:
    of = service(
        type="LoadBalancer",
        ports=[ServicePort(port=80, name="http", node_port=30080)],
        external_ips=["203.0.113.80"],
        balancers=["198.51.100.20"],
        external="Local",
    )
    assert reached(of) == [
        "ClusterIP 10.96.7.7:80/TCP Cluster",
        "ExternalIP 203.0.113.80:80/TCP Local",
        "LoadBalancer 198.51.100.20:80/TCP Local",
        "NodePort node/IPv4:30080/TCP Local",
    ]


def test_policies_are_independent() -> None:
    of = service(external_ips=["203.0.113.80"], internal="Local", external="Cluster")
    assert reached(of) == [
        "ClusterIP 10.96.7.7:80/TCP Local",
        "ExternalIP 203.0.113.80:80/TCP Cluster",
    ]


def test_a_frontend_that_repeats_an_earlier_one_is_left_out() -> None:
    of = service(
        type="LoadBalancer",
        external_ips=["10.96.7.7", "203.0.113.80", "203.0.113.80"],
        balancers=["203.0.113.80", "198.51.100.20"],
    )
    assert reached(of) == [
        "ClusterIP 10.96.7.7:80/TCP Cluster",
        "ExternalIP 203.0.113.80:80/TCP Cluster",
        "LoadBalancer 198.51.100.20:80/TCP Cluster",
    ]


def test_a_node_port_that_repeats_an_earlier_ports_is_left_out() -> None:
    ports = [
        ServicePort(port=80, name="http", node_port=30080),
        ServicePort(port=81, name="admin", node_port=30080),
        ServicePort(port=53, name="dns", node_port=30080, protocol=Protocol.UDP),
    ]
    rows = reached(service(type="NodePort", ports=ports))
    assert [row for row in rows if row.startswith("NodePort")] == [
        "NodePort node/IPv4:30080/TCP Cluster",
        "NodePort node/IPv4:30080/UDP Cluster",
    ]


def test_the_same_number_is_another_port_in_another_protocol() -> None:
    ports = [
        ServicePort(port=53, name="dns"),
        ServicePort(port=53, name="dns-udp", protocol=Protocol.UDP),
        ServicePort(port=53, name="dns-sctp", protocol=Protocol.SCTP),
    ]
    assert reached(service(ports=ports)) == [
        "ClusterIP 10.96.7.7:53/TCP Cluster",
        "ClusterIP 10.96.7.7:53/UDP Cluster",
        "ClusterIP 10.96.7.7:53/SCTP Cluster",
    ]


@pytest.mark.parametrize(
    ("kind", "node_port", "count"),
    [
        ("NodePort", 30080, 1),
        ("LoadBalancer", 30080, 1),
        ("LoadBalancer", None, 0),
        ("LoadBalancer", 0, 0),
        ("ClusterIP", 30080, 0),
    ],
)
def test_node_ports_belong_to_two_types(kind: str, node_port: int | None, count: int) -> None:
    of = service(type=kind, ports=[ServicePort(port=80, name="http", node_port=node_port)])
    assert sum(row.startswith("NodePort") for row in reached(of)) == count


INGRESS = {
    "VIP": (LoadBalancerIngress(ip="198.51.100.20", ip_mode="VIP"), 1),
    "no mode means VIP": (LoadBalancerIngress(ip="198.51.100.20"), 1),
    "Proxy is the balancer's own": (LoadBalancerIngress(ip="198.51.100.20", ip_mode="Proxy"), 0),
    "a host name only": (LoadBalancerIngress(), 0),
    "another family": (LoadBalancerIngress(ip="2001:db8:198::20"), 0),
}


@pytest.mark.parametrize(("ingress", "count"), INGRESS.values(), ids=INGRESS)
def test_load_balancer_addresses(ingress: LoadBalancerIngress, count: int) -> None:
    rows = reached(service(type="LoadBalancer", balancers=[ingress]))
    assert sum(row.startswith("LoadBalancer") for row in rows) == count


def test_dual_stack_is_one_port_per_family() -> None:
    of = service(
        type="NodePort",
        cluster_ips=["10.96.7.7", "fd00:10:96::7"],
        ports=[ServicePort(port=80, name="http", node_port=30080)],
        external_ips=["2001:db8:203::80"],
    )
    assert reached(of) == [
        "ClusterIP 10.96.7.7:80/TCP Cluster",
        "NodePort node/IPv4:30080/TCP Cluster",
        "ClusterIP fd00:10:96::7:80/TCP Cluster",
        "ExternalIP 2001:db8:203::80:80/TCP Cluster",
        "NodePort node/IPv6:30080/TCP Cluster",
    ]


def test_a_family_without_cluster_ip_is_not_reached_by_external_ip_either() -> None:
    assert reached(service(external_ips=["2001:db8:203::80"])) == [
        "ClusterIP 10.96.7.7:80/TCP Cluster"
    ]


def test_cluster_ip_alone_counts_where_cluster_ips_is_missing() -> None:
    of = service()
    of.spec.cluster_ips = None
    assert reached(of) == ["ClusterIP 10.96.7.7:80/TCP Cluster"]


def test_source_ranges_are_told_apart_by_family_and_go_to_load_balancers_only() -> None:
    of = service(
        type="LoadBalancer",
        cluster_ips=["10.96.7.7", "fd00:10:96::7"],
        external_ips=["203.0.113.80"],
        balancers=["198.51.100.20", "2001:db8:198::20"],
        ranges=["203.0.113.0/24"],
    )
    ranges = {row.address: row.source_ranges for p in exposed(of).ports for row in p.frontends}
    assert ranges == {
        "10.96.7.7": (),
        "203.0.113.80": (),
        "198.51.100.20": ("203.0.113.0/24",),
        "fd00:10:96::7": (),
        # As in kube-proxy: ranges of one family do not restrict the other.
        "2001:db8:198::20": (),
    }


@pytest.mark.parametrize(("configured", "planned"), [(None, None), (0, 10800), (60, 60)])
def test_affinity(configured: int | None, planned: int | None) -> None:
    (port,) = exposed(service(affinity_seconds=configured)).ports
    assert port.affinity_seconds == planned


@pytest.mark.parametrize(
    ("kind", "policy", "planned"),
    [
        ("LoadBalancer", "Local", 32000),
        ("LoadBalancer", "Cluster", None),
        ("LoadBalancer", None, None),
        ("NodePort", "Local", None),
    ],
)
def test_health_check_node_port(kind: str, policy: str | None, planned: int | None) -> None:
    of = service(type=kind, external=policy, health_check_node_port=32000)
    (port,) = exposed(of).ports
    assert port.health_check_node_port == planned


def test_an_unset_health_check_node_port_is_none() -> None:
    of = service(type="LoadBalancer", external="Local", health_check_node_port=0)
    assert exposed(of).ports[0].health_check_node_port is None


def test_what_planning_does_not_read_makes_no_difference() -> None:
    before = service()
    after = msgspec.structs.replace(
        before,
        metadata=msgspec.structs.replace(
            before.metadata,
            resource_version="2",
            annotations=Annotations(last_change="now"),
            uid="x",
        ),
    )
    assert expose(before) == expose(after)


def test_an_unnamed_port_has_the_empty_name() -> None:
    (port,) = exposed(service(ports=[ServicePort(port=80)])).ports
    assert (port.name.port, port.family) == ("", Family.IPV4)
    assert str(port.name) == "shop/pay"
