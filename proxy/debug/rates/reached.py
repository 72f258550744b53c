"""At which addresses and ports are the Services of this node reached? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from conntrack import traffic
from endpoints.addresses import family
from endpoints.names import Family, Protocol
from modes.held import DumpedService

_NODE = "node"


class Place(NamedTuple):
    """Where packets are sent to."""

    address: str
    port: int
    protocol: Protocol


Places = Mapping[Place, str]
"""Whose places they are: `namespace/name:port`."""


def reached(services: Iterable[DumpedService], own: Iterable[str]) -> dict[Place, str]:
    """Where the Services that a kernel holds are reached; NodePorts at each of its own addresses.

    A Service port that has the address itself comes before the one of a NodePort.
    """
    addresses = {of: [address for address in own if family(address) is of] for of in Family}
    places: dict[Place, str] = {}
    of_nodes: dict[Place, str] = {}
    for service in services:
        protocol = Protocol(service.protocol)
        for frontend in service.frontends:
            if frontend.address != _NODE:
                places[Place(frontend.address, frontend.port, protocol)] = service.name
                continue
            for address in addresses[Family(service.family)]:
                of_nodes[Place(address, frontend.port, protocol)] = service.name
    return of_nodes | places


def as_tracked(places: Places) -> dict[bytes, str]:
    """The same, as `traffic.Reader` takes them."""
    return {traffic.place(family(at.address), *at): service for at, service in places.items()}
