"""How does what is ours leave the kernel, and nothing else?"""

from __future__ import annotations

from endpoints.names import Family
from modes.base import IpvsSettings, Tell
from modes.ipvs import retiring
from modes.ipvs.adopt import adopt
from modes.ipvs.ipsets import Kind, SetName
from modes.ipvs.links import local_addresses
from modes.ipvs.machine import Machine
from modes.ipvs.marks import Layout
from modes.ipvs.program import Owned, Steps
from modes.ipvs.servers import LINK, Command, Verb
from modes.xtables.cleanup import clean_up as clean_up_rules
from modes.xtables.retire import observed


def clean_up(machine: Machine, layout: Layout, settings: IpvsSettings, tell: Tell) -> bool:
    """Rules, virtual servers, addresses and sets; True if there was anything.

    Raises EnvironmentFault and KernelFault.
    """
    had_rules = clean_up_rules(tell)
    for kernel, family, rules in observed(tell):
        retiring.remove(kernel, family, rules)
    found = machine.observe()
    held = adopt(found, layout, local_addresses(), settings.exclude_cidrs, (0.0, 0.0)).held
    commands = [Owned(None, Command(Verb.DELETE_SERVER, key)) for key in held.servers]
    change = Steps(commands=commands, unbind=sorted(held.addresses))
    for fault in machine.serve(change):
        tell("Not removed", what=fault.command or fault.entry, reason=fault.reason)
    had_link = remove_link_and_sets(machine, tell)
    return had_rules or bool(change) or had_link or bool(found.sets)


def remove_link_and_sets(machine: Machine, tell: Tell) -> bool:
    """The last that goes: the sets say whose all else is. True if there was a link, and is not now.

    Raises KernelFault.
    """
    had_link = machine.link.addresses() is not None
    if not machine.link.remove_if_empty():
        tell("Not removed", what=LINK, reason="it has addresses that are not ours")
        had_link = False
    machine.ipset.destroy_temporary()
    there = machine.ipset.names()
    for name in (SetName(kind, family) for kind in Kind for family in Family):
        if str(name) in there and not machine.ipset.destroy(name):
            tell("Not removed", what=name, reason="rules of others ask it")
    return had_link
