"""Which ipsets does the IPVS mode have, and what is in them? Pure.

Those that kube-proxy has, under its names and with its types (REFERENCE D), so that whoever knows
them finds them, and ours: what they are for is said at each `Kind`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from endpoints.names import Family, Protocol

LONGEST_NAME = 31
MOST_ELEMENTS = 1 << 22
"""Limit of a hash, which costs nothing. kube-proxy's 65,536 lose Services silently (#129389)."""
LEAST_HASH_SIZE = 1 << 10
_ELEMENTS_IN_A_BUCKET = 8
"""Of the 12 that fit: a hash made for its elements needs no growth while it is filled."""


class Type(StrEnum):
    """Types of sets, as `ipset` calls them."""

    IP = "hash:ip"
    IP_PORT = "hash:ip,port"
    IP_PORT_IP = "hash:ip,port,ip"
    IP_PORT_NET = "hash:ip,port,net"
    PORT = "bitmap:port"


class Kind(StrEnum):
    """The sets of one family, by their names in IPv4."""

    CLUSTER_IP = "KUBE-CLUSTER-IP"
    EXTERNAL_IP = "KUBE-EXTERNAL-IP"
    """externalTrafficPolicy Cluster: masqueraded."""
    EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
    LOAD_BALANCER = "KUBE-LOAD-BALANCER"
    """All load balancer addresses."""
    LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
    LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
    """Those with source ranges."""
    LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
    LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
    """The address itself, where its ranges hold the node: the node's packets have it as source."""
    NODE_PORT_TCP = "KUBE-NODE-PORT-TCP"
    NODE_PORT_LOCAL_TCP = "KUBE-NODE-PORT-LOCAL-TCP"
    NODE_PORT_UDP = "KUBE-NODE-PORT-UDP"
    NODE_PORT_LOCAL_UDP = "KUBE-NODE-PORT-LOCAL-UDP"
    NODE_PORT_SCTP = "KUBE-NODE-PORT-SCTP-HASH"
    NODE_PORT_LOCAL_SCTP = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
    HEALTH_CHECK_NODE_PORT = "KUBE-HEALTH-CHECK-NODE-PORT"
    LOOP_BACK = "KUBE-LOOP-BACK"
    """Endpoints on this node, each as the destination and the source of a packet: hairpin."""
    IPVS_IPS = "KUBE-IPVS-IPS"
    """The addresses that we have given to the link; others on it are not ours."""
    VIRTUAL_SERVERS = "KUBE-VIRTUAL-SERVERS"
    """Ours alone: which virtual servers we have made, each with the name of its Service port, and
    those of others at addresses that we hold (FOREIGN)."""
    NO_ENDPOINTS = "KUBE-NO-ENDPOINTS"
    """Ours alone: new connections to these are refused; with the name of the Service port."""
    NO_LOCAL_ENDPOINTS = "KUBE-NO-LOCAL-ENDPOINTS"
    """Ours alone: new connections to these are dropped, but of who bypasses policy Local."""
    LOCAL_BYPASS = "KUBE-LOCAL-BYPASS"
    """Ours alone: externalTrafficPolicy Local; the mark leads who bypasses it to the virtual server
    with the Cluster list."""
    DRAINING = "KUBE-DRAINING"
    """Ours alone: real servers that take no new connections, until the element expires."""


NODE_PORTS = {
    Protocol.TCP: (Kind.NODE_PORT_TCP, Kind.NODE_PORT_LOCAL_TCP),
    Protocol.UDP: (Kind.NODE_PORT_UDP, Kind.NODE_PORT_LOCAL_UDP),
    Protocol.SCTP: (Kind.NODE_PORT_SCTP, Kind.NODE_PORT_LOCAL_SCTP),
}
"""The set of all NodePorts of a protocol, and that of those with policy Local."""


class SetName(NamedTuple):
    """One set."""

    kind: Kind
    family: Family

    def __str__(self) -> str:
        """kube-proxy's spelling for IPv6 is `KUBE-6-…`, cut to what a name may have."""
        if self.family is Family.IPV4:
            return self.kind.value
        return self.kind.value.replace("KUBE-", "KUBE-6-", 1)[:LONGEST_NAME]


