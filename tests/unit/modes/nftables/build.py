"""How does a test of the nftables mode write plans, and read fragments?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from endpoints.addresses import family as family_of
from endpoints.addresses import unpack
from endpoints.names import Family, Protocol, ServicePortName
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.nftables.dump import describe
from modes.nftables.elements import Value, Verdict

CLUSTER, LOCAL = TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL
PAY = ServicePortName("shop", "pay", "http", Protocol.TCP)


def cluster_ip(address: str, port: int = 80, policy: TrafficPolicy = CLUSTER) -> Frontend:
    return Frontend(FrontendKind.CLUSTER_IP, address, port, policy)


def external_ip(address: str, port: int = 80, policy: TrafficPolicy = CLUSTER) -> Frontend:
    return Frontend(FrontendKind.EXTERNAL_IP, address, port, policy)


def balancer(
    address: str, port: int = 80, policy: TrafficPolicy = CLUSTER, ranges: Sequence[str] = ()
) -> Frontend:
    return Frontend(FrontendKind.LOAD_BALANCER, address, port, policy, tuple(ranges))


def node_port(port: int, policy: TrafficPolicy = CLUSTER) -> Frontend:
    return Frontend(FrontendKind.NODE_PORT, None, port, policy)


def pods(*addresses: str, port: int = 8080) -> tuple[Endpoint, ...]:
    """Endpoints; those of node-a's part of the pod network are local to it."""
    return tuple(
        Endpoint(a, port, is_local=a.startswith(("10.244.1.", "fd00:10:244:1:")), node="some-node")
        for a in addresses
    )


def plan_of(
    *frontends: Frontend,
    cluster: Iterable[Endpoint] = (),
    local: Iterable[Endpoint] | None = None,
    name: ServicePortName = PAY,
    affinity_seconds: int | None = None,
    family: Family | None = None,
) -> ServicePlan:
    """A plan; the local list is what of the cluster list is local, unless told otherwise."""
    cluster = tuple(cluster)
    here = tuple(e for e in cluster if e.is_local) if local is None else tuple(local)
    named = next((f.address for f in frontends if f.address), "0.0.0.0")
    return ServicePlan(
        name=name,
        family=family or family_of(named),
        frontends=frontends,
        cluster=cluster,
        local=here,
        has_any=bool(cluster or here),
        affinity_seconds=affinity_seconds,
    )


def shown(fragment: Mapping[bytes, Value]) -> list[str]:
    """A fragment in nft's notation, sorted: `ip services 10.96.7.7 . tcp . 80 : goto pick-2`."""
    return sorted(f"{describe(key)}{_data(value)}" for key, value in fragment.items())


def _data(value: Value) -> str:
    if isinstance(value, Verdict):
        comment = f' comment "{value.comment}"' if value.comment else ""
        return f" : {value.verdict}{comment}"
    if not value:
        return ""
    port = int.from_bytes(value[-4:-2], "big")
    return f" : {unpack(value[:-4])} . {port}"
