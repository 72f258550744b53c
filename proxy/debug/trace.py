"""Which way does a real packet take through this kernel, and is it answered?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from endpoints.addresses import family
from endpoints.node import NodeView
from modes.base import EnvironmentFault, Missing
from modes.tracing.following import Flow, Following
from modes.tracing.kernel import PacketTrace, clock, link_name
from modes.tracing.outcome import Became, Outcome, became, due
from modes.tracing.program import Aim
from proxy.debug.question import address, target
from proxy.debug.screen import screen
from proxy.debug.table import as_json, wants_json
from proxy.debug.tracing import tracked
from proxy.debug.tracing.causes import causes
from proxy.debug.tracing.served import Services, services
from proxy.debug.tracing.traced import Look, Traced, place, text, told
from proxy.debug.tracing.waiting import announce, waited
from proxy.desired.live import live
from proxy.settings.durations import SECOND, nanoseconds
from proxy.settings.refusal import ConfigError
from proxy.signals import end_at_once

_MOST = 100
_LOST = (
    "More happened than could be read: some steps may be missing. --from ADDR leaves out the"
    " packets of others."
)
_QUIET = (
    "Rules of nf_tables are not shown: iptables-legacy would write each of them to the kernel's"
    " log (net.netfilter.nf_log)."
)


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate trace`; 1 unless all came, and endpoints of the Service answered.

    Raises ConfigError, EnvironmentFault and KernelFault.
    """
    json = wants_json(flags.output)
    aim = _aim(flags.target, getattr(flags, "from"))
    seconds = _seconds(flags.timeout)
    count = _count(flags.count)
    known, node, doubt = _known()
    end_at_once()  # by SystemExit, and with it goes the table
    found = _traced(_Asked(aim, seconds, count, known, node))
    advice = (*_missing(len(found.flows), count, seconds), *found.advice, *doubt)
    found = msgspec.structs.replace(found, advice=advice)
    print(as_json(found) if json else "\n".join(text(found, screen())))
    is_fine = len(found.flows) == count and all(flow.is_fine for flow in found.flows)
    return 0 if is_fine else 1


def _missing(came: int, count: int, seconds: float) -> tuple[str, ...]:
    """Of a trace that saw some of its connections only."""
    return (f"{came} of {count} connections came within {seconds:g} s.",) * (0 < came < count)


def _known() -> tuple[Services, NodeView | None, tuple[str, ...]]:
    """What the running headgate knows, and a sentence if it does not say; packets do not wait."""
    try:
        desired = live()
    except EnvironmentFault as why:
        return Services(), None, (f"The Services of this node are not known: {why}.",)
    known = msgspec.structs.replace(services(desired), later=_again)
    return known, desired.node if desired else None, ()


def _again() -> Services:
    """What the running headgate knows by now; nothing if it does not say any more."""
    try:
        return services(live())
    except EnvironmentFault:
        return Services()


def _aim(to: str, source: str) -> Aim:
    aim = target(to)
    if not source:
        return Aim(aim.address, aim.port, aim.protocol)
    client = address("--from", source)
    if family(client) is not family(aim.address):
        reason = f"is {family(client)}, but {aim.address} is {family(aim.address)}"
        raise ConfigError("--from", source, reason)
    return Aim(aim.address, aim.port, aim.protocol, client)


def _seconds(given: str) -> float:
    try:
        duration = nanoseconds(given)
    except ValueError as error:
        raise ConfigError("--timeout", given, str(error)) from error
    if duration <= 0:
        raise ConfigError("--timeout", given, "must be above zero")
    return duration / SECOND


def _count(given: str) -> int:
    if not (given.isascii() and given.isdecimal() and 1 <= int(given) <= _MOST):
        raise ConfigError("--count", given, f"must be a number from 1 to {_MOST}")
    return int(given)


class _Asked(NamedTuple):
    """What is to be done."""

    aim: Aim
    seconds: float
    number: int
    known: Services
    node: NodeView | None


def _traced(asked: _Asked) -> Traced:
    aim, seconds, count, known, node = asked
    try:
        trace = PacketTrace(aim)
    except Missing as why:
        return tracked.traced(aim, seconds, count, known, str(why))
    with trace:
        announce(aim, seconds)
        following, is_partial = _followed(trace, aim, seconds, count)
        look = Look(
            trace.rule,
            link_name,
            known,
            trace.is_quiet,
            lambda flow, of: causes(aim, flow, of, node),
            trace.counted,
        )
        now = clock()
        flows = [
            told(flow, became(flow, now) or Became(Outcome.UNANSWERED), look, aim)
            for flow in following.flows
        ]
    advice = [_LOST] if is_partial else []
    advice += [_QUIET] if trace.is_quiet and flows else []
    advice += waited(aim, seconds) if not flows else []
    name = known.name(aim.address, aim.port, aim.protocol)
    return Traced(place(aim), name, tuple(flows), tuple(advice))


def _followed(trace: PacketTrace, aim: Aim, seconds: float, count: int) -> tuple[Following, bool]:
    """Listen until it is known what became of so many flows, or for so long."""
    following = Following(aim, count, trace.table)
    deadline = clock() + seconds
    is_narrow = is_partial = False
    while (now := clock()) < deadline:
        open_flows = [flow for flow in following.flows if became(flow, now) is None]
        if following.is_full and not open_flows:
            break
        events, was_more = trace.hear(_patience(open_flows, now, deadline))
        is_partial = is_partial or was_more
        for when, event in events:
            following.take(event, when)
        if following.is_full and not is_narrow:
            trace.narrow([_of(aim, flow) for flow in following.flows])
            is_narrow = True
    return following, is_partial


def _patience(flows: Sequence[Flow], now: float, deadline: float) -> float:
    return min([deadline, *map(due, flows)]) - now


def _of(aim: Aim, flow: Flow) -> Aim:
    ends = flow.ends
    return Aim(aim.address, aim.port, aim.protocol, ends.source, ends.source_port)
