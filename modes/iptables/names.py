"""What are the chains called? Pure.

Exactly as kube-proxy calls them (REFERENCE A.2, iptables chains), so that its documentation, the
tools that read its rules, and the rules of one that was stopped keep their meaning.
"""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum

from endpoints.names import ServicePortName
from endpoints.plan import Endpoint


class Table(StrEnum):
    """The tables that we write, in the order in which they are written."""

    FILTER = "filter"
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

_SVC, _SVL, _EXT, _FW, _SEP = "KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"
OF_A_SERVICE = (_SVC, _SVL, _EXT, _FW, _SEP)
"""How the names of chains begin that belong to one Service port."""
_HASH_BYTES = 10
"""They are the 16 letters that kube-proxy keeps of the whole."""
_TWIN = "/local"


def cluster_chain(name: ServicePortName) -> str:
    """`KUBE-SVC-…`: chooses among the Cluster list."""
    return _SVC + _hash(port_id(name))


def local_chain(name: ServicePortName) -> str:
    """`KUBE-SVL-…`: chooses among the Local list."""
    return _SVL + _hash(port_id(name))


def external_chain(name: ServicePortName) -> str:
    """`KUBE-EXT-…`: what comes by a NodePort, an external IP or a load balancer address."""
    return _EXT + _hash(port_id(name))


def firewall_chain(name: ServicePortName) -> str:
    """`KUBE-FW-…`: the source ranges of a load balancer address."""
    return _FW + _hash(port_id(name))


def endpoint_chain(name: ServicePortName, endpoint: Endpoint, *, is_twin: bool = False) -> str:
    """`KUBE-SEP-…`: one endpoint of one Service port.

    A twin, which kube-proxy has not, does the same and has a memory of clients of its own.
    """
    return _SEP + _hash(port_id(name) + str(endpoint) + (_TWIN if is_twin else ""))


def port_id(name: ServicePortName) -> str:
    """What is hashed of a Service port: `shop/pay:httptcp`."""
    return f"{name}{name.protocol.lower()}"


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]).decode()
