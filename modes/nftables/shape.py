"""What of a node do the rules, rather than the elements, depend on? Pure."""

from __future__ import annotations

import msgspec

from endpoints.addresses import family as family_of
from endpoints.names import Family
from endpoints.node import DetectLocalMode, NodeView
from endpoints.nodeports import is_loopback


class Shape(msgspec.Struct, frozen=True):
    """What the rules of one family's table depend on."""

    family: Family
    interface: str = ""
    """Tell local pods by interface; a trailing `*` makes it a prefix. Empty: by pod_cidrs."""
    pod_cidrs: tuple[str, ...] = ()
    """CIDRs of this family; with no interface either, local pods cannot be told from others."""
    masquerade_all: bool = False
    node_ports_everywhere: bool = False
    node_ports_on_loopback: bool = False
    lookups_can_miss: bool = False
    """Of the kernel: before 6.17 a lookup may miss an element that a commit replaces."""


def shape_of(node: NodeView, family: Family, *, lookups_can_miss: bool) -> Shape:
    """The shape of the family's table on this node."""
    traffic = node.local_traffic
    suffix = "*" if traffic.mode is DetectLocalMode.INTERFACE_NAME_PREFIX else ""
    node_ports = node.node_ports(family)
    return Shape(
        family=family,
        interface=traffic.interface + suffix if traffic.interface else "",
        pod_cidrs=tuple(sorted(c for c in traffic.cidrs if family_of(c) is family)),
        masquerade_all=node.masquerade_all,
        node_ports_everywhere=node_ports.match_all,
        node_ports_on_loopback=any(map(is_loopback, node_ports.addresses)),
        lookups_can_miss=lookups_can_miss,
    )
