"""Which objects of Kubernetes mean what is remembered of a cluster? Pure.

What was read of an object, without what nobody here reads: written down, it says to any version of
this program what the object said. `expose` and `contribution` lead back.
"""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.exposure import ExposedPort, Exposure
from endpoints.objects import (
    SERVICE_NAME_LABEL,
    ZONE_LABEL,
    Annotations,
    ClientIPConfig,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Hint,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Node,
    NodeSpec,
    ObjectMeta,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SessionAffinityConfig,
    SliceEndpoint,
)
from endpoints.plan import Endpoint, EndpointState, Frontend, FrontendKind, TrafficPolicy
from endpoints.slices import NO_HINTS, Contribution, Hints


def node_of(node: Node) -> Node:
    """A Node that means what this one means to the plans of Services: without its other labels."""
    labels = node.metadata.labels or {}
    zone = {ZONE_LABEL: labels[ZONE_LABEL]} if ZONE_LABEL in labels else None
    spec = node.spec and NodeSpec(node.spec.pod_cidr, node.spec.pod_cidrs)
    return Node(ObjectMeta(node.metadata.name, labels=zone), spec, node.status)


def service_of(exposure: Exposure) -> Service:
    """A Service with this exposure."""
    frontends = [row for port in exposure.ports for row in port.frontends]
    addresses = {
        kind: list(
            dict.fromkeys(row.address for row in frontends if row.kind is kind and row.address)
        )
        for kind in FrontendKind
    }
    first = exposure.ports[0] if exposure.ports else None
    health_port = first.health_check_node_port if first else None
    ingress = [LoadBalancerIngress(ip=ip) for ip in addresses[FrontendKind.LOAD_BALANCER]]
    # All addresses of one family have the same ones.
    ranges = dict.fromkeys(row.source_ranges for row in frontends)
    external = [row for row in frontends if row.kind is not FrontendKind.CLUSTER_IP]
    internal = [row for row in frontends if row.kind is FrontendKind.CLUSTER_IP]
    spec = ServiceSpec(
        type=_type(external, health_port),
        cluster_ips=addresses[FrontendKind.CLUSTER_IP] or None,
        ports=list(_ports(exposure.ports)),
        external_ips=addresses[FrontendKind.EXTERNAL_IP] or None,
        internal_traffic_policy=_policy(internal),
        external_traffic_policy=TrafficPolicy.LOCAL if health_port else _policy(external),
        load_balancer_source_ranges=[cidr for cidrs in ranges for cidr in cidrs] or None,
        health_check_node_port=health_port,
    )
    if first and first.affinity_seconds is not None:
        spec.session_affinity = "ClientIP"
        spec.session_affinity_config = SessionAffinityConfig(
            client_ip=ClientIPConfig(timeout_seconds=first.affinity_seconds)
        )
    return Service(
        metadata=ObjectMeta(
            name=exposure.name.name,
            namespace=exposure.name.namespace,
            creation_timestamp=exposure.created,
            annotations=_annotations(exposure),
        ),
        spec=spec,
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
        if ingress
        else None,
    )


def _type(external: Iterable[Frontend], health_port: int | None) -> str:
    kinds = {row.kind for row in external}
    if health_port or kinds >= {FrontendKind.NODE_PORT, FrontendKind.LOAD_BALANCER}:
        return "LoadBalancer"
    return "NodePort" if FrontendKind.NODE_PORT in kinds else "ClusterIP"


def _policy(rows: list[Frontend]) -> str | None:
    return rows[0].policy if rows else None


def _ports(exposed: Iterable[ExposedPort]) -> Iterable[ServicePort]:
    """The ports of all families, each once."""
    found: dict[tuple[str, str], ServicePort] = {}
    taken: dict[str, int] = {}
    for port in exposed:
        name, protocol = port.name.port, port.name.protocol
        for row in port.frontends:
            # One that has nothing but a NodePort lost its number to a port before it.
            number = taken.get(protocol, row.port)
            said = found.setdefault(
                (name, protocol), ServicePort(port=number, name=name or None, protocol=protocol)
            )
            if row.kind is FrontendKind.NODE_PORT:
                said.node_port = row.port
            else:
                said.port = taken[protocol] = row.port
    return found.values()


def _annotations(of: Exposure) -> Annotations | None:
    if not of.scheduler and not of.scheduler_flags:
        return None
    return Annotations(
        scheduler=of.scheduler or None, scheduler_flags=",".join(of.scheduler_flags) or None
    )


def slice_of(of: Contribution) -> EndpointSlice:
    """An EndpointSlice with this contribution, seen from any node."""
    endpoints = of.ports[0].endpoints if of.ports else ()
    hints = (of.hints or (NO_HINTS,) * len(endpoints))[: len(endpoints)]
    return EndpointSlice(
        metadata=ObjectMeta(
            name=of.name.name,
            namespace=of.name.namespace,
            labels={SERVICE_NAME_LABEL: of.service},
        ),
        address_type=of.family.value,
        endpoints=[_endpoint(*pair) for pair in zip(endpoints, hints, strict=True)],
        ports=[
            EndpointPort(name=port.name, protocol=port.protocol, port=port.endpoints[0].port)
            for port in of.ports
            if port.endpoints
        ],
    )


def _endpoint(of: Endpoint, hints: Hints) -> SliceEndpoint:
    return SliceEndpoint(
        addresses=[of.address],
        conditions=_CONDITIONS[of.state],
        node_name=of.node,
        zone=of.zone,
        hints=None
        if hints == NO_HINTS
        else EndpointHints(
            for_zones=[Hint(name=name) for name in hints.zones] or None,
            for_nodes=[Hint(name=name) for name in hints.nodes] or None,
        ),
    )


_CONDITIONS = {
    EndpointState.READY: EndpointConditions(ready=True),
    EndpointState.TERMINATING: EndpointConditions(ready=False, serving=True, terminating=True),
    EndpointState.NOT_READY: EndpointConditions(ready=False, serving=False),
}
