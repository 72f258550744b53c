"""Which Service is reached at a place, and who serves it? Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from endpoints.addresses import family
from endpoints.names import Family, Protocol
from endpoints.plan import EndpointState, ServicePlan
from proxy.desired.desired import Desired

_Place = tuple[str | Family, int, Protocol]


class Services(msgspec.Struct, frozen=True):
    """The Services that are known, by where they are reached; perhaps none."""

    frontends: Mapping[_Place, ServicePlan] = {}
    """Of a NodePort the family stands for the address."""
    node_addresses: frozenset[str] = frozenset()
    later: Callable[[], Services] | None = None
    """Asks anew: an endpoint may be younger than this answer."""

    def at(self, address: str, port: int, protocol: Protocol) -> ServicePlan | None:
        """The Service port that is reached there; None: nobody knows of one."""
        found = self.frontends.get((address, port, protocol))
        if found is None and address in self.node_addresses:
            found = self.frontends.get((family(address), port, protocol))
        return found

    def name(self, address: str, port: int, protocol: Protocol) -> str:
        """`namespace/name:port`, or empty."""
        found = self.at(address, port, protocol)
        return str(found.name) if found else ""

    def serves(self, address: str, port: int, protocol: Protocol, endpoint: str) -> bool | None:
        """Whether `10.244.1.2:8080` may get packets of it; None: nobody knows the Service."""
        found = self.at(address, port, protocol)
        if found is None:
            return None
        waiting = (of.endpoint for of in found.unused)
        serving = (one for one in waiting if one.state is not EndpointState.NOT_READY)
        if endpoint in {str(one) for one in (*found.cluster, *found.local, *serving)}:
            return True
        return self.later is not None and self.later().serves(address, port, protocol, endpoint)


def services(desired: Desired | None) -> Services:
    """Those of a node; none if nobody says what it should hold."""
    if desired is None:
        return Services()
    found: dict[_Place, ServicePlan] = {}
    for plan in desired.plans:
        for frontend in plan.frontends:
            place = frontend.address or plan.family
            found.setdefault((place, frontend.port, plan.name.protocol), plan)
    return Services(found, frozenset(desired.node.addresses))
