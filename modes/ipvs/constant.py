"""What of all that Services need together is not as it should be? Pure.

Rules, sets, the link and the kernel's settings: they are the same whatever the Services are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from endpoints.names import Family
from endpoints.node import NodeView
from modes.base import ModeSettings
from modes.held import Difference, DifferenceKind
from modes.ipvs import ipsets, sysctls
from modes.ipvs.chains import abilities, skeleton
from modes.ipvs.ipsets import SetName, sets_of
from modes.ipvs.marks import Layout
from modes.ipvs.seen import Seen
from modes.ipvs.servers import LINK
from modes.xtables.adopt import Found, difference, drift, holds_ours
from modes.xtables.delta import Program

MISSING, EXTRA, DIFFERENT = DifferenceKind


def constant(seen: Seen, node: NodeView, settings: ModeSettings) -> Iterator[Difference]:
    """Each thing that is not as it should be; of no Service."""
    for kind, what in _faults(seen, node, settings):
        yield Difference("", kind, what)


def families(seen: Seen) -> tuple[Family, ...]:
    """Those that are served: IPv6 where iptables has it, and anything is there."""
    is_used = bool(seen.rules.saved.get(Family.IPV6)) or any(
        name.family is Family.IPV6 for name in seen.sets
    )
    return tuple(Family) if is_used else (Family.IPV4,)


_Fault = tuple[DifferenceKind, str]


def _faults(seen: Seen, node: NodeView, settings: ModeSettings) -> Iterator[_Fault]:
    served = families(seen)
    yield from _sets(seen, sets_of(served))
    if seen.addresses is None:
        yield MISSING, f"link {LINK}"
    strict = settings.ipvs.strict_arp
    for of in sysctls.needed(strict_arp=strict, kernel_version=seen.kernel_version):
        value = seen.sysctls.get(of.path)
        if value is None:
            yield MISSING, f"{of.name}, needed for {of.reason}"
        elif value != of.value:
            yield DIFFERENT, f"{of.name} is {value}, not {of.value} ({of.reason})"
    if seen.rules.fault:
        yield MISSING, f"rules of iptables: {seen.rules.fault}"
        return
    found = seen.rules_by_family()
    for family in served:
        rules = found.get(family, {})
        layout = Layout(settings.masquerade_bit)
        program = Program(family, skeleton(node, family, abilities(rules), layout))
        yield from _rules(program, rules)


def _sets(seen: Seen, wanted: Collection[SetName]) -> Iterator[_Fault]:
    for name in wanted:
        of = seen.sets.get(name)
        if of is None:
            yield MISSING, f"set {name}"
        elif not ipsets.fits(of.spec, name):
            yield DIFFERENT, f"set {name} is of another type"


def _rules(program: Program, found: Found) -> Iterator[_Fault]:
    """Rule by rule; but a chain that is not there, or no chain at all, is one thing."""
    if not holds_ours(found):
        yield MISSING, f"all rules of iptables ({program.family})"
        return
    changes = difference(program, found)
    family = program.family
    for whole in changes.new:
        yield MISSING, f"chain {whole.chain.name} in table {whole.chain.table} ({family})"
    differs = drift(msgspec.structs.replace(changes, new=[]), found)
    for kind, rules in ((MISSING, differs.missing), (EXTRA, differs.extra)):
        for rule in rules:
            table, _, spec = rule.partition(" ")
            yield kind, f"rule {spec} in table {table} ({family})"
    for what in differs.different:
        yield DIFFERENT, f"chain {what} ({family})"
