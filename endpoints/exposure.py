"""Where does a Service want to be reached? Pure.

What a Service says of itself, before the node, its slices and other Services are asked: an
`Exposure` is all of a Service that `plan` reads, so two Services with equal exposures mean the
same, whatever else changed in them (resourceVersion, other annotations, selector).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from sys import intern

import msgspec

from endpoints.addresses import family
from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.objects import HEADLESS_LABEL, PROXY_NAME_LABEL, Service, ServiceSpec, name_of
from endpoints.plan import Frontend, FrontendKind, TrafficPolicy

DEFAULT_AFFINITY_SECONDS = 10800
"""What the API server writes where `timeoutSeconds` is left out; manifests may lack it."""

Claim = tuple[str, int, Protocol]
"""What only one Service can have: an address (or, of a NodePort, the family), port, protocol."""


class ExposedPort(msgspec.Struct, frozen=True, gc=False):
    """One Service port in one family; source ranges as configured, of this family only."""

    name: ServicePortName
    family: Family
    frontends: tuple[Frontend, ...]
    affinity_seconds: int | None = None
    health_check_node_port: int | None = None

    def claim(self, frontend: Frontend) -> Claim:
        """What this frontend takes from all other Services."""
        return (frontend.address or self.family, frontend.port, self.name.protocol)


class Exposure(msgspec.Struct, frozen=True, gc=False):
    """A Service that is ours to serve."""

    name: ObjectName
    created: str | None
    """creationTimestamp, RFC 3339 in UTC."""
    ports: tuple[ExposedPort, ...]
    """A port that is reached nowhere is left out."""
    scheduler: str = ""
    scheduler_flags: tuple[str, ...] = ()
    """What its annotations say; as in ServicePlan."""

    def claims(self) -> Iterator[tuple[Claim, Frontend]]:
        """What the Service takes from all others, and where it says so; no claim comes twice."""
        return ((port.claim(row), row) for port in self.ports for row in port.frontends)


class _Place(msgspec.Struct, frozen=True):
    """A destination address of all ports of a Service."""

    kind: FrontendKind
    address: str
    policy: TrafficPolicy
    source_ranges: tuple[str, ...] = ()


def expose(service: Service) -> Exposure | None:
    """The exposure of a validated Service; None if it is not ours to serve.

    Not ours (REFERENCE A.2, object filter): another proxy's by label, headless by label or by
    clusterIP, ExternalName, and one that has not been given a cluster IP yet.
    """
    if not served(service.metadata.labels):
        return None
    spec = service.spec
    cluster_ips = _cluster_ips(spec)
    if not cluster_ips or spec.type == "ExternalName":
        return None
    name = name_of(service)
    names = [
        ServicePortName(name.namespace, name.name, intern(port.name or ""), port.protocol)
        for port in spec.ports or ()
    ]
    affinity_seconds = _affinity_seconds(spec)
    health_check_node_port = _health_check_node_port(spec)
    ports = tuple(
        ExposedPort(names[index], of, tuple(rows), affinity_seconds, health_check_node_port)
        for (index, of), rows in _frontends(service, cluster_ips).items()
        if rows
    )
    created = service.metadata.creation_timestamp
    said = service.metadata.annotations
    if said is None:
        return Exposure(name, created, ports)
    flags = tuple(said.scheduler_flags.split(",")) if said.scheduler_flags else ()
    return Exposure(name, created, ports, said.scheduler or "", flags)


def served(labels: dict[str, str] | None) -> bool:
    """Whether a Service or EndpointSlice with these labels is for this proxy (REFERENCE A.2)."""
    return not labels or not (PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels)


def _cluster_ips(spec: ServiceSpec) -> dict[Family, str]:
    """The cluster IP of each family; `clusterIPs` is younger than `clusterIP` and says more."""
    found: dict[Family, str] = {}
    for address in spec.cluster_ips or [spec.cluster_ip or ""]:
        if address and address != "None":
            found.setdefault(family(address), address)
    return found


def _frontends(
    service: Service, cluster_ips: dict[Family, str]
) -> dict[tuple[int, Family], list[Frontend]]:
    """Frontends by index of the port and family, in dispatch order.

    Of frontends that repeat each other the first in dispatch order stays: cluster IPs of all
    ports, then external IPs of all ports, load balancer addresses, NodePorts.
    """
    spec = service.spec
    ports = list(enumerate(spec.ports or ()))
    rows: dict[tuple[int, Family], list[Frontend]] = {
        (index, of): [] for index, _ in ports for of in cluster_ips
    }
    taken: set[Claim] = set()
    for place in _places(service, cluster_ips):
        of = family(place.address)
        for index, port in ports:
            claim = (place.address, port.port, port.protocol)
            if of in cluster_ips and claim not in taken:
                taken.add(claim)
                row = Frontend(
                    place.kind, place.address, port.port, place.policy, place.source_ranges
                )
                rows[index, of].append(row)
    if spec.type in ("NodePort", "LoadBalancer"):
        policy = _policy(spec.external_traffic_policy)
        for of in cluster_ips:
            for index, port in ports:
                if port.node_port and (of, port.node_port, port.protocol) not in taken:
                    taken.add((of, port.node_port, port.protocol))
                    row = Frontend(FrontendKind.NODE_PORT, None, port.node_port, policy)
                    rows[index, of].append(row)
    return rows


def _places(service: Service, cluster_ips: dict[Family, str]) -> Iterator[_Place]:
    """The destination addresses of a Service, of both families, in dispatch order."""
    spec = service.spec
    internal = _policy(spec.internal_traffic_policy)
    for address in cluster_ips.values():
        yield _Place(FrontendKind.CLUSTER_IP, address, internal)
    external = _policy(spec.external_traffic_policy)
    for address in spec.external_ips or ():
        yield _Place(FrontendKind.EXTERNAL_IP, address, external)
    balancer = service.status and service.status.load_balancer
    for ingress in (balancer and balancer.ingress) or ():
        # KEP-1860: packets to an address with ipMode Proxy are the balancer's, not the node's. An
        # entry without an address has a host name, which is the DNS server's affair.
        if ingress.ip and ingress.ip_mode in (None, "VIP"):
            ranges = _of_family(spec.load_balancer_source_ranges or (), family(ingress.ip))
            yield _Place(FrontendKind.LOAD_BALANCER, ingress.ip, external, ranges)


def _of_family(cidrs: Iterable[str], of: Family) -> tuple[str, ...]:
    """The CIDRs of one family.

    As in kube-proxy, ranges of one family do not restrict the other: a dual-stack Service with
    IPv4 ranges only is open to every IPv6 client.
    """
    return tuple(intern(cidr) for cidr in cidrs if family(cidr) is of)


def _policy(text: str | None) -> TrafficPolicy:
    """Any value but Local means Cluster, as the API server's default does."""
    return TrafficPolicy.LOCAL if text == "Local" else TrafficPolicy.CLUSTER


def _affinity_seconds(spec: ServiceSpec) -> int | None:
    """For how long a client stays with its endpoint, or None without session affinity."""
    if spec.session_affinity != "ClientIP":
        return None
    client_ip = spec.session_affinity_config and spec.session_affinity_config.client_ip
    return (client_ip and client_ip.timeout_seconds) or DEFAULT_AFFINITY_SECONDS


def _health_check_node_port(spec: ServiceSpec) -> int | None:
    """The port on which balancers ask for local endpoints (KEP-27); only where Local is asked."""
    if (
        spec.type != "LoadBalancer"
        or _policy(spec.external_traffic_policy) is TrafficPolicy.CLUSTER
    ):
        return None
    return spec.health_check_node_port or None
