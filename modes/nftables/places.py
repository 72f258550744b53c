"""What are the places of a packet's way called in our tables? Pure."""

from __future__ import annotations

from endpoints.explain import Drop, Explanation, Forward, Place
from endpoints.plan import FrontendKind

_CHAINS = {
    Place.PREROUTING: "prerouting",
    Place.OUTPUT: "output",
    Place.MARTIANS: "loopback-guard",
    Place.SOURCE_RANGES: "lb-check",
    Place.UNKNOWN_PORT: "no-endpoints",
    Place.NO_ENDPOINTS: "no-endpoints",
    Place.POSTROUTING: "postrouting",
}


def chain(place: Place, of: Explanation) -> str:
    """The chain of a step of an explanation."""
    if place is Place.NO_ENDPOINTS and isinstance(of.verdict, Drop):
        return _dropping(of)
    return _CHAINS.get(place) or _choice(place, of)


def _dropping(of: Explanation) -> str:
    """The map whose verdict drops what finds no endpoint on this node."""
    kind = of.frontend.kind if of.frontend else None
    if kind is FrontendKind.CLUSTER_IP:
        return "services"
    return "nodeport-local" if kind is FrontendKind.NODE_PORT else "external-local"


def _choice(place: Place, of: Explanation) -> str:
    """The chain that chooses an endpoint: `np-sticky-local-2`."""
    if of.frontend is None or not isinstance(of.verdict, Forward):
        raise ValueError(f"{place}: nothing is chosen on the way to {type(of.verdict).__name__}")
    name = "np-" if of.frontend.kind is FrontendKind.NODE_PORT else ""
    name += "sticky-" if of.affinity_seconds is not None else ""
    name += "local" if place is Place.LOCAL_LIST else "pick"
    return f"{name}-{len(of.verdict.hops)}"
