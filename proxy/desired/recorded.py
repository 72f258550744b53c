"""What are the plans of a node made of? Pure.

A running headgate tells it, and a snapshot keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from endpoints.events import Replace
from endpoints.names import ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import EndpointSlice, Kind, Node, Service
from endpoints.plan import ServicePlan
from endpoints.state import ClusterState
from modes.base import ModeSettings


class Recorded(msgspec.Struct, frozen=True):
    """Objects of a cluster, and the node that looks at them."""

    mode: str
    of_modes: ModeSettings
    settings: NodeSettings
    """On this mode."""
    addresses: frozenset[str]
    """Those that the kernel calls local; empty: no kernel was asked; the Node's stand for it."""
    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    node: Node | None
    configuration: Mapping[str, object] = {}
    """The KubeProxyConfiguration in force, for a reader: paths of credentials, but none of them."""

    def state(self) -> ClusterState:
        """The objects, taken in. Nothing of them is refused: they were read once."""
        state = ClusterState(self.settings, self.addresses)
        state.fold(Replace(Kind.SERVICE, self.services))
        state.fold(Replace(Kind.ENDPOINT_SLICE, self.slices))
        state.fold(Replace(Kind.NODE, (self.node,) if self.node else ()))
        return state


def recorded(
    state: ClusterState,
    mode: str,
    of_modes: ModeSettings,
    configuration: Mapping[str, object] | None = None,
) -> Recorded:
    """What a state was made of."""
    return Recorded(
        mode,
        of_modes,
        state.settings,
        state.local_addresses,
        state.recorded_services(),
        state.recorded_slices(),
        state.recorded_node(),
        configuration or {},
    )


def plans(state: ClusterState, only: str = "") -> tuple[ServicePlan, ...]:
    """What a state means for its node, by name; `only`: of this Service, `namespace/name`."""
    names = [ObjectName(*only.split("/"))] if only else sorted(state.services())
    return tuple(plan for name in names for plan in state.plans(name))
