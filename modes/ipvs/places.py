"""What are the places of a packet's way called, where IPVS chooses? Pure."""

from __future__ import annotations

from endpoints.addresses import bracketed
from endpoints.explain import Drop, Explanation, Place
from endpoints.names import ServicePortName
from endpoints.plan import Frontend, FrontendKind, TrafficPolicy
from modes.xtables import names

_CHAINS = {
    Place.PREROUTING: "PREROUTING",
    Place.OUTPUT: "OUTPUT",
    Place.SOURCE_RANGES: names.LOCAL_POLICY,
    Place.UNKNOWN_PORT: names.IPVS_FILTER,
    Place.POSTROUTING: names.POSTROUTING,
}
_BYPASS = "mark"


def chain(place: Place, of: Explanation) -> str:
    """The chain of a step, or the virtual server that chooses: `TCP 10.96.7.7:80`.

    Whoever bypasses policy Local meets the virtual server of a mark; `node` stands for the address
    of the node that a NodePort was asked for at.
    """
    if place in _CHAINS:
        return _CHAINS[place]
    if place is Place.MARTIANS:
        raise ValueError("martians: the IPVS mode serves no loopback address")
    if of.service is None or of.frontend is None:
        raise ValueError(f"{place}: the packet reaches no Service")
    if place is Place.NO_ENDPOINTS:
        return names.LOCAL_POLICY if isinstance(of.verdict, Drop) else names.IPVS_FILTER
    if place is Place.CLUSTER_LIST and _is_outside_local(of.frontend):
        return _BYPASS
    return _virtual_server(of.service, of.frontend)


def _is_outside_local(frontend: Frontend) -> bool:
    is_internal = frontend.kind is FrontendKind.CLUSTER_IP
    return frontend.policy is TrafficPolicy.LOCAL and not is_internal


def _virtual_server(service: ServicePortName, frontend: Frontend) -> str:
    address = bracketed(frontend.address) if frontend.address else "node"
    return f"{service.protocol} {address}:{frontend.port}"
