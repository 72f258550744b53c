"""What does one Service mean for this node: the decisions? Pure.

Traffic policy, topology, fallback to terminating endpoints and source ranges are decided here and
nowhere else; modes render the plan, `explain` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

import msgspec

from endpoints.addresses import contains, network
from endpoints.exposure import Claim, ExposedPort, Exposure
from endpoints.node import NodeView
from endpoints.plan import (
    Endpoint,
    EndpointState,
    Frontend,
    FrontendKind,
    ServicePlan,
    TrafficPolicy,
    UnusedEndpoint,
)
from endpoints.slices import Candidate, Contribution, Hints, merge
from endpoints.topology import Level, admits, level, refusal

_READY, _TERMINATING = EndpointState.READY, EndpointState.TERMINATING
_CLUSTER_IP, _CLUSTER, _LOCAL = FrontendKind.CLUSTER_IP, TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL
"""Members by names of this file: by those of their class Python 3.11 takes 70 ns for each."""


def plan(
    service: Exposure,
    slices: Iterable[Contribution],
    node: NodeView,
    lost_claims: AbstractSet[Claim] = frozenset(),
) -> tuple[ServicePlan, ...]:
    """The plans of a Service, one per port and family (REFERENCE A.2).

    `slices` are the contributions that carry the Service's name, in any order; `lost_claims` are
    what another Service has: frontends of the plan lack them. A port that is left without any
    frontend has no plan.
    """
    contributions = tuple(slices)
    plans = []
    for port in service.ports:
        frontends = port.frontends
        if lost_claims:
            frontends = tuple([f for f in frontends if port.claim(f) not in lost_claims])
        if frontends:
            frontends = _with_effective_ranges(frontends, node.addresses)
            plans.append(_plan_port(service, port, frontends, contributions, node))
    return tuple(plans)


def _plan_port(
    service: Exposure,
    port: ExposedPort,
    frontends: tuple[Frontend, ...],
    contributions: tuple[Contribution, ...],
    node: NodeView,
) -> ServicePlan:
    name = port.name
    candidates = merge(contributions, port.family, name.port, name.protocol)
    ready = [c for c in candidates if c[0].state is _READY]
    terminating: list[Endpoint] = []
    if len(ready) < len(candidates):
        terminating = [e for e, _ in candidates if e.state is _TERMINATING]
    at = level(ready, node)
    cluster: list[Endpoint] = []
    if _wants_cluster_list(frontends):
        # KEP-1669: terminating endpoints serve on only where no ready one is left.
        cluster = _admitted(ready, at, node) or terminating
    local: list[Endpoint] = []
    if _wants_local_list(frontends):
        local = [e for e, _ in ready if e.is_local] or [e for e in terminating if e.is_local]
    cluster.sort()
    local.sort()
    unused: tuple[UnusedEndpoint, ...] = ()
    if len(cluster) < len(candidates):
        used = {*cluster, *local}
        rest = [c for c in candidates if c[0] not in used]
        unused = _unused(rest, at if cluster else None, node)
    return ServicePlan(
        name=name,
        family=port.family,
        frontends=frontends,
        cluster=tuple(cluster),
        local=tuple(local),
        has_any=bool(ready or terminating),
        affinity_seconds=port.affinity_seconds,
        health_check_node_port=port.health_check_node_port,
        unused=unused,
        scheduler=service.scheduler,
        scheduler_flags=service.scheduler_flags,
    )


def _admitted(ready: Sequence[Candidate], at: Level, node: NodeView) -> list[Endpoint]:
    if at is Level.ANYWHERE:
        return [e for e, _ in ready]
    return [e for e, hints in ready if admits(at, hints, node)]


def _wants_cluster_list(frontends: Sequence[Frontend]) -> bool:
    """Whether anything chooses from the Cluster list.

    Every external frontend does, whatever its policy: pods and the node itself bypass
    externalTrafficPolicy Local.
    """
    for frontend in frontends:
        if frontend.kind is not _CLUSTER_IP or frontend.policy is _CLUSTER:
            return True
    return False


def _wants_local_list(frontends: Sequence[Frontend]) -> bool:
    return _LOCAL in [frontend.policy for frontend in frontends]


def _unused(
    rest: Iterable[Candidate], at: Level | None, node: NodeView
) -> tuple[UnusedEndpoint, ...]:
    """Endpoints that no list holds, with the reason; sorted.

    `at` is the level that the Cluster list was chosen at, or None where there is no such list.
    """

    def reason(endpoint: Endpoint, hints: Hints) -> str:
        if endpoint.state is EndpointState.NOT_READY:
            return "not ready"
        if at is None and not endpoint.is_local:
            return "not on this node"
        if endpoint.state is _TERMINATING:
            return "terminating; ready endpoints exist"
        return refusal(at or Level.ANYWHERE, hints, node)

    return tuple(sorted(UnusedEndpoint(e, reason(e, hints)) for e, hints in rest))


def _with_effective_ranges(
    frontends: tuple[Frontend, ...], addresses: frozenset[str]
) -> tuple[Frontend, ...]:
    """The frontends, with what their source ranges come to on this node."""
    given = [f.source_ranges for f in frontends]
    if not any(given):
        return frontends
    return tuple(
        msgspec.structs.replace(f, source_ranges=effective(f.source_ranges, f.address, addresses))
        if f.source_ranges and f.address
        else f
        for f in frontends
    )


@lru_cache(maxsize=4096)
def effective(ranges: tuple[str, ...], balancer: str, addresses: frozenset[str]) -> tuple[str, ...]:
    """Source ranges of one family as disjoint CIDRs, sorted; empty if they hold every address.

    Where they hold an address of this node, the load balancer's own address is allowed too: a
    balancer that binds its address to the node makes it the source of the node's packets to it
    (REFERENCE A.2, dispatch priority).
    """
    merged = _merged(ranges)
    if allow_node(merged, addresses):
        merged = _merged((*merged, balancer))
    return () if merged[0].endswith("/0") else merged


def allow_node(ranges: Iterable[str], addresses: AbstractSet[str]) -> bool:
    """Whether source ranges hold one of these addresses of the node."""
    return any(contains(cidr, address) for cidr in ranges for address in addresses)


def _merged(cidrs: Iterable[str]) -> tuple[str, ...]:
    # Imported here: few clusters have source ranges, and netaddr takes 40 ms to import.
    from netaddr import cidr_merge  # noqa: PLC0415

    return tuple(str(network) for network in cidr_merge([str(network(cidr)) for cidr in cidrs]))