def sets_of(families: Iterable[Family]) -> frozenset[SetName]:
    """All sets of these families."""
    return frozenset(SetName(kind, family) for family in families for kind in Kind)


class SetSpec(msgspec.Struct, frozen=True):
    """What is said when a set is made."""

    type: Type
    family: Family | None = None
    """None for a set of ports."""
    hash_size: int = 0
    """0 for a set of ports, as below. The kernel makes it larger as it must."""
    most_elements: int = 0
    has_comments: bool = False
    has_marks: bool = False
    """The extension skbinfo."""
    has_timeouts: bool = False
    """Elements without a timeout of their own stay for ever."""


class Element(msgspec.Struct, frozen=True, order=True, gc=False):
    """What a set holds; what its type has no place for is left out."""

    address: str = ""
    protocol: Protocol | None = None
    port: int = 0
    other: str = ""
    """The second address, or the network in CIDR form."""

    def __str__(self) -> str:
        """As `ipset` has it, but for brackets: `10.96.7.7,tcp:80`, `30080`."""
        if not self.address:
            return str(self.port)
        port = f"{self.protocol.lower()}:{self.port}" if self.protocol else ""
        return ",".join(filter(None, (self.address, port, self.other)))


class Extra(msgspec.Struct, frozen=True, gc=False):
    """What an element carries."""

    comment: str = ""
    mark: int = 0
    timeout_seconds: int = 0
    """0: it stays."""


PLAIN = Extra()
FOREIGN = Extra("(foreign)")
"""In VIRTUAL_SERVERS: somebody else's; let in, and nothing of ours."""


class Entry(NamedTuple):
    """An element and where it is."""

    set: SetName
    element: Element


class SetVerb(StrEnum):
    """What a set is told."""

    ADD = "add"
    """An element that is there gets the new extra."""
    DELETE = "delete"
    """An element that is not there is no fault."""


class SetChange(NamedTuple):
    """One change of a set."""

    verb: SetVerb
    entry: Entry
    extra: Extra = PLAIN


class FoundSet(msgspec.Struct, frozen=True):
    """A set as the kernel holds it."""

    spec: SetSpec | None
    """None: it is of a kind that none of ours is."""
    elements: Mapping[Element, Extra]


_TYPES = {
    Kind.LOAD_BALANCER_SOURCE_CIDR: Type.IP_PORT_NET,
    Kind.LOAD_BALANCER_SOURCE_IP: Type.IP_PORT_IP,
    Kind.NODE_PORT_TCP: Type.PORT,
    Kind.NODE_PORT_LOCAL_TCP: Type.PORT,
    Kind.NODE_PORT_UDP: Type.PORT,
    Kind.NODE_PORT_LOCAL_UDP: Type.PORT,
    Kind.HEALTH_CHECK_NODE_PORT: Type.PORT,
    Kind.LOOP_BACK: Type.IP_PORT_IP,
    Kind.IPVS_IPS: Type.IP,
    Kind.DRAINING: Type.IP_PORT_IP,
}


_NAMED = {
    Kind.VIRTUAL_SERVERS,
    Kind.NO_ENDPOINTS,
    Kind.NO_LOCAL_ENDPOINTS,
    Kind.LOCAL_BYPASS,
}
"""Their elements carry the name of their Service port."""


def spec(name: SetName, elements: int = 0) -> SetSpec:
    """How a set is made that shall hold so many elements."""
    of = _TYPES.get(name.kind, Type.IP_PORT)
    if of is Type.PORT:
        return SetSpec(of)
    return SetSpec(
        of,
        name.family,
        max(LEAST_HASH_SIZE, 1 << (elements // _ELEMENTS_IN_A_BUCKET).bit_length()),
        MOST_ELEMENTS,
        has_comments=name.kind in _NAMED,
        has_marks=name.kind is Kind.LOCAL_BYPASS,
        has_timeouts=name.kind is Kind.DRAINING,
    )


def fits(found: SetSpec | None, name: SetName) -> bool:
    """Whether a set that was found can be used as it is, whatever its size is."""
    wanted = spec(name)
    return found is not None and wanted == msgspec.structs.replace(
        found, hash_size=wanted.hash_size
    )


def at(address: str, port: int, protocol: Protocol, other: str = "") -> Element:
    """An element of an address and a port."""
    return Element(address, protocol, port, other)
