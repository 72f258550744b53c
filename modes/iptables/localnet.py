"""May NodePorts answer on 127.0.0.1, and does the kernel let them?"""

from __future__ import annotations

from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from modes.xtables.kernel import set_route_localnet


def serves_loopback(node: NodeView) -> bool:
    """Whether NodePorts answer on 127.0.0.1."""
    return any(map(is_loopback, node.node_ports_v4.addresses))


def prepare(node: NodeView) -> tuple[str, ...]:
    """Set the sysctl that they need there, if they do; why that cannot be, in a sentence."""
    refusal = set_route_localnet(on=True) if serves_loopback(node) else ""
    return (refusal,) if refusal else ()
