"""Which packets come from pods of this node? Pure."""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.addresses import family, network
from endpoints.names import Family
from endpoints.node import DetectLocalMode, LocalTraffic, NodeSettings
from endpoints.objects import Node


def detector(settings: NodeSettings, node: Node | None) -> LocalTraffic:
    """The detector that the settings ask for, resolved with this node's object (REFERENCE A.2).

    ClusterCIDR looks at the whole cluster's pod network, NodeCIDR at this node's part of it
    (podCIDRs: none until the Node is known and its part allocated), both at the first CIDR of
    each family. Raises ValueError for a cluster CIDR that is none.
    """
    mode = settings.detect_local_mode
    if mode is DetectLocalMode.BRIDGE_INTERFACE:
        return LocalTraffic(mode, interface=settings.pod_bridge_interface)
    if mode is DetectLocalMode.INTERFACE_NAME_PREFIX:
        return LocalTraffic(mode, interface=settings.pod_interface_name_prefix)
    if mode is DetectLocalMode.NODE_CIDR:
        return LocalTraffic(mode, _first_of_each_family(pod_cidrs(node)))
    return LocalTraffic(mode, _first_of_each_family(settings.cluster_cidrs))


def pod_cidrs(node: Node | None) -> tuple[str, ...]:
    """The node's part of the pod network; `podCIDRs` is younger than `podCIDR` and says more."""
    spec = node.spec if node else None
    if spec is None:
        return ()
    return tuple(spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else ()))


def _first_of_each_family(cidrs: Iterable[str]) -> tuple[str, ...]:
    first: dict[Family, str] = {}
    for cidr in cidrs:
        first.setdefault(family(cidr), str(network(cidr)))
    return tuple(first.values())
