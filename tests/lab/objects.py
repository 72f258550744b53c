"""How are Services, EndpointSlices and Nodes written down for the lab? Pure.

Documents as the API server would hold them, both families at once unless told otherwise. What a
test does not care about has a default; what Kubernetes would leave out is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from endpoints.names import Family, Protocol
from tests.lab import topology
from tests.lab.manifests import Document
from tests.lab.topology import NODES, Pod

CREATED = "2025-01-01T00:00:00Z"
TARGET_PORT = 8080

_FAMILIES = (Family.IPV4, Family.IPV6)


@dataclass(frozen=True)
class Port:
    """A port of a Service and where its endpoints listen."""

    port: int
    name: str = ""
    protocol: Protocol = Protocol.TCP
    node_port: int | None = None
    target: int = TARGET_PORT


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of an EndpointSlice; conditions that are None are left out."""

    addresses: tuple[str, str]
    node: str | None = None
    zone: str | None = None
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        pod: Pod,
        *,
        ready: bool = True,
        serving: bool = True,
        terminating: bool = False,
        zones: tuple[str, ...] = (),
        nodes: tuple[str, ...] = (),
    ) -> Endpoint:
        """A pod as the endpoint controller writes it down; `zones` and `nodes` are its hints."""
        return cls(pod.addresses, pod.node, pod.zone, ready, serving, terminating, zones, nodes)

    @classmethod
    def leaving(cls, pod: Pod) -> Endpoint:
        """A pod that was told to end and still serves."""
        return cls.of(pod, ready=False, serving=True, terminating=True)


def service(
    name: str,
    cluster_ips: Sequence[str],
    ports: Sequence[Port],
    *,
    spec: Mapping[str, object] | None = None,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    ingress: Sequence[str] = (),
    created: str = CREATED,
) -> Document:
    """A Service `namespace/name` of the type that its fields imply.

    Args:
        name: `namespace/name`.
        cluster_ips: one address, or an IPv4 and an IPv6 address.
        ports: its ports.
        spec: more fields of `spec`, by their API names; they win.
        annotations: of its metadata.
        labels: of its metadata.
        ingress: addresses of a load balancer, ipMode VIP.
        created: its creationTimestamp.
    """
    kind = "NodePort" if any(port.node_port for port in ports) else "ClusterIP"
    fields: dict[str, object] = {
        "type": "LoadBalancer" if ingress else kind,
        "clusterIP": cluster_ips[0],
        "clusterIPs": [*cluster_ips],
        "ipFamilies": [_FAMILIES[topology.family_index(ip)] for ip in cluster_ips],
        "ports": [_service_port(port) for port in ports],
        **(spec or {}),
    }
    document: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name, created, labels, annotations),
        "spec": fields,
    }
    if ingress:
        vips = [{"ip": address, "ipMode": "VIP"} for address in ingress]
        document["status"] = {"loadBalancer": {"ingress": vips}}
    return document


def session_affinity(seconds: int) -> dict[str, object]:
    """Fields of `spec`: a client keeps its endpoint for so long."""
    return {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
    }


def slices(
    name: str, ports: Sequence[Port], endpoints: Iterable[Endpoint], *, part: int = 0
) -> tuple[Document, Document]:
    """The EndpointSlices of a Service, IPv4 and IPv6; `part` tells several pairs apart."""
    listed = tuple(endpoints)
    ipv4, ipv6 = (slice_of(name, family, ports, listed, part=part) for family in _FAMILIES)
    return ipv4, ipv6


def slice_of(
    name: str,
    family: Family,
    ports: Sequence[Port],
    endpoints: Iterable[Endpoint],
    *,
    part: int = 0,
) -> Document:
    """One EndpointSlice of the Service `namespace/name`, in one family."""
    namespace, _, service_name = name.partition("/")
    own_name = f"{namespace}/{service_name}-{family.lower()}-{part}"
    labels = {"kubernetes.io/service-name": service_name}
    index = _FAMILIES.index(family)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": _metadata(own_name, CREATED, labels, None),
        "addressType": family,
        "ports": [
            {"name": port.name, "protocol": port.protocol, "port": port.target} for port in ports
        ],
        "endpoints": [_endpoint(one, index) for one in endpoints],
    }


def nodes() -> tuple[Document, ...]:
    """The three Nodes of the lab, with zones, pod CIDRs and InternalIPs."""
    return tuple(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node.name,
                "labels": {
                    "kubernetes.io/hostname": node.name,
                    "topology.kubernetes.io/zone": node.zone,
                },
            },
            "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": [*node.pod_cidrs]},
            "status": {
                "addresses": [
                    *({"type": "InternalIP", "address": address} for address in node.addresses),
                    {"type": "Hostname", "address": node.name},
                ]
            },
        }
        for node in NODES
    )


def _metadata(
    name: str,
    created: str,
    labels: Mapping[str, str] | None,
    annotations: Mapping[str, str] | None,
) -> dict[str, object]:
    namespace, _, own_name = name.partition("/")
    metadata: dict[str, object] = {
        "namespace": namespace,
        "name": own_name,
        "creationTimestamp": created,
    }
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return metadata


def _service_port(port: Port) -> dict[str, object]:
    fields: dict[str, object] = {
        "port": port.port,
        "protocol": port.protocol,
        "targetPort": port.target,
    }
    if port.name:
        fields["name"] = port.name
    if port.node_port is not None:
        fields["nodePort"] = port.node_port
    return fields


def _endpoint(one: Endpoint, index: int) -> dict[str, object]:
    conditions = {"ready": one.ready, "serving": one.serving, "terminating": one.terminating}
    hints = {
        "forZones": [{"name": zone} for zone in one.zones],
        "forNodes": [{"name": node} for node in one.nodes],
    }
    fields: dict[str, object] = {
        "addresses": [one.addresses[index]],
        "conditions": {name: value for name, value in conditions.items() if value is not None},
        "nodeName": one.node,
        "zone": one.zone,
        "hints": {name: value for name, value in hints.items() if value},
    }
    return {name: value for name, value in fields.items() if value}
