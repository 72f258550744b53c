"""Which endpoints do the EndpointSlices of a Service name? Pure.

A `Contribution` is all of an EndpointSlice that `plan` reads: two slices with equal contributions
mean the same, whatever else changed in them. Its `Endpoint`s are the ones that plans hold: they
exist once, however many lists they are in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from sys import intern

import msgspec

from endpoints.exposure import served
from endpoints.names import Family, ObjectName, Protocol
from endpoints.objects import (
    SERVICE_NAME_LABEL,
    Annotations,
    EndpointConditions,
    EndpointHints,
    EndpointSlice,
    name_of,
)
from endpoints.plan import Endpoint, EndpointState

_FAMILIES: dict[str, Family] = {of.value: of for of in Family}


class Hints(msgspec.Struct, frozen=True, gc=False):
    """For whom the control plane meant an endpoint (KEP-2433, KEP-3015)."""

    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


NO_HINTS = Hints()
_READY = EndpointState.READY

Candidate = tuple[Endpoint, Hints]


class ContributedPort(msgspec.Struct, frozen=True, gc=False):
    """The endpoints of one slice for one Service port."""

    name: str
    protocol: Protocol
    endpoints: tuple[Endpoint, ...]


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What one EndpointSlice says of one Service."""

    name: ObjectName
    """The slice's own name."""
    service: str
    """The Service's name; its namespace is the slice's."""
    family: Family
    ports: tuple[ContributedPort, ...]
    hints: tuple[Hints, ...] = ()
    """Of the endpoints of each port, in their order; empty if no endpoint has any."""

    @property
    def service_name(self) -> ObjectName:
        """The Service that the slice belongs to."""
        return ObjectName(self.name.namespace, self.service)


def contribution(of_slice: EndpointSlice, node_name: str) -> Contribution | None:
    """What a validated slice says, seen from the named node; None if it says nothing to us.

    Nothing: another proxy's or a headless Service's by label, no Service's, or of type FQDN. A
    port without number and an endpoint without address are left out. A port without name is the
    unnamed port and one without protocol TCP: the API server writes so where it is left out, a
    manifest need not. Of several addresses only the first counts: the API calls them fungible.
    """
    labels = of_slice.metadata.labels
    service = labels.get(SERVICE_NAME_LABEL) if labels else None
    family = _FAMILIES.get(of_slice.address_type)
    if not service or family is None or not served(labels):
        return None
    listed = [endpoint for endpoint in of_slice.endpoints or () if endpoint.addresses]
    # Column by column: this is done with 100,000 endpoints at start. None means ready, serving, not
    # terminating. Ready wins over terminating: a Service with publishNotReadyAddresses has
    # endpoints that are both, and kube-proxy sends to them.
    addresses = [endpoint.addresses[0] for endpoint in listed]
    nodes = [endpoint.node_name for endpoint in listed]
    local = [node == node_name for node in nodes]
    conditions = [endpoint.conditions for endpoint in listed]
    states = [
        _READY if of is None or of.ready is not False else _not_ready(of) for of in conditions
    ]
    zones = [endpoint.zone for endpoint in listed]
    ports = tuple(
        ContributedPort(
            intern(port.name or ""),
            port.protocol or Protocol.TCP,
            tuple(map(Endpoint, addresses, repeat(port.port), local, states, nodes, zones)),
        )
        for port in of_slice.ports or ()
        if port.port
    )
    hints = [endpoint.hints for endpoint in listed]
    told = tuple(map(_hints, hints)) if any(hints) else ()
    if all(of is NO_HINTS for of in told):
        told = ()
    return Contribution(name_of(of_slice), service, family, ports, told)


def _not_ready(conditions: EndpointConditions) -> EndpointState:
    """The conditions of an endpoint that is not ready, condensed."""
    if conditions.terminating and conditions.serving is not False:
        return EndpointState.TERMINATING
    return EndpointState.NOT_READY


def _hints(hints: EndpointHints | None) -> Hints:
    """The hints as names; equal ones are one value."""
    if hints is None or not (hints.for_zones or hints.for_nodes):
        return NO_HINTS
    return _shared_hints(
        tuple(hint.name for hint in hints.for_zones or ()),
        tuple(hint.name for hint in hints.for_nodes or ()),
    )


@lru_cache(maxsize=4096)
def _shared_hints(zones: tuple[str, ...], nodes: tuple[str, ...]) -> Hints:
    return Hints(zones, nodes)


def triggered(annotations: Annotations | None) -> float | None:
    """When the change of a slice was caused, in seconds since 1970; None if nobody says.

    The control plane writes RFC 3339 with up to nine digits of a second (KEP-1660's SLI of network
    programming latency). The time is no part of a Contribution: it changes nothing for packets. One
    that cannot be read costs a figure, and is no refusal.
    """
    if annotations is None or annotations.last_change is None:
        return None
    try:
        at = datetime.fromisoformat(annotations.last_change)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo else None


_RANK = {EndpointState.READY: 0, EndpointState.TERMINATING: 1, EndpointState.NOT_READY: 2}


def merge(
    contributions: Iterable[Contribution], family: Family, port_name: str, protocol: Protocol
) -> list[Candidate]:
    """The endpoints of one Service port and family, each `address:port` once.

    Of duplicates (they exist while the control plane moves an endpoint between slices) a local
    one wins, then ready before terminating before not ready, then the one whose slice is first
    by name: never the one that happened to arrive last. A duplicate adds no weight.
    """
    ordered = [c for c in contributions if c.family is family]
    if len(ordered) > 1:
        ordered.sort(key=lambda c: c.name)
    lists = [
        (port.endpoints, c.hints)
        for c in ordered
        for port in c.ports
        if port.name == port_name and port.protocol is protocol
    ]
    if len(lists) == 1:
        # Nearly always: one slice, whose port is the same for all, and no address is in it twice.
        [(endpoints, hints)] = lists
        if len({endpoint.address for endpoint in endpoints}) == len(endpoints):
            return list(zip(endpoints, hints or repeat(NO_HINTS, len(endpoints)), strict=True))
    found: dict[tuple[str, int], Candidate] = {}
    for endpoints, hints in lists:
        for index, endpoint in enumerate(endpoints):
            key = (endpoint.address, endpoint.port)
            before = found.get(key)
            if before is None or _beats(endpoint, before[0]):
                found[key] = (endpoint, hints[index] if hints else NO_HINTS)
    return list(found.values())


def _beats(candidate: Endpoint, holder: Endpoint) -> bool:
    """Whether a duplicate replaces the one found before it; equals do not."""
    if candidate.is_local != holder.is_local:
        return candidate.is_local
    return _RANK[candidate.state] < _RANK[holder.state]
