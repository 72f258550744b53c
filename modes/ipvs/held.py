"""What did the kernel hold of the IPVS mode when it was looked at? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from modes.base import ModeSettings
from modes.held import EVERYTHING, Difference, DumpedService, Only
from modes.ipvs.constant import constant, families
from modes.ipvs.differing import differing
from modes.ipvs.dump import services_in
from modes.ipvs.marks import Layout
from modes.ipvs.native import native
from modes.ipvs.seen import Seen, document, seen_in
from modes.ipvs.wishes import wishes

DEFAULTS = ModeSettings()


class IpvsHeld:
    """As `modes.held.Held`. In it are others' virtual servers too, but only ours are compared."""

    def __init__(self, seen: Seen, settings: ModeSettings) -> None:
        """`settings`: of the mode; its masquerade bit says which marks are ours."""
        self.seen = seen
        self._settings = settings
        self._layout = Layout(settings.masquerade_bit)

    @cached_property
    def services(self) -> tuple[DumpedService, ...]:
        """What was held of those that were asked for, by Service; sorted by name."""
        seen = self.seen
        return services_in(seen.found(), self._layout, seen.only, seen.kept)

    def differences(
        self, node: NodeView, services: Mapping[ObjectName, tuple[ServicePlan, ...]]
    ) -> tuple[Difference, ...]:
        """What should be otherwise, sorted: of those that were asked for, and of no Service.

        What drains is as it should be until its deadline, and so is a weight that somebody has
        chosen, other than 0. Where not all Services were asked for, nothing is told of what belongs
        to nobody. `services`: all of the node, or at least those that were asked for. Raises
        KernelFault if rules cannot be read.
        """
        seen, settings = self.seen, self._settings
        served = families(seen)
        plans = [
            plan
            for of in services.values()
            for plan in of
            if plan.family in served and is_asked(plan, seen.only)
        ]
        asked = {(str(plan.name), plan.family) for plan in plans}
        asked |= {(of.name, Family(of.family)) for of in self.services}
        found = seen.found()
        wanted = wishes(plans, found, node, settings, self._works)
        of_services = differing(found, wanted, node, settings, None if seen.only.all else asked)
        return tuple(sorted([*constant(seen, node, settings), *of_services]))

    @property
    def _works(self) -> frozenset[str]:
        """The schedulers that the kernel has, as far as it shows without being tried out."""
        used = {of.server.scheduler for of in self.seen.servers.values()}
        return self.seen.schedulers | used | {self._settings.ipvs.scheduler}

    def native(self) -> tuple[str, ...]:
        """What was held of those that were asked for, as the kernel's own tools print it."""
        if self.seen.only.all:
            return tuple(native(self.seen, None))
        return tuple(native(self.seen, {(of.name, Family(of.family)) for of in self.services}))

    def document(self) -> object:
        """The same as values of JSON, for `recalled`."""
        return document(self.seen)


def is_asked(plan: ServicePlan, only: Only) -> bool:
    """Whether a plan is of a Service port that is meant, as `Only.holds`."""
    if only.all:
        return True
    if only.service:
        return only.names(str(plan.name))
    return plan.name.protocol is only.protocol and any(
        frontend.port == only.port and frontend.address in (only.address, None)
        for frontend in plan.frontends
    )


def recalled(told: object, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> IpvsHeld:
    """What a document of `IpvsHeld.document` says, or those of it that are asked for.

    Raises ValueError if it is of another version, or none.
    """
    seen = seen_in(told)
    return IpvsHeld(seen if only.all else msgspec.structs.replace(seen, only=only), settings)
