"""What does a kernel hold of a mode, and which of it is not as it should be? Pure.

What `dump`, `diff` and `explain` tell of, whichever mode it is; each mode has a `Held` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol as Contract

import msgspec

from endpoints.names import ObjectName, Protocol
from endpoints.node import NodeView
from endpoints.plan import ServicePlan


class DumpedTraffic(msgspec.Struct, frozen=True):
    """What the kernel counted since it was told of a virtual server, or of a real one."""

    connections: int = 0
    packets_in: int = 0
    """From clients; `out`: to them."""
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class DumpedReal(msgspec.Struct, frozen=True):
    """A real server of IPVS: an endpoint, as one virtual server holds it."""

    endpoint: str
    """`10.244.1.2:8080`."""
    weight: int
    """0: it drains, and takes no new connections."""
    active: int
    """Connections in state ESTABLISHED (TCP), or all of them (UDP)."""
    inactive: int
    """Connections in any other state."""
    traffic: DumpedTraffic = DumpedTraffic()
    seconds_left: int | None = None
    """How long it may drain; None: it does not, or nobody knows its deadline."""


class DumpedServer(msgspec.Struct, frozen=True):
    """A virtual server of IPVS."""

    name: str
    """`TCP 10.96.7.7:80`, `mark 0x4b000001 (IPv4)`."""
    scheduler: str
    """With its flags: `rr`, `mh mh-port`."""
    reals: tuple[DumpedReal, ...]
    traffic: DumpedTraffic = DumpedTraffic()


class DumpedClient(msgspec.Struct, frozen=True):
    """A client that the kernel keeps on an endpoint: session affinity."""

    address: str
    endpoint: str
    """`10.244.1.2:8080`."""
    seconds_left: int | None = None
    """How long yet, if no packet of it comes; None: the kernel does not tell."""


class DumpedFrontend(msgspec.Struct, frozen=True):
    """One place of the kernel where a Service is reached, as the kernel holds it."""

    address: str
    """An address, or `node` for a NodePort."""
    port: int
    policy: str
    """`Cluster`, `Local`, and for an external Local frontend both: `Local (pods: Cluster)`.
    `Cluster or Local` where both would look the same: a cluster IP of IPVS, all of whose endpoints
    are on this node."""
    rule: str
    """The way of a packet: `services -> pick-2`."""
    endpoints: tuple[str, ...] = ()
    """What the Cluster list, or the only list, chooses among: `10.244.1.2:8080`, in slot order."""
    local_endpoints: tuple[str, ...] = ()
    """What an external client is sent to under policy Local."""
    source_ranges: tuple[str, ...] = ()
    servers: tuple[DumpedServer, ...] = ()
    """IPVS: the virtual servers behind it; that of the Cluster list comes last, if it has two."""
    new_flows: int | None = None
    """New connections since the kernel was told of it; None: the kernel does not count them."""


class DumpedService(msgspec.Struct, frozen=True):
    """One Service port in one family, as the kernel holds it."""

    name: str
    """`namespace/name:port` from the element's comment; `?` where there is none."""
    protocol: str
    family: str
    frontends: tuple[DumpedFrontend, ...]
    affinity_seconds: int | None = None
    clients: tuple[DumpedClient, ...] = ()
    """Whom affinity keeps where, sorted."""
    endpoint_flows: Mapping[str, int] = {}
    """New connections by endpoint, where the kernel counts them."""


class Only(msgspec.Struct, frozen=True):
    """Which Services are meant: all of them, one by its name, or who is reached at a place."""

    service: str = ""
    """`namespace/name`, `namespace/name:port`, or empty."""
    address: str = ""
    """Canonical; empty, or together with a port."""
    port: int = 0
    protocol: Protocol = Protocol.TCP

    @property
    def all(self) -> bool:
        """Whether nothing is left out."""
        return not self.service and not self.address

    def names(self, name: str) -> bool:
        """Whether a Service port of this name, `namespace/name:port`, is the one by name."""
        return name == self.service or name.partition(":")[0] == self.service

    def holds(self, of: DumpedService) -> bool:
        """Whether a Service port is meant; a NodePort is reached at any address."""
        if self.all:
            return True
        if self.service:
            return self.names(of.name)
        return of.protocol == self.protocol and any(
            frontend.port == self.port and frontend.address in (self.address, "node")
            for frontend in of.frontends
        )


EVERYTHING = Only()


class DifferenceKind(StrEnum):
    """What is wrong with the kernel."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


class Difference(msgspec.Struct, frozen=True, order=True):
    """Something that the kernel does not hold as it should."""

    service: str
    """`namespace/name:port`; empty for what belongs to no Service."""
    kind: DifferenceKind
    what: str
    """In an operator's words: `10.96.0.10:53/UDP in map services`."""


class Held(Contract):
    """What the kernel held of one mode when it was looked at. Values: no kernel is asked again."""

    @property
    def services(self) -> tuple[DumpedService, ...]:
        """What was held of those that were asked for, by Service; sorted by name."""

    def differences(
        self, node: NodeView, services: Mapping[ObjectName, tuple[ServicePlan, ...]]
    ) -> tuple[Difference, ...]:
        """What should be otherwise, sorted: of those that were asked for, and of no Service.

        `services`: all Services of the node, or at least those that were asked for.
        """

    def native(self) -> tuple[str, ...]:
        """What was held of those that were asked for, in the notation of the kernel's own tool."""

    def document(self) -> object:
        """The same as values of JSON, for `modes.registry.recalled`."""
