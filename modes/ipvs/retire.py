"""How does IPVS give way to another mode, which serves everything now?

Look by look, each beginning with what the kernel holds: a headgate that is started anew goes on
where the one before it ended. `quiesce` says what to do at each.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from modes.base import KernelFault, ModeSettings, Tell
from modes.ipvs import quiesce
from modes.ipvs.adopt import Found, adopt
from modes.ipvs.cleanup import remove_link_and_sets
from modes.ipvs.draining import LOOK_SECONDS
from modes.ipvs.links import is_loaded, local_addresses
from modes.ipvs.machine import Fault, Machine
from modes.ipvs.marks import Layout
from modes.ipvs.program import bound
from modes.ipvs.retiring import RetiringRules
from modes.ipvs.servers import Verb
from modes.xtables.retire import IN_IPTABLES, give_way

SOON_SECONDS = 1.0
"""When nothing is left but addresses: IPVS forgets the flows of a removed server within a tick."""

IPVS = "ipvs"
_GONE = {errno.ESRCH, errno.ENOENT}


class Retirement:
    """The way out, as far as it is known. `clock` counts seconds."""

    def __init__(
        self,
        settings: ModeSettings,
        layout: Layout,
        tell: Tell,
        clock: Callable[[], float],
    ) -> None:
        """Nothing is looked at yet."""
        self._settings = settings.ipvs
        self._layout = layout
        self._rules = RetiringRules(settings, tell)
        self._tell = tell
        self._clock = clock
        self._whose = ""

    def look(self, opened: Callable[[], Machine], successor: str) -> float | None:
        """Go on as far as connections allow; the seconds until the next look, None: all is gone.

        Nothing is opened where the kernel has not loaded IPVS: then it holds nothing. Raises
        KernelFault and EnvironmentFault.
        """
        if successor == IPVS or not is_loaded():
            return None
        machine = opened()
        found = machine.observe()
        if not found.sets:  # nothing says that anything is ours
            return None
        return self._go_on(machine, found, successor)

    def _go_on(self, machine: Machine, found: Found, successor: str) -> float | None:
        is_first = not self._whose
        whose = self._whose or self._rules.whose()
        found.rules_of = whose
        now, drain_seconds = self._clock(), self._settings.drain_seconds
        deadlines = (now, now + drain_seconds)
        local = local_addresses()
        owned = adopt(found, self._layout, local, self._settings.exclude_cidrs, deadlines)
        steps = quiesce.quiesced(found, owned, local, now, drain_seconds)
        held = owned.held
        families = {key.family for key in held.servers}
        families |= {bound(address).set.family for address in held.addresses}
        if is_first and families:
            machine.make_sets(families, found, (), quiesce.KINDS)
        _require(machine.admit(steps))
        if is_first:
            if families:
                self._rules.write(families)
            if successor not in IN_IPTABLES:
                give_way(self._tell, stay=False)
        self._whose = whose
        _require([*machine.serve(steps), *machine.withdraw(steps)])
        ended = {of.command.key for of in steps.commands if of.command.verb is Verb.DELETE_SERVER}
        if held.servers.keys() - ended:
            return LOOK_SECONDS
        if held.addresses - set(steps.unbind):
            return SOON_SECONDS
        self._rules.remove()
        remove_link_and_sets(machine, self._tell)
        return None


def _require(faults: Sequence[Fault]) -> None:
    """What is gone already is no fault. Raises KernelFault for the first that is one."""
    for fault in faults:
        if fault.command is None or fault.errno not in _GONE:
            what = fault.command or fault.entry
            raise KernelFault(f"{what}: {fault.reason}")
