"""What is a virtual server, and what is a real one? Pure.

The values of IPVS (linux/ip_vs.h), without the Services they are for: `netlink` turns them into
bytes and back, `fragment` makes them of plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec

from endpoints.addresses import bracketed
from endpoints.names import Family, Protocol, ServicePortName

PERSISTENT, HASHED, ONE_PACKET, SCHEDULER_1, SCHEDULER_2 = 0x1, 0x2, 0x4, 0x8, 0x10
"""Flags of a virtual server. What SCHEDULER_1 and _2 mean is the scheduler's affair: sh-fallback
and sh-port, mh-fallback and mh-port. HASHED is the kernel's own."""

LINK = "kube-ipvs0"
"""The dummy link that holds the addresses of virtual servers, by kube-proxy's name."""

WEIGHT = 1
"""Of a real server that takes new connections; one with weight 0 takes none."""


class ServerKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a virtual server is known by: address, port and protocol, or the mark of its packets."""

    family: Family
    protocol: Protocol = Protocol.TCP
    """With a mark: TCP, whatever the packets are."""
    address: str = ""
    port: int = 0
    mark: int = 0
    """More than 0: packets with exactly this mark, wherever they go."""

    def __str__(self) -> str:
        """`TCP 10.96.7.7:80`, `mark 0x4b000001 (IPv4)`."""
        if self.mark:
            return f"mark {self.mark:#x} ({self.family})"
        return f"{self.protocol} {bracketed(self.address)}:{self.port}"


class VirtualServer(msgspec.Struct, frozen=True, gc=False):
    """How a virtual server chooses."""

    scheduler: str = "rr"
    flags: int = 0
    """PERSISTENT, SCHEDULER_1 and SCHEDULER_2 only."""
    persistence_seconds: int = 0
    """For how long a client stays with its real server, since its last connection."""


class RealServer(msgspec.Struct, frozen=True, order=True, gc=False):
    """Who answers; always by translation (masquerading, in the words of IPVS)."""

    address: str
    port: int

    def __str__(self) -> str:
        """`10.244.1.2:8080`, `[fd00::2]:8080`."""
        return f"{bracketed(self.address)}:{self.port}"


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """A virtual server as it shall be."""

    name: ServicePortName
    """What it is for."""
    server: VirtualServer
    reals: tuple[RealServer, ...]
    """Sorted; each takes new connections."""


class Traffic(msgspec.Struct, frozen=True):
    """What the kernel counted of a virtual or a real server."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class FoundReal(msgspec.Struct, frozen=True):
    """A real server as the kernel holds it."""

    weight: int
    active: int = 0
    """Connections in state ESTABLISHED (TCP), or all of them (UDP)."""
    inactive: int = 0
    """Connections in any other state: what is left of closed ones, for two minutes."""
    method: int = 0
    """How packets reach it: 0 is translation, which is all that we use."""
    traffic: Traffic = Traffic()

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss it."""
        return self.active + self.inactive == 0


class FoundServer(msgspec.Struct, frozen=True):
    """A virtual server as the kernel holds it."""

    server: VirtualServer
    reals: Mapping[RealServer, FoundReal]
    traffic: Traffic = Traffic()


class Verb(IntEnum):
    """What IPVS is told: the numbers of linux/ip_vs.h."""

    NEW_SERVER = 1
    SET_SERVER = 2
    DELETE_SERVER = 3
    NEW_REAL = 5
    SET_REAL = 6
    DELETE_REAL = 7


class Command(NamedTuple):
    """One change of IPVS."""

    verb: Verb
    key: ServerKey
    server: VirtualServer | None = None
    """For NEW_SERVER and SET_SERVER."""
    real: RealServer | None = None
    """For the verbs of real servers."""
    weight: int = WEIGHT
