"""May this object be programmed, and what is its one canonical spelling? Pure.

The rules are those of the API server, because manifest files pass none on their way here; the
defaults are the API server's too. Canonical spelling is done in place: decoding is the only moment
at which an object of the API may still change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from sys import intern
from typing import NamedTuple

from endpoints.addresses import are_hosts, canonical, family, network
from endpoints.names import Family, Protocol
from endpoints.objects import (
    HEADLESS_LABEL,
    PROXY_NAME_LABEL,
    SERVICE_NAME_LABEL,
    Annotations,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Node,
    ObjectMeta,
    Service,
    ServicePort,
    ServiceSpec,
    SliceEndpoint,
)
from endpoints.scheduling import settle
from endpoints.unreadable import short

_READ_LABELS = (SERVICE_NAME_LABEL, PROXY_NAME_LABEL, HEADLESS_LABEL)
_MAX_AFFINITY_SECONDS = 86400
_MAX_PORT = 65535
_MAX_NAME = 253
_MAX_LABEL = 63

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")

_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?").fullmatch
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?").fullmatch
_NO_DESTINATION = re.compile(r"(?:0\.0\.0\.0|::|2(?:2[4-9]|[3-5][0-9])\..*|ff..:.*)").fullmatch
"""Unspecified, multicast, class E and broadcast: nothing can be translated to these."""
_NO_ANNOTATIONS = Annotations()

_CONDITIONS = {
    (ready, serving, terminating): EndpointConditions(
        ready=ready, serving=serving, terminating=terminating
    )
    for ready in (None, False, True)
    for serving in (None, False, True)
    for terminating in (None, False, True)
}
"""Every value of `conditions`: 100,000 endpoints share these 27."""


class Refused(ValueError):
    """A field that no program can be made of: its path, its value and why."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {value}: {reason}")
        self.field = field
        self.value = short(value)
        self.reason = reason


HintsKey = tuple[tuple[str, ...], tuple[str, ...]]


class Shared(NamedTuple):
    """Values that endpoints of one list have in common, stored once."""

    hints: dict[HintsKey, EndpointHints]


def accept_service(service: Service) -> list[Refused]:
    """Bring a Service into canonical form, in place. Raises Refused.

    Returns what was wrong with the annotations that it is served without.

    A Service without a cluster IP (ExternalName, headless, not allocated yet) is never programmed,
    so that nothing but its name is looked at. Of the others `clusterIP` and `clusterIPs` are both
    set afterwards, each family at most once.
    """
    _metadata(service.metadata)
    spec = service.spec
    spec.type = intern(_one_of("spec.type", spec.type or "ClusterIP", _SERVICE_TYPES))
    addresses = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if spec.type == "ExternalName" or addresses in ([], [""], ["None"]):
        return []
    _cluster_ips(spec, addresses)
    spec.external_ips = _addresses("spec.externalIPs", spec.external_ips)
    _ports(spec.ports or [])
    _affinity(spec)
    spec.internal_traffic_policy = _policy(
        "spec.internalTrafficPolicy", spec.internal_traffic_policy
    )
    spec.external_traffic_policy = _policy(
        "spec.externalTrafficPolicy", spec.external_traffic_policy
    )
    spec.health_check_node_port = _optional_port(
        "spec.healthCheckNodePort", spec.health_check_node_port
    )
    spec.load_balancer_source_ranges = _networks(
        "spec.loadBalancerSourceRanges", spec.load_balancer_source_ranges
    )
    status = service.status.load_balancer if service.status else None
    for number, ingress in enumerate((status.ingress if status else None) or []):
        place = f"status.loadBalancer.ingress[{number}].ip"
        ingress.ip = _address(place, ingress.ip) if ingress.ip else None
    return _scheduling(service.metadata.annotations)


def _scheduling(annotations: Annotations | None) -> list[Refused]:
    left_out: list[Refused] = []

    def refuse(key: str, value: str, reason: str) -> None:
        left_out.append(Refused(f"metadata.annotations[{key}]", value, reason))

    if annotations is not None:
        settle(annotations, refuse)
    return left_out


