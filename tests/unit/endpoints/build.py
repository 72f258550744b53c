"""How does a test write a cluster in a few lines? Addresses tell their role, as in the lab."""

from __future__ import annotations

from collections.abc import Sequence

from endpoints.exposure import Exposure, expose
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.objects import (
    SERVICE_NAME_LABEL,
    ZONE_LABEL,
    ClientIPConfig,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Hint,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SessionAffinityConfig,
    SliceEndpoint,
)
from endpoints.plan import ServicePlan
from endpoints.planning import plan
from endpoints.slices import Contribution, contribution

NODE_ADDRESSES = frozenset(
    {"127.0.0.1", "::1", "192.168.0.11", "fd00:192:168::11", "10.244.1.1", "fd00:10:244:1::1"}
)
NODE_A = NodeView(
    name="node-a",
    zone="eu-1a",
    addresses=NODE_ADDRESSES,
    node_ports_v4=NodePortAddresses(addresses=("192.168.0.11",)),
    node_ports_v6=NodePortAddresses(addresses=("fd00:192:168::11",)),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48")),
)
"""The view from node-a of the lab's address plan."""

PAY = ObjectName("shop", "pay")


def service(
    name: str = "pay",
    *,
    type: str = "ClusterIP",  # noqa: A002 (Kubernetes' name)
    cluster_ips: Sequence[str] = ("10.96.7.7",),
    ports: Sequence[ServicePort] = (ServicePort(port=80, name="http"),),
    external_ips: Sequence[str] = (),
    balancers: Sequence[str | LoadBalancerIngress] = (),
    ranges: Sequence[str] = (),
    internal: str | None = None,
    external: str | None = None,
    affinity_seconds: int | None = None,
    health_check_node_port: int | None = None,
    created: str | None = "2024-01-01T00:00:00Z",
    labels: dict[str, str] | None = None,
) -> Service:
    """A Service in namespace shop; an affinity of 0 is ClientIP without a timeout."""
    ingress = [
        b if isinstance(b, LoadBalancerIngress) else LoadBalancerIngress(ip=b) for b in balancers
    ]
    config = SessionAffinityConfig(
        client_ip=ClientIPConfig(timeout_seconds=affinity_seconds or None)
    )
    return Service(
        metadata=ObjectMeta(name=name, namespace="shop", creation_timestamp=created, labels=labels),
        spec=ServiceSpec(
            type=type,
            cluster_ip=cluster_ips[0] if cluster_ips else None,
            cluster_ips=list(cluster_ips),
            ports=list(ports),
            external_ips=list(external_ips),
            session_affinity=None if affinity_seconds is None else "ClientIP",
            session_affinity_config=None if affinity_seconds is None else config,
            internal_traffic_policy=internal,
            external_traffic_policy=external,
            load_balancer_source_ranges=list(ranges),
            health_check_node_port=health_check_node_port,
        ),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


def endpoint(
    address: str,
    node: str | None = "node-b",
    state: str = "ready",
    *,
    zones: Sequence[str] = (),
    nodes: Sequence[str] = (),
) -> SliceEndpoint:
    """An endpoint; `state` as EndpointState spells it, or `unset` for no conditions at all."""
    conditions = {
        "unset": None,
        "ready": EndpointConditions(ready=True, serving=True, terminating=False),
        "terminating": EndpointConditions(ready=False, serving=True, terminating=True),
        "not ready": EndpointConditions(ready=False, serving=False, terminating=False),
    }[state]
    hints = EndpointHints(
        for_zones=[Hint(name=zone) for zone in zones], for_nodes=[Hint(name=name) for name in nodes]
    )
    return SliceEndpoint(
        addresses=[address],
        conditions=conditions,
        node_name=node,
        hints=hints if zones or nodes else None,
    )


HTTP = EndpointPort(name="http", protocol=Protocol.TCP, port=8080)


def endpoint_slice(
    *endpoints: SliceEndpoint,
    name: str = "pay-1",
    of: str | None = "pay",
    ports: Sequence[EndpointPort] = (HTTP,),
    family: str = "IPv4",
) -> EndpointSlice:
    """A slice in namespace shop."""
    labels = {SERVICE_NAME_LABEL: of} if of else {}
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace="shop", labels=labels),
        address_type=family,
        endpoints=list(endpoints),
        ports=list(ports),
    )


def node(
    name: str = "node-a",
    *,
    zone: str | None = "eu-1a",
    internal: Sequence[str] = ("192.168.0.11", "fd00:192:168::11"),
    pod_cidrs: Sequence[str] = ("10.244.1.0/24", "fd00:10:244:1::/64"),
) -> Node:
    """A Node."""
    return Node(
        metadata=ObjectMeta(name=name, labels={ZONE_LABEL: zone} if zone else None),
        spec=NodeSpec(pod_cidrs=list(pod_cidrs)),
        status=NodeStatus(
            addresses=[NodeAddress(type="Hostname", address=name)]
            + [NodeAddress(type="InternalIP", address=address) for address in internal]
        ),
    )


def exposed(of: Service) -> Exposure:
    """The exposure of a Service that is ours."""
    exposure = expose(of)
    assert exposure is not None
    return exposure


def contributed(of: EndpointSlice) -> Contribution:
    """The contribution, seen from node-a, of a slice that says something."""
    found = contribution(of, "node-a")
    assert found is not None
    return found


def planned(of: Service, *slices: EndpointSlice, node: NodeView = NODE_A) -> ServicePlan:
    """The plan of a Service that has one port and one family."""
    (only,) = plan(exposed(of), [contributed(s) for s in slices], node)
    return only


def addresses(endpoints: Sequence[object]) -> list[str]:
    """Endpoints as text, in order: `10.244.1.2:8080`."""
    return [str(e) for e in endpoints]


V4, V6 = Family.IPV4, Family.IPV6
