"""What are the places of a packet's way called among our chains? Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from endpoints.explain import Explanation, Place
from endpoints.names import ServicePortName
from endpoints.plan import FrontendKind
from modes.iptables import service_chains
from modes.xtables import names

_CHAINS = {
    Place.PREROUTING: "PREROUTING",
    Place.OUTPUT: "OUTPUT",
    Place.MARTIANS: names.FIREWALL,
    Place.UNKNOWN_PORT: names.CLUSTER_IPS,
    Place.POSTROUTING: names.POSTROUTING,
}
_OF_A_SERVICE: Mapping[Place, Callable[[ServicePortName], str]] = {
    Place.SOURCE_RANGES: service_chains.firewall_chain,
    Place.CLUSTER_LIST: service_chains.cluster_chain,
    Place.LOCAL_LIST: service_chains.local_chain,
}
_NOTHING_TO_CHOOSE = {
    FrontendKind.CLUSTER_IP: names.SERVICES,
    FrontendKind.EXTERNAL_IP: names.EXTERNAL_SERVICES,
    FrontendKind.LOAD_BALANCER: names.EXTERNAL_SERVICES,
    FrontendKind.NODE_PORT: names.EXTERNAL_NODEPORTS,
}


def chain(place: Place, of: Explanation) -> str:
    """The chain of a step of an explanation."""
    if place in _CHAINS:
        return _CHAINS[place]
    if of.service is None or of.frontend is None:
        raise ValueError(f"{place}: the packet reaches no Service")
    if place is Place.NO_ENDPOINTS:
        return _NOTHING_TO_CHOOSE[of.frontend.kind]
    return _OF_A_SERVICE[place](of.service)
