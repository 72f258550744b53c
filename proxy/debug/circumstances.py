"""What of a machine speaks against the explanation of a packet?

Our rules as the kernel holds them, rules of others, routes, conntrack, sysctls: nothing is sent and
nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from endpoints.explain import Explanation, Packet
from modes.base import EnvironmentFault, KernelFault
from modes.held import Difference, DifferenceKind, Only
from proxy.debug.kernel import lasting
from proxy.desired.desired import Desired
from proxy.desired.live import live
from proxy.desired.snapshot import recall
from proxy.every import aside
from proxy.facts import machine
from proxy.facts.facts import Facts, Tracked, Ways
from proxy.facts.finding import Cause, Finding
from proxy.facts.findings import findings
from proxy.facts.foreign import ForeignChains
from proxy.facts.foreign_kernel import foreign_rules
from proxy.facts.foreign_taking import taking
from proxy.facts.routing import ways

_T = TypeVar("_T")


class Circumstances(NamedTuple):
    """What was found."""

    findings: tuple[Finding, ...]
    """Certain breaks first."""
    ways: Ways
    """Empty if nobody was asked."""
    not_looked_at: tuple[str, ...] = ()
    """What could not be read, in words."""


class _Seen(NamedTuple):
    """A machine, as far as it matters to one packet."""

    facts: Facts
    ways: Ways
    flows: tuple[Tracked, ...]
    foreign: ForeignChains


def circumstances(
    packet: Packet, explanation: Explanation, wanted: Desired, snapshot: str, *, of_client: bool
) -> Circumstances:
    """What speaks against an explanation. What cannot be looked at is said on standard error.

    `snapshot`: a file's name; empty: this machine. `of_client`: the packet's source was named, and
    only its flows count. Raises ConfigError for a snapshot that cannot be read.
    """
    tries = _Tries()
    here = partial(_here, packet, tries, of_client=of_client)
    look = partial(_recalled, snapshot, tries) if snapshot else here
    found = list(_rules(packet, explanation, wanted, snapshot, tries))
    seen = look(explanation)
    if seen is not None:
        node = wanted.node
        leaves_by = {way.destination: way.interface for way in seen.ways.there if way.interface}
        found += taking(seen.foreign, packet, explanation, node, wanted.mode, leaves_by)
        found += findings(packet, explanation, node, seen.facts, seen.ways, seen.flows)
    findings_ = tuple(sorted(found, key=lambda finding: not finding.breaks))
    return Circumstances(findings_, seen.ways if seen else Ways(), tuple(tries.failed))


class _Tries:
    """What cannot be read keeps nobody from looking at the rest."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def look(self, what: str, ask: Callable[[], _T], otherwise: _T) -> _T:
        """What is there; if it cannot be read, the other value."""
        try:
            return ask()
        except (EnvironmentFault, KernelFault) as fault:
            aside(f"{what} not looked at: {fault}")
            self.failed.append(what)
            return otherwise


def _here(packet: Packet, tries: _Tries, explanation: Explanation, *, of_client: bool) -> _Seen:
    facts = machine.facts()
    flows = partial(machine.flows, packet, of_client=of_client)
    return _Seen(
        facts,
        ways(packet, explanation, facts),
        tries.look("conntrack", flows, ()),
        tries.look("rules of others", foreign_rules, ()),
    )


def _recalled(path: str, tries: _Tries, _: Explanation) -> _Seen | None:
    """Of a single packet nobody asked that machine."""
    snapshot = recall(Path(path))
    tries.failed.append("routes of this packet and its flows, which no snapshot has")
    if snapshot.facts is None:
        return None
    return _Seen(snapshot.facts, Ways(), (), snapshot.foreign)


def _rules(
    packet: Packet, explanation: Explanation, wanted: Desired, snapshot: str, tries: _Tries
) -> Iterator[Finding]:
    """What the kernel does not hold as it should, as far as this packet meets it."""
    if explanation.service is None:
        only = Only("", packet.destination, packet.port, packet.protocol)
    else:
        only = Only(str(explanation.service))
    want = partial(next, _again_and_again(wanted, only))
    none: Sequence[Difference] = ()
    differing = tries.look("our rules", lambda: lasting(want, snapshot, only)[1], none)
    if not differing:
        return
    first, *others = differing
    more = f" (and {len(others)} more)" if others else ""
    subject = explanation.service or "our rules"
    yield Finding(
        Cause.RULES,
        any(of.kind is not DifferenceKind.EXTRA or not of.service for of in differing),
        f"the kernel does not hold {subject} as it should: {first.kind}: {first.what}{more}",
        _repair(wanted, only),
    )


def _again_and_again(wanted: Desired, only: Only) -> Iterator[Desired]:
    """What is wanted, and what the headgate that runs here wants by then, of those asked for."""
    yield wanted
    while True:
        yield live(only.service.partition(":")[0]) or wanted


def _repair(wanted: Desired, only: Only) -> str:
    name = only.service.partition(":")[0]
    every = f"`headgate diff {name}`" if name else "`headgate diff`"
    if wanted.running is None:
        return f"{every} shows all; a headgate that runs repairs it"
    watch = "who changes it again and again: `headgate diff --watch`"
    return f"{every} shows all; the headgate that runs here repairs it within a second; {watch}"
