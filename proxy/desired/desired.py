"""What should a node's kernel hold, and who says so? Pure.

Commands that explain, compare or draw up take this value, whatever it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from endpoints.names import ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from modes.base import Foreign, ModeSettings, Plans


class LastForeign(msgspec.Struct, frozen=True):
    """What somebody else did to our rules, when that was last noticed."""

    change: Foreign
    seconds_ago: float


class Running(msgspec.Struct, frozen=True):
    """What a running headgate says of itself."""

    version: str
    pid: int
    """In its own PID namespace."""
    is_synced: bool
    """Whether everything it knows is in the kernel, as far as it knows."""
    refused: Mapping[str, str] = {}
    """Services that its kernel refused, by `namespace/name`, each with the kernel's reason."""
    last_foreign: LastForeign | None = None


class Desired(msgspec.Struct, frozen=True):
    """All Services as a node should hold them."""

    mode: str
    of_modes: ModeSettings
    node: NodeView
    plans: tuple[ServicePlan, ...]
    """By name."""
    origin: str
    """Who says so, in words: `the headgate that runs here, pid 4711`."""
    problems: int = 0
    """How many objects or fields were refused on the way; each was told of."""
    running: Running | None = None

    def by_service(self) -> Mapping[ObjectName, Plans]:
        """The plans of each Service."""
        found: dict[ObjectName, list[ServicePlan]] = {}
        for plan in self.plans:
            found.setdefault(ObjectName(plan.name.namespace, plan.name.name), []).append(plan)
        return {name: tuple(plans) for name, plans in found.items()}
