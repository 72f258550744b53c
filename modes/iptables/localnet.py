"""May NodePorts answer on 127.0.0.1, and does the kernel let them?"""

from __future__ import annotations

from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from modes.xtables.kernel import route_localnet, set_route_localnet


class Localnet:
    """Whether packets from 127.0.0.1 may leave this host, and whether that is our doing."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.was_off = False
        """They might not before us."""
        self._is_ours = False
        self._routed = False

    def look(self, *, noted: bool) -> None:
        """See how it is. `noted`: our rules say that it was off; they are lost if flushed."""
        self._is_ours = noted or self._routed
        self.was_off = self._is_ours or not route_localnet()

    def settle(self, node: NodeView | None) -> tuple[str, ...]:
        """Allow it where NodePorts need it, forbid it if we allowed it; why that cannot be."""
        wanted = node is not None and serves_loopback(node)
        self._routed = self.was_off and wanted
        if node is not None and wanted:
            return prepare(node)
        refusal = set_route_localnet(on=False) if self._is_ours else ""
        return (refusal,) if refusal else ()


def serves_loopback(node: NodeView) -> bool:
    """Whether NodePorts answer on 127.0.0.1."""
    return any(map(is_loopback, node.node_ports_v4.addresses))


def prepare(node: NodeView) -> tuple[str, ...]:
    """Set the sysctl that they need there, if they do; why that cannot be, in a sentence."""
    refusal = set_route_localnet(on=True) if serves_loopback(node) else ""
    return (refusal,) if refusal else ()
