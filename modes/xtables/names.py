"""What are the chains called? Pure.

Exactly as kube-proxy calls them (REFERENCE A.2, iptables chains), so that its documentation, the
tools that read its rules, and the rules of one that was stopped keep their meaning. The names of
all modes are here: each knows the chains that another one, or kube-proxy's, has left.
"""

from __future__ import annotations

from enum import StrEnum


class Table(StrEnum):
    """The tables that we write, in the order in which they are written."""

    FILTER = "filter"
    MANGLE = "mangle"
    NAT = "nat"


SERVICES = "KUBE-SERVICES"
"""nat: from address and port to a Service. filter: cluster IPs that refuse or drop."""
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODEPORTS = "KUBE-NODEPORTS"
"""nat: from a NodePort to a Service. filter: lets health checks in."""
EXTERNAL_NODEPORTS = "KUBE-EXTERNAL-NODEPORTS"
"""filter: NodePorts that refuse or drop, on addresses of --nodeport-addresses. Ours alone."""
UNKNOWN_PORTS = "KUBE-UNKNOWN-PORTS"
"""filter: leads what goes to the network of all cluster IPs on. Ours alone."""
CLUSTER_IPS = "KUBE-CLUSTER-IPS"
"""filter: refuses unknown ports of cluster IPs. Ours alone: kube-proxy lets them pass."""
REFUSE = "KUBE-REFUSE"
"""filter: a reset for TCP, port unreachable for all else. Ours alone."""
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FIREWALL = "KUBE-FIREWALL"
"""filter: keeps others from reaching 127.0.0.0/8. The kubelet makes the same chain."""
ROUTE_LOCALNET_WAS_OFF = "KUBE-ROUTE-LOCALNET-WAS-OFF"
"""filter: empty and never jumped to. Says that cleanup may forbid again what we allowed."""
MARK_MASQ = "KUBE-MARK-MASQ"
POSTROUTING = "KUBE-POSTROUTING"

NODE_PORT = "KUBE-NODE-PORT"
"""IPVS, nat: NodePorts to masquerade. filter: lets health checks in."""
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
"""IPVS, nat: load balancer addresses to masquerade."""
SOURCE_RANGES_FIREWALL = "KUBE-SOURCE-RANGES-FIREWALL"
"""IPVS, filter: the source ranges of all load balancer addresses."""
IPVS_FILTER = "KUBE-IPVS-FILTER"
"""filter: keeps the node's own processes from answering on addresses of Services."""
IPVS_OUT_FILTER = "KUBE-IPVS-OUT-FILTER"
"""filter: the same for what the node itself sends. kube-proxy's."""
LOCAL_POLICY = "KUBE-LOCAL-POLICY"
"""IPVS, mangle: which packets may go to endpoints of other nodes, and which to none. Ours alone."""
LOCAL_POLICY_POST = "KUBE-LOCAL-POLICY-POST"
"""IPVS, mangle: takes the mark away that KUBE-LOCAL-POLICY gave. Ours alone."""

SVC, SVL, EXT, FW, SEP = "KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"
OF_A_SERVICE = (SVC, SVL, EXT, FW, SEP)
"""How the names of chains begin that belong to one Service port; 16 letters of a hash follow."""
