"""Who is around node-a in the laws' world? Pure.

    pod-a1, pod-a2 ── node-a ──┬── pod-b1, pod-b2, pod-b3   (on node-b, as far as slices say)
                               ├── pod-c1                   (a client in a pod of node-c)
                               ├── client                   (outside)
                               └── sink                     (everything else: nobody is there)

A star: whatever anybody sends to anybody else passes node-a, so that any answer is translated back.
"""

from __future__ import annotations

from dataclasses import dataclass

from endpoints.names import Family


@dataclass(frozen=True)
class Place:
    """A machine with one address of each family, on a link of node-a."""

    name: str
    addresses: dict[Family, str]
    link: str
    """What node-a calls its end of the cable."""
    node: str | None = None
    """The node that it is a pod of."""


def _place(name: str, v4: str, v6: str, link: str, node: str | None = None) -> Place:
    return Place(name, {Family.IPV4: v4, Family.IPV6: v6}, link, node)


HERE = "node-a"
NODE_ADDRESSES = ("192.168.0.11", "fd00:192:168::11")
BRIDGE_ADDRESSES = ("10.244.1.1", "fd00:10:244:1::1")
LOCAL_ADDRESSES = frozenset({*NODE_ADDRESSES, *BRIDGE_ADDRESSES, "127.0.0.1", "::1"})
CLUSTER_CIDRS = ("10.244.0.0/16", "fd00:10:244::/48")
POD_CIDRS = ("10.244.1.0/24", "fd00:10:244:1::/64")
SINK_ADDRESSES = ("192.168.0.1", "fd00:192:168::1")

NODE = _place(HERE, *NODE_ADDRESSES, "", HERE)
LOCAL_PODS = tuple(
    _place(f"pod-a{n}", f"10.244.1.{n + 1}", f"fd00:10:244:1::{n + 1}", f"cali{n}", HERE)
    for n in (1, 2)
)
REMOTE_PODS = tuple(
    _place(f"pod-b{n}", f"10.244.2.{n + 1}", f"fd00:10:244:2::{n + 1}", f"b{n}", "node-b")
    for n in (1, 2, 3)
)
STRANGER = _place("pod-c1", "10.244.3.2", "fd00:10:244:3::2", "c1", "node-c")
CLIENT = _place("client", "203.0.113.7", "2001:db8:203::7", "out")

ENDPOINTS = (*LOCAL_PODS, *REMOTE_PODS, NODE)
"""Who answers; node-a itself with pods in its host network."""
CLIENTS = (*LOCAL_PODS, NODE, STRANGER, CLIENT)
"""Who asks: a pod of another node that reached itself through node-a is nowhere in the real world."""
CABLED = (*LOCAL_PODS, *REMOTE_PODS, STRANGER, CLIENT)
