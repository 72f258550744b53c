"""How do load balancers learn which nodes have endpoints of a Service?

They ask its healthCheckNodePort (KEP-27; a Service of type LoadBalancer with externalTrafficPolicy
Local) on the node's addresses, over HTTP: 200 where this node has ready endpoints and can be
trusted, 503 where not (REFERENCE A.2). All ports are served by one thread, which there is only if
some Service has such a port. There may be more of them than files that a process can have open:
those that do not fit are refused, as one is that somebody else has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from itertools import chain
from socket import socket

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.plan import EndpointState
from modes.base import Plans
from proxy import log, open_files
from proxy.observer import Observer, Synced
from proxy.serving.http_messages import NOSNIFF, Answer, Request
from proxy.serving.web import Web, listening

RETRY_SECONDS = 5.0
"""A port that is taken is tried again so often, even if nothing else happens."""
_WILDCARD = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}  # noqa: S104 (NodePorts on every address)

Failed = Callable[[ObjectName, int, str], None]
"""Told, by the thread that serves, why a Service's port cannot be listened on."""


class Check(msgspec.Struct, frozen=True):
    """What there is to answer for a Service."""

    port: int
    counts: Mapping[Family, int]
    """Distinct addresses of ready endpoints on this node, in the families that it has."""


class _Place(msgspec.Struct, frozen=True, order=True):
    """Where one socket listens."""

    address: str
    port: int
    family: Family


class HealthPorts(Observer):
    """Keeps the ports as the last sync left the Services. Its thread never makes a sync wait."""

    def __init__(self, is_healthy: Callable[[], bool], failed: Failed) -> None:
        self._is_healthy = is_healthy
        self._failed = failed
        self._checks: dict[ObjectName, Check] = {}
        self._addresses: Mapping[Family, tuple[str, ...]] = {}
        self._news = False
        self._web: Web | None = None
        self._ports: Ports | None = None

    def stop(self) -> None:
        """Listen no more, and wait for the thread."""
        if self._web is not None:
            self._web.stop()
            self._web = self._ports = None

    def planning_all(self) -> None:
        """As of an Observer."""
        self._news = self._news or bool(self._checks)
        self._checks = {}

    def planned(self, service: ObjectName, plans: Plans) -> None:
        """As of an Observer."""
        found = check(plans)
        if found != self._checks.get(service):
            self._news = True
        if found is None:
            self._checks.pop(service, None)
        else:
            self._checks[service] = found

    def synced(self, synced: Synced) -> None:
        """As of an Observer: load balancers hear of what the kernel serves, and not before."""
        if self._web is None or self._ports is None:
            if not self._checks:
                return
            self._web = Web("health-ports")
            self._ports = Ports(self._web, self._is_healthy, self._failed)
        addresses = {of: addresses_for(synced.node, of) for of in Family}
        if self._news or addresses != self._addresses:
            self._news, self._addresses = False, addresses
            self._web.call(partial(self._ports.want, dict(self._checks), addresses))
        elif self._ports.refused:
            self._web.call(self._ports.settle)


