"""Which ready endpoints were meant for clients on this node? Pure.

The control plane decides (trafficDistribution PreferSameZone, PreferSameNode and the older
PreferClose) and writes hints; a proxy acts on the hints only (REFERENCE A.2, KEP-2433, KEP-3015).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

from endpoints.node import NodeView
from endpoints.slices import NO_HINTS, Candidate, Hints


class Level(Enum):
    """How near an endpoint must be."""

    ANYWHERE = "anywhere"
    SAME_ZONE = "same zone"
    SAME_NODE = "same node"


def level(ready: Sequence[Candidate], node: NodeView) -> Level:
    """The level that the hints of all ready endpoints of a Service port allow.

    SAME_NODE if every ready endpoint has node hints and one of them names this node; else
    SAME_ZONE likewise for this node's zone; else ANYWHERE. One endpoint without hints disables
    its level: the control plane has not finished, and half of the hints would send all traffic to
    half of the endpoints.
    """
    if not ready or ready[0][1] is NO_HINTS:
        return Level.ANYWHERE
    hints = [hint for _, hint in ready]
    if all(hint.nodes for hint in hints) and any(node.name in hint.nodes for hint in hints):
        return Level.SAME_NODE
    if all(hint.zones for hint in hints) and any(node.zone in hint.zones for hint in hints):
        return Level.SAME_ZONE
    return Level.ANYWHERE


def admits(at: Level, hints: Hints, node: NodeView) -> bool:
    """Whether an endpoint with these hints may be used from this node at this level."""
    if at is Level.SAME_NODE:
        return node.name in hints.nodes
    return at is Level.ANYWHERE or node.zone in hints.zones


def refusal(at: Level, hints: Hints, node: NodeView) -> str:
    """Why `admits` said no, for an operator; equal texts are one value."""
    if at is Level.SAME_NODE:
        return _refusal("node", hints.nodes, f"this node is {node.name}")
    return _refusal("zone", hints.zones, f"this node is in {node.zone}")


@lru_cache(maxsize=1024)
def _refusal(what: str, wanted: tuple[str, ...], here: str) -> str:
    return f"ready, but hinted for {what} {', '.join(wanted)}; {here}"
