"""What does one Service mean for this node? Pure.

`ServicePlan` is the one value that every mode renders and that `explain` reads: the decisions,
none of the rules. Equal plans render equal bytes.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from endpoints.addresses import bracketed
from endpoints.names import Family, ServicePortName


class TrafficPolicy(StrEnum):
    """internalTrafficPolicy and externalTrafficPolicy."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class FrontendKind(StrEnum):
    """Where a Service is reached, in dispatch order."""

    CLUSTER_IP = "ClusterIP"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"


class EndpointState(StrEnum):
    """The conditions of an endpoint, condensed."""

    READY = "ready"
    TERMINATING = "terminating"
    """Serving and terminating: the fallback of KEP-1669."""
    NOT_READY = "not ready"


class Endpoint(msgspec.Struct, frozen=True, order=True, gc=False):
    """One address and port that may answer for a Service port."""

    address: str
    port: int
    is_local: bool = False
    """On this node, by nodeName."""
    state: EndpointState = EndpointState.READY
    node: str | None = None
    zone: str | None = None

    def __str__(self) -> str:
        """`10.244.1.2:8080`, `[fd00::2]:8080`."""
        return f"{bracketed(self.address)}:{self.port}"


class UnusedEndpoint(msgspec.Struct, frozen=True, order=True, gc=False):
    """An endpoint that no list of the plan holds, and why, in words for an operator."""

    endpoint: Endpoint
    reason: str


class Frontend(msgspec.Struct, frozen=True, gc=False):
    """One address, or the NodePort, at which a Service port is reached."""

    kind: FrontendKind
    address: str | None
    """None: the NodePort, on the addresses of `NodeView.node_ports`."""
    port: int
    policy: TrafficPolicy
    """CLUSTER_IP: the internal policy. Others: the external one, which pods (if the detector is
    known) and the node itself bypass: for them it is always Cluster."""
    source_ranges: tuple[str, ...] = ()
    """LOAD_BALANCER only: disjoint CIDRs, sorted; empty: everyone."""


class ServicePlan(msgspec.Struct, frozen=True, gc=False):
    """One Service port in one family, on this node."""

    name: ServicePortName
    family: Family
    frontends: tuple[Frontend, ...]
    cluster: tuple[Endpoint, ...]
    """What policy Cluster chooses among, sorted; topology and fallback already applied."""
    local: tuple[Endpoint, ...]
    """What policy Local chooses among, sorted; empty when nothing is local and usable."""
    has_any: bool
    """Any ready or serving endpoint anywhere. False: every frontend rejects."""
    affinity_seconds: int | None = None
    health_check_node_port: int | None = None
    unused: tuple[UnusedEndpoint, ...] = ()
    scheduler: str = ""
    """IPVS: how this Service wants its endpoints chosen; empty: as the node does."""
    scheduler_flags: tuple[str, ...] = ()
    """IPVS: `sh-port`, `sh-fallback`, `mh-port`, `mh-fallback`; sorted."""