def accept_slice(endpoint_slice: EndpointSlice, shared: Shared) -> list[Refused]:
    """Bring an EndpointSlice into canonical form, in place. Raises Refused.

    Returns what was wrong with the endpoints that were left out; all others are in. An endpoint
    keeps the first of its addresses, the only one that may be used (REFERENCE A.2). Ports without
    a number mean "all ports" and are left out, as in kube-proxy.
    """
    _metadata(endpoint_slice.metadata)
    wanted = _one_of("addressType", endpoint_slice.address_type, _ADDRESS_TYPES)
    endpoint_slice.address_type = intern(wanted)
    endpoint_slice.ports = _slice_ports(endpoint_slice.ports or [])
    if wanted == "FQDN":
        return []
    given = endpoint_slice.endpoints or []
    # The common case at once: this is done with 100,000 endpoints at start.
    texts = [endpoint.addresses[0] if endpoint.addresses else "" for endpoint in given]
    left_out: list[Refused] = []
    if not are_hosts(texts, Family(wanted)):
        given, texts, left_out = _with_addresses(given, wanted)
    _share(given, texts, shared)
    endpoint_slice.endpoints = given
    return left_out


def accept_node(node: Node) -> None:
    """Bring a Node into canonical form, in place; `podCIDRs` is set afterwards. Raises Refused."""
    _metadata(node.metadata, keep_labels=True)
    if spec := node.spec:
        pod_cidrs = spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else None)
        spec.pod_cidrs = _networks("spec.podCIDRs", pod_cidrs)
        spec.pod_cidr = spec.pod_cidrs[0] if spec.pod_cidrs else None
    for number, entry in enumerate((node.status.addresses if node.status else None) or []):
        if entry.type in ("InternalIP", "ExternalIP"):
            entry.address = _address(f"status.addresses[{number}].address", entry.address)


def _metadata(metadata: ObjectMeta, *, keep_labels: bool = False) -> None:
    """Names are checked because they reach comments and keys of the kernel's objects.

    Labels that are never read are dropped; annotations are not even decoded: kubectl keeps a copy
    of the whole object in one of them.
    """
    if len(metadata.name) > _MAX_NAME or not _SUBDOMAIN(metadata.name):
        raise Refused("metadata.name", repr(metadata.name), "must be a DNS subdomain (RFC 1123)")
    namespace = metadata.namespace
    if namespace and (len(namespace) > _MAX_LABEL or not _LABEL(namespace)):
        raise Refused("metadata.namespace", repr(namespace), "must be a DNS label (RFC 1123)")
    metadata.namespace = intern(namespace)
    if metadata.labels and not keep_labels:
        labels = metadata.labels
        metadata.labels = {key: labels[key] for key in _READ_LABELS if key in labels} or None
    if metadata.annotations == _NO_ANNOTATIONS:
        metadata.annotations = None


def _cluster_ips(spec: ServiceSpec, addresses: list[str]) -> None:
    first = spec.cluster_ip or addresses[0]
    spec.cluster_ips = [
        _address(f"spec.clusterIPs[{number}]", text) for number, text in enumerate(addresses)
    ]
    spec.cluster_ip = spec.cluster_ips[0]
    if first != addresses[0] and _address("spec.clusterIP", first) != spec.cluster_ip:
        raise Refused("spec.clusterIPs[0]", addresses[0], f"must be clusterIP, {first}")
    seen: set[Family] = set()
    for number, address in enumerate(spec.cluster_ips):
        if family(address) in seen:
            place = f"spec.clusterIPs[{number}]"
            raise Refused(place, address, f"there is a cluster IP of {family(address)} already")
        seen.add(family(address))


def _ports(ports: list[ServicePort]) -> None:
    """Two ports of one name, or of one number, would be one port to the kernel."""
    names: set[tuple[str, Protocol]] = set()
    numbers: set[tuple[int, Protocol]] = set()
    for index, port in enumerate(ports):
        place = f"spec.ports[{index}]"
        port.name = _port_name(f"{place}.name", port.name)
        if not 0 < port.port <= _MAX_PORT:
            raise Refused(f"{place}.port", port.port, f"must be 1-{_MAX_PORT}")
        port.node_port = _optional_port(f"{place}.nodePort", port.node_port)
        if (port.name, port.protocol) in names:
            raise Refused(f"{place}.name", repr(port.name), "is the name of an earlier port too")
        if (port.port, port.protocol) in numbers:
            raise Refused(f"{place}.port", port.port, f"there is a {port.protocol} port like it")
        names.add((port.name, port.protocol))
        numbers.add((port.port, port.protocol))


