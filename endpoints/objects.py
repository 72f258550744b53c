"""Which fields of Kubernetes objects do we read? Pure.

One struct per object, of just those fields, decoded straight from the API server's bytes.
Field names are Kubernetes' own in snake case. Structs without reference cycles opt out of the
garbage collector: 100,000 endpoints must not be walked by it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from endpoints.names import ObjectName, Protocol

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE_LABEL = "topology.kubernetes.io/zone"
LAST_CHANGE = "endpoints.kubernetes.io/last-change-trigger-time"
SCHEDULER = "headgate.dev/ipvs-scheduler"
SCHEDULER_FLAGS = "headgate.dev/ipvs-scheduler-flags"
ROUTER_SCHEDULER = "kube-router.io/service.scheduler"
ROUTER_SCHEDULER_FLAGS = "kube-router.io/service.schedflags"


class Kind(StrEnum):
    """The kinds of object that are watched."""

    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NODE = "Node"


class _Wire(msgspec.Struct, rename="camel", gc=False, kw_only=True):
    """A JSON object of the Kubernetes API; fields that are not named are skipped."""


class Annotations(_Wire):
    """`metadata.annotations`: those that are read."""

    last_change: str | None = msgspec.field(name=LAST_CHANGE, default=None)
    scheduler: str | None = msgspec.field(name=SCHEDULER, default=None)
    scheduler_flags: str | None = msgspec.field(name=SCHEDULER_FLAGS, default=None)
    router_scheduler: str | None = msgspec.field(name=ROUTER_SCHEDULER, default=None)
    router_scheduler_flags: str | None = msgspec.field(name=ROUTER_SCHEDULER_FLAGS, default=None)


class ObjectMeta(_Wire):
    """`metadata`; creationTimestamp stays text, RFC 3339 in UTC sorts as text."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: Annotations | None = None
    deletion_timestamp: str | None = None


class ServicePort(_Wire):
    """`Service.spec.ports[]`."""

    port: int
    name: str | None = None
    protocol: Protocol = Protocol.TCP
    node_port: int | None = None


class ClientIPConfig(_Wire):
    """`Service.spec.sessionAffinityConfig.clientIP`."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(_Wire):
    """`Service.spec.sessionAffinityConfig`."""

    client_ip: ClientIPConfig | None = msgspec.field(name="clientIP", default=None)


class ServiceSpec(_Wire):
    """`Service.spec`."""

    type: str = "ClusterIP"
    cluster_ip: str | None = msgspec.field(name="clusterIP", default=None)
    cluster_ips: list[str] | None = msgspec.field(name="clusterIPs", default=None)
    ports: list[ServicePort] | None = None
    external_ips: list[str] | None = msgspec.field(name="externalIPs", default=None)
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: int | None = None


class LoadBalancerIngress(_Wire):
    """`Service.status.loadBalancer.ingress[]`."""

    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancerStatus(_Wire):
    """`Service.status.loadBalancer`."""

    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(_Wire):
    """`Service.status`."""

    load_balancer: LoadBalancerStatus | None = None


class Service(_Wire):
    """A Service."""

    metadata: ObjectMeta
    spec: ServiceSpec
    status: ServiceStatus | None = None


class EndpointConditions(_Wire):
    """`EndpointSlice.endpoints[].conditions`; None as REFERENCE A.2: true, true, false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Hint(_Wire):
    """`EndpointSlice.endpoints[].hints.forZones[]` and `forNodes[]`."""

    name: str


class EndpointHints(_Wire):
    """`EndpointSlice.endpoints[].hints` (KEP-2433, KEP-3015)."""

    for_zones: list[Hint] | None = None
    for_nodes: list[Hint] | None = None


class SliceEndpoint(_Wire):
    """`EndpointSlice.endpoints[]`."""

    addresses: list[str]
    conditions: EndpointConditions | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointPort(_Wire):
    """`EndpointSlice.ports[]`."""

    name: str | None = None
    protocol: Protocol | None = None
    port: int | None = None


class EndpointSlice(_Wire):
    """An EndpointSlice."""

    metadata: ObjectMeta
    address_type: str = ""
    endpoints: list[SliceEndpoint] | None = None
    ports: list[EndpointPort] | None = None


class Taint(_Wire):
    """`Node.spec.taints[]`."""

    key: str


class NodeSpec(_Wire):
    """`Node.spec`."""

    pod_cidr: str | None = msgspec.field(name="podCIDR", default=None)
    pod_cidrs: list[str] | None = msgspec.field(name="podCIDRs", default=None)
    taints: list[Taint] | None = None


class NodeAddress(_Wire):
    """`Node.status.addresses[]`."""

    type: str
    address: str


class NodeStatus(_Wire):
    """`Node.status`."""

    addresses: list[NodeAddress] | None = None


class Node(_Wire):
    """A Node."""

    metadata: ObjectMeta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


KubernetesObject = Service | EndpointSlice | Node

KIND_OF: dict[type, Kind] = {
    Service: Kind.SERVICE,
    EndpointSlice: Kind.ENDPOINT_SLICE,
    Node: Kind.NODE,
}


def name_of(obj: KubernetesObject) -> ObjectName:
    """The namespace and name of an object; a namespaced object without one is in `default`."""
    namespace = "" if isinstance(obj, Node) else obj.metadata.namespace or "default"
    return ObjectName(namespace, obj.metadata.name)
