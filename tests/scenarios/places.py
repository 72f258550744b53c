"""Who stands where in the cluster that stories speak about? Pure.

The address plan of DESIGN.md: an address tells its role. A story names places and addresses by
symbols only, so that one file runs in both families. What a story claims for itself (cluster IPs,
load balancer addresses, external IPs, NodePorts) is its own: all stories can be loaded at once.
"""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from endpoints.names import Family
from tests.lab import topology

BRIDGE = "cni0"
UPLINK = "eth0"
SERVED_PORT = 8080
MAX_STORIES = 63


def _both(pair: tuple[str, str]) -> dict[Family, str]:
    return dict(zip((Family.IPV4, Family.IPV6), pair, strict=True))


class Place(msgspec.Struct, frozen=True):
    """Somewhere packets start or end: a pod, a node (its host network), the client outside."""

    name: str
    pair: tuple[str, str]
    """Its IPv4 and its IPv6 address."""
    node: str | None = None
    """The node that a packet from here passes first, and that an endpoint here is on."""
    zone: str | None = None

    @property
    def addresses(self) -> dict[Family, str]:
        """Its addresses by family."""
        return _both(self.pair)

    @property
    def is_node(self) -> bool:
        """Whether this is a node's own network."""
        return self.name == self.node


NODES = {n.name: Place(n.name, n.addresses, n.name, n.zone) for n in topology.NODES}
BRIDGES = {n.name: _both(n.pod_gateways) for n in topology.NODES}
"""The address of a node on its pods' bridge: a second local address."""
PODS = {
    name: Place(name, (ipv4, ipv6), node.name, node.zone)
    for node in topology.NODES
    for k, name in enumerate((p for p, on in topology.FIRST_PODS if on == node.name), 2)
    for ipv4, ipv6 in [[str(ip_network(cidr)[k]) for cidr in node.pod_cidrs]]
}
"""A node's gateway has the first address of its pods' network, its pods have the next ones."""
CLIENT = Place(topology.CLIENT, topology.CLIENT_ADDRESSES)
PLACES = {**NODES, **PODS, CLIENT.name: CLIENT}

POD_NETWORKS = _both(topology.CLUSTER_CIDRS)
BALANCED = (*topology.LOAD_BALANCER_CIDRS, "192.0.2.0/24", "2001:db8:192::/64")
"""Load balancer addresses and external IPs: what the router sends to a node."""
NETWORKS = {
    "outside": _both(("203.0.113.0/24", "2001:db8:203::/64")),
    "elsewhere": _both(("198.18.0.0/24", "2001:db8:198:18::/64")),
    "nodes": _both(("192.168.0.0/24", "fd00:192:168::/64")),
    "pods": POD_NETWORKS,
}


def symbols(family: Family, story: int) -> dict[str, str | int]:
    """What each symbol stands for, in one family, in the story of this number (0 to 62).

    `vip1` to `vip8`: cluster IPs. `lb1`, `lb2`, `ext1`, `ext2`: addresses outside the cluster,
    routed to a node. `nodeport1` to `nodeport4`. Places, `bridge-a`, `localhost`, networks, and
    `family` itself. The same symbol followed by `/other` is that of the other family.
    """
    telling = 2 * story + (family is Family.IPV6)
    other = Family.IPV4 if family is Family.IPV6 else Family.IPV6
    return _of_one(family, telling) | {
        f"{symbol}/other": value for symbol, value in _of_one(other, telling).items()
    }


def _of_one(family: Family, telling: int) -> dict[str, str | int]:
    is_v4 = family is Family.IPV4
    found: dict[str, str | int] = {"family": family.value}
    for k in range(1, 9):
        low = telling * 16 + k
        found[f"vip{k}"] = f"10.96.{telling}.{k}" if is_v4 else f"fd00:10:96::{low:x}"
    for k in (1, 2):
        low = telling * 2 + k
        found[f"lb{k}"] = f"198.51.100.{low}" if is_v4 else f"2001:db8:198::{low:x}"
        found[f"ext{k}"] = f"192.0.2.{low}" if is_v4 else f"2001:db8:192::{low:x}"
    for k in range(1, 5):
        found[f"nodeport{k}"] = 30000 + telling * 4 + k
    found["localhost"] = "127.0.0.1" if is_v4 else "::1"
    found |= {name: place.addresses[family] for name, place in PLACES.items()}
    found |= {f"bridge-{name[-1]}": both[family] for name, both in BRIDGES.items()}
    return found | {name: both[family] for name, both in NETWORKS.items()}


def owner_of(address: str) -> str | None:
    """The node that has the address in its own network."""
    owners = (n for n in NODES if address in (*NODES[n].addresses.values(), *BRIDGES[n].values()))
    return next(owners, None)


def local_addresses(node: str) -> frozenset[str]:
    """What the kernel of a node calls local, both families."""
    mine = {*NODES[node].addresses.values(), *BRIDGES[node].values()}
    return frozenset(mine | {"127.0.0.1", "::1"})