def _affinity(spec: ServiceSpec) -> None:
    affinity = spec.session_affinity or "None"
    spec.session_affinity = intern(_one_of("spec.sessionAffinity", affinity, ("None", "ClientIP")))
    client_ip = spec.session_affinity_config.client_ip if spec.session_affinity_config else None
    seconds = client_ip.timeout_seconds if client_ip else None
    if seconds is not None and not 0 < seconds <= _MAX_AFFINITY_SECONDS:
        place = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        raise Refused(place, seconds, f"must be 1-{_MAX_AFFINITY_SECONDS}")


def _slice_ports(ports: list[EndpointPort]) -> list[EndpointPort]:
    for index, port in enumerate(ports):
        port.name = _port_name(f"ports[{index}].name", port.name)
        port.protocol = port.protocol or Protocol.TCP
        port.port = _optional_port(f"ports[{index}].port", port.port)
    return [port for port in ports if port.port is not None]


def _with_addresses(
    endpoints: Iterable[SliceEndpoint], address_type: str
) -> tuple[list[SliceEndpoint], list[str], list[Refused]]:
    """The endpoints that have an address that may be used, these addresses, and the others."""
    kept: list[SliceEndpoint] = []
    texts: list[str] = []
    left_out: list[Refused] = []
    for number, endpoint in enumerate(endpoints):
        place = f"endpoints[{number}].addresses[0]"
        try:
            address = _address(place, endpoint.addresses[0] if endpoint.addresses else "")
            _require_family(place, address, address_type)
        except Refused as refused:
            left_out.append(refused)
        else:
            kept.append(endpoint)
            texts.append(address)
    return kept, texts, left_out


def _require_family(field: str, address: str, wanted: str) -> None:
    if family(address) != wanted:
        raise Refused(field, address, f"must be of addressType {wanted}")


def _share(endpoints: Sequence[SliceEndpoint], addresses: Sequence[str], shared: Shared) -> None:
    """Give each endpoint its one address, and let those that say the same hold one value."""
    for endpoint, address in zip(endpoints, addresses, strict=True):
        endpoint.addresses = [address]  # a list of its exact size: decoding leaves room for four
        if (given := endpoint.conditions) is not None:
            endpoint.conditions = _CONDITIONS[given.ready, given.serving, given.terminating]
        if (node_name := endpoint.node_name) is not None:
            endpoint.node_name = intern(node_name)
        if (zone := endpoint.zone) is not None:
            endpoint.zone = intern(zone)
        if (hints := endpoint.hints) is not None:
            key = (
                tuple([hint.name for hint in hints.for_zones or ()]),
                tuple([hint.name for hint in hints.for_nodes or ()]),
            )
            endpoint.hints = shared.hints.setdefault(key, hints)


def _address(field: str, text: str) -> str:
    try:
        address = canonical(text)
    except ValueError:
        raise Refused(field, repr(text), "is not an IP address") from None
    if _NO_DESTINATION(address):
        raise Refused(field, text, "cannot be the destination of a connection")
    if address.startswith("::ffff:") and address.count(":") == 4:  # noqa: PLR2004 (::ffff:a00:1)
        raise Refused(field, text, "is an IPv4 address written as IPv6")
    return address


def _addresses(field: str, texts: list[str] | None) -> list[str] | None:
    if not texts:
        return None
    return [_address(f"{field}[{number}]", text) for number, text in enumerate(texts)]


def _networks(field: str, texts: list[str] | None) -> list[str] | None:
    """The API server allows spaces around a CIDR of loadBalancerSourceRanges."""
    networks = []
    for number, text in enumerate(texts or ()):
        if "/" not in text:
            raise Refused(f"{field}[{number}]", repr(text), "must be a CIDR, like 203.0.113.0/24")
        try:
            networks.append(str(network(text)))
        except ValueError:
            raise Refused(f"{field}[{number}]", repr(text), "is not a CIDR") from None
    return networks or None


def _optional_port(field: str, port: int | None) -> int | None:
    """Zero and nothing are the same to the API server."""
    if not port:
        return None
    if not 0 < port <= _MAX_PORT:
        raise Refused(field, port, f"must be 1-{_MAX_PORT}")
    return port


def _port_name(field: str, name: str | None) -> str:
    """The API server's default of a port's name is the empty string."""
    if not name:
        return ""
    if len(name) > _MAX_LABEL or not _LABEL(name):
        raise Refused(field, repr(name), "must be a DNS label (RFC 1123)")
    return intern(name)


def _policy(field: str, policy: str | None) -> str | None:
    return intern(_one_of(field, policy, _TRAFFIC_POLICIES)) if policy else None


def _one_of(field: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refused(field, repr(value), f"must be {', '.join(known[:-1])} or {known[-1]}")
    return value
