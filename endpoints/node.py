"""What must planning and explaining know of the node they run on? Pure.

Values only; `endpoints.nodeports` and `endpoints.local_traffic` compute them from configuration,
the Node object and the kernel's addresses.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from endpoints.addresses import contains, family
from endpoints.names import Family


class DetectLocalMode(StrEnum):
    """How a packet of a local pod is told from others (`--detect-local-mode`)."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"


class LocalTraffic(msgspec.Struct, frozen=True):
    """The detector of traffic from pods, resolved: a list of CIDRs, or an interface name."""

    mode: DetectLocalMode
    cidrs: tuple[str, ...] = ()
    """CIDRs of both families (ClusterCIDR, NodeCIDR)."""
    interface: str = ""
    """Exact name (BridgeInterface) or prefix (InterfaceNamePrefix)."""

    def known(self, of: Family) -> bool:
        """Whether local pods can be told apart at all in this family."""
        return bool(self.interface) or any(family(cidr) is of for cidr in self.cidrs)

    def is_local_pod(self, source: str, interface: str | None) -> bool:
        """Whether a packet with this source, received on this interface, is of a local pod."""
        if self.mode is DetectLocalMode.BRIDGE_INTERFACE:
            return bool(self.interface) and interface == self.interface
        if self.mode is DetectLocalMode.INTERFACE_NAME_PREFIX:
            return bool(self.interface) and (interface or "").startswith(self.interface)
        return any(contains(cidr, source) for cidr in self.cidrs)

    def told_by(self, source: str, interface: str | None) -> str:
        """How it tells for such a packet, in words: `clusterCIDR 10.244.0.0/16`."""
        if self.mode in _CIDR_OPTION:
            cidrs = (cidr for cidr in self.cidrs if family(cidr) is family(source))
            return f"{_CIDR_OPTION[self.mode]} {', '.join(cidrs)}"
        prefix = "*" if self.mode is DetectLocalMode.INTERFACE_NAME_PREFIX else ""
        return f"interface {self.interface}{prefix}, arrived on {interface or 'none'}"


_CIDR_OPTION = {
    DetectLocalMode.CLUSTER_CIDR: "clusterCIDR",
    DetectLocalMode.NODE_CIDR: "podCIDR",
}


class NodePortAddresses(msgspec.Struct, frozen=True):
    """On which of the node's addresses NodePorts answer, in one family (REFERENCE A.2)."""

    match_all: bool = False
    """Every local address, whatever they become; loopback excepted unless in `addresses`."""
    addresses: tuple[str, ...] = ()
    """Sorted addresses; with `match_all` only an explicitly wanted loopback address."""


class NodeView(msgspec.Struct, frozen=True):
    """This node: the parameter of `plan`, `explain` and every mode."""

    name: str
    zone: str | None = None
    addresses: frozenset[str] = frozenset()
    """Every address that the kernel calls local, loopback included, both families."""
    primary: frozenset[str] = frozenset()
    """The one of each family that others know the node by."""
    node_ports_v4: NodePortAddresses = NodePortAddresses()
    node_ports_v6: NodePortAddresses = NodePortAddresses()
    local_traffic: LocalTraffic = LocalTraffic(DetectLocalMode.CLUSTER_CIDR)
    masquerade_all: bool = False
    holds_addresses: bool = False
    """The node makes the addresses of Services its own (IPVS, on a link `kube-ipvs0`): nothing that
    is sent to them passes on, and they are the source of what the node itself sends to them."""

    def node_ports(self, of: Family) -> NodePortAddresses:
        """Where NodePorts answer in this family."""
        return self.node_ports_v4 if of is Family.IPV4 else self.node_ports_v6


class Loopback(StrEnum):
    """When NodePorts answer on 127.0.0.1; on ::1 they never do."""

    BY_NAME = "by name"
    """Where it is asked for: by `localhost`, or by a range of loopback addresses only."""
    IN_RANGE = "in range"
    """Wherever it is not left out: kube-proxy's iptables mode with localhostNodePorts."""
    NEVER = "never"
    """The same mode without."""


class NodeSettings(msgspec.Struct, frozen=True):
    """What the operator configured about this node, before anything is resolved."""

    name: str
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    cluster_cidrs: tuple[str, ...] = ()
    pod_bridge_interface: str = ""
    pod_interface_name_prefix: str = ""
    node_port_addresses: tuple[str, ...] = ("primary",)
    """CIDRs and the keywords `primary`, `localhost`, `all`; the default depends on the mode."""
    loopback: Loopback = Loopback.BY_NAME
    masquerade_all: bool = False
    holds_addresses: bool = False
    """See NodeView; it follows from the mode."""
    bind_address: str = ""
    """The node's primary address of its family, whatever the Node says (`--bind-address`)."""
