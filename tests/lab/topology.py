"""Which machines does the virtual cluster have, and what are they called? Pure.

    client ── router ──┬── node-a ── pod-a1, pod-a2
    203.0.113.0/24     ├── node-b ── pod-b1, pod-b2
                       └── node-c ── pod-c1, pod-c2
                  192.168.0.0/24    10.244.N.0/24

An address tells its role, in IPv6 as in IPv4; every machine has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

ROUTER = "router"
CLIENT = "client"

CLUSTER_CIDRS = ("10.244.0.0/16", "fd00:10:244::/48")
SERVICE_CIDRS = ("10.96.0.0/12", "fd00:10:96::/112")
LOAD_BALANCER_CIDRS = ("198.51.100.0/24", "2001:db8:198::/64")

ROUTER_INSIDE = ("192.168.0.1", "fd00:192:168::1")
ROUTER_OUTSIDE = ("203.0.113.1", "2001:db8:203::1")
CLIENT_ADDRESSES = ("203.0.113.7", "2001:db8:203::7")

PREFIX_LENGTHS = (24, 64)
"""Of every subnet of the lab, IPv4 and IPv6."""


@dataclass(frozen=True)
class Node:
    """A node: a kernel of its own, as far as Services are concerned."""

    name: str
    zone: str
    number: int

    @property
    def addresses(self) -> tuple[str, str]:
        """Its InternalIPs, IPv4 first."""
        return f"192.168.0.{10 + self.number}", f"fd00:192:168::{10 + self.number}"

    @property
    def pod_cidrs(self) -> tuple[str, str]:
        """Where its pods get their addresses from, IPv4 first."""
        return f"10.244.{self.number}.0/24", f"fd00:10:244:{self.number}::/64"

    @property
    def pod_gateways(self) -> tuple[str, str]:
        """Its own addresses on the pods' bridge cni0."""
        return f"10.244.{self.number}.1", f"fd00:10:244:{self.number}::1"


NODES = (Node("node-a", "eu-1a", 1), Node("node-b", "eu-1a", 2), Node("node-c", "eu-1b", 3))

FIRST_PODS = tuple((f"pod-{node.name[-1]}{i}", node.name) for i in (1, 2) for node in NODES)
"""The pods of a new lab with their nodes, in the order in which they are plugged in."""


@dataclass(frozen=True)
class Pod:
    """A pod with the addresses that the CNI plugins gave it."""

    name: str
    node: str
    zone: str
    addresses: tuple[str, str]
    """IPv4 first."""

    @property
    def ipv4(self) -> str:
        """Its IPv4 address."""
        return self.addresses[0]

    @property
    def ipv6(self) -> str:
        """Its IPv6 address."""
        return self.addresses[1]


def node_named(name: str) -> Node:
    """The node of that name. Raises KeyError if there is none."""
    return {node.name: node for node in NODES}[name]


def family_index(address: str) -> int:
    """0 for an IPv4 address, 1 for an IPv6 address: its place in the pairs of this module."""
    return int(ip_address(address).version == 6)


def prefix_index(prefix: str) -> int:
    """0 for an IPv4 prefix, 1 for an IPv6 prefix."""
    return family_index(prefix.partition("/")[0])