class Ports:
    """The sockets, and what is answered on them; only the thread of `web` uses it."""

    def __init__(self, web: Web, is_healthy: Callable[[], bool], failed: Failed) -> None:
        self.refused: dict[tuple[ObjectName, int], str] = {}
        """Ports that cannot be listened on everywhere, with the reason that was told."""
        self._web = web
        self._is_healthy = is_healthy
        self._failed = failed
        self._checks: Mapping[ObjectName, Check] = {}
        self._addresses: Mapping[Family, tuple[str, ...]] = {}
        self._open: dict[_Place, tuple[ObjectName, socket]] = {}
        self._waiting = False
        self._most = open_files.for_health_ports()

    def want(
        self, checks: Mapping[ObjectName, Check], addresses: Mapping[Family, tuple[str, ...]]
    ) -> None:
        """Answer for these Services, on these addresses of the node."""
        self._checks, self._addresses = checks, addresses
        self.settle()

    def settle(self) -> None:
        """Listen where it is wanted, and nowhere else; what cannot be is tried again."""
        wanted = {service: tuple(self._places(of)) for service, of in self._checks.items()}
        for place, (service, listener) in list(self._open.items()):
            if place not in wanted.get(service, ()):
                del self._open[place]
                self._web.close(listener)
                log.info("No health checks any more", v=2, service=service, port=place.port)
        refused: dict[tuple[ObjectName, int], str] = {}
        for service in sorted(wanted):
            for place in wanted[service]:
                if reason := self._listen(service, place):
                    refused.setdefault((service, place.port), reason)
        before, self.refused = self.refused, refused
        for (service, port), reason in refused.items():
            if before.get((service, port)) != reason:
                log.warning("No health checks", service=service, port=port, reason=reason)
                self._failed(service, port, reason)
        if refused and not self._waiting:
            self._waiting = True
            self._web.later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._waiting = False
        self.settle()

    def _places(self, of: Check) -> list[_Place]:
        return [
            _Place(address, of.port, family)
            for family in of.counts
            for address in self._addresses[family]
        ]

    def _listen(self, service: ObjectName, place: _Place) -> str:
        """Listen there for a Service; the reason why that cannot be, if it cannot."""
        if place in self._open:
            owner, _ = self._open[place]
            return "" if owner == service else f"the port is that of Service {owner}"
        if len(self._open) >= self._most:
            found = f"{self._most} sockets are open already"
            return f"{found}: raise the limit of open files (ulimit -n)"
        try:
            listener = listening(place.address, place.port, both_families=False)
        except OSError as error:
            return f"{place.address}: {error.strerror}"
        self._open[place] = (service, listener)
        self._web.open(listener, partial(self._answer, service, place.family))
        log.info("Health checks", v=2, service=service, address=place.address, port=place.port)
        return ""

    def _answer(self, service: ObjectName, family: Family, _: Request) -> Answer:
        """Of a Service that went after the client had connected, nothing is here."""
        found = self._checks.get(service)
        count = found.counts.get(family, 0) if found else 0
        return answer(service, count, healthy=self._is_healthy())


def check(plans: Plans) -> Check | None:
    """What there is to answer for a Service; None: it has no such port.

    Terminating endpoints do not count, even where they still serve: a balancer shall go elsewhere.
    """
    if not plans or plans[0].health_check_node_port is None:
        return None
    ready: dict[Family, set[str]] = {plan.family: set() for plan in plans}
    for plan in plans:
        unused = (row.endpoint for row in plan.unused)
        ready[plan.family].update(
            endpoint.address
            for endpoint in chain(plan.local, plan.cluster, unused)
            if endpoint.is_local and endpoint.state is EndpointState.READY
        )
    counts = {family: len(addresses) for family, addresses in ready.items()}
    return Check(plans[0].health_check_node_port, counts)


def addresses_for(node: NodeView, of: Family) -> tuple[str, ...]:
    """Where to listen in one family: where NodePorts answer."""
    chosen = node.node_ports(of)
    return (_WILDCARD[of],) if chosen.match_all else chosen.addresses


def answer(service: ObjectName, count: int, *, healthy: bool) -> Answer:
    """The answer of one node for one Service, byte by byte as kube-proxy gives it."""
    body = f"""\
{{
\t"service": {{
\t\t"namespace": "{service.namespace}",
\t\t"name": "{service.name}"
\t}},
\t"localEndpoints": {count},
\t"serviceProxyHealthy": {str(healthy).lower()}
}}"""
    status = HTTPStatus.OK if count and healthy else HTTPStatus.SERVICE_UNAVAILABLE
    weight = ("X-Load-Balancing-Endpoint-Weight", str(count))
    return Answer(body.encode(), "application/json", status, (NOSNIFF, weight))
