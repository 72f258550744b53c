"""What are the chains of one Service port called? Pure.

As kube-proxy calls them: what they are for, and a hash of the Service port (REFERENCE A.2).
"""

from __future__ import annotations

import base64
import hashlib

from endpoints.names import ServicePortName
from endpoints.plan import Endpoint
from modes.xtables.names import EXT, FW, SEP, SVC, SVL

_HASH_BYTES = 10
"""They are the 16 letters that kube-proxy keeps of the whole."""
_TWIN = "/local"


def cluster_chain(name: ServicePortName) -> str:
    """`KUBE-SVC-…`: chooses among the Cluster list."""
    return SVC + _hash(port_id(name))


def local_chain(name: ServicePortName) -> str:
    """`KUBE-SVL-…`: chooses among the Local list."""
    return SVL + _hash(port_id(name))


def external_chain(name: ServicePortName) -> str:
    """`KUBE-EXT-…`: what comes by a NodePort, an external IP or a load balancer address."""
    return EXT + _hash(port_id(name))


def firewall_chain(name: ServicePortName) -> str:
    """`KUBE-FW-…`: the source ranges of a load balancer address."""
    return FW + _hash(port_id(name))


def endpoint_chain(name: ServicePortName, endpoint: Endpoint, *, is_twin: bool = False) -> str:
    """`KUBE-SEP-…`: one endpoint of one Service port.

    A twin, which kube-proxy has not, does the same and has a memory of clients of its own.
    """
    return SEP + _hash(port_id(name) + str(endpoint) + (_TWIN if is_twin else ""))


def port_id(name: ServicePortName) -> str:
    """What is hashed of a Service port: `shop/pay:httptcp`."""
    return f"{name}{name.protocol.lower()}"


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]).decode()
