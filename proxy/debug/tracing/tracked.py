"""What does conntrack tell of a flow, where the kernel cannot trace its packets?

A new entry, its first answer, and its end. A packet that is dropped never becomes an entry.
"""

from __future__ import annotations

from conntrack import flows
from conntrack.flows import Flow
from endpoints.names import Protocol
from modes.tracing.counted import counted
from modes.tracing.kernel import FlowNews, clock
from modes.tracing.outcome import PATIENCE_SECONDS, Outcome
from modes.tracing.program import Aim
from modes.tracing.programs import legacy_counts
from proxy.debug.tracing.served import Services
from proxy.debug.tracing.traced import (
    Hop,
    Traced,
    TracedFlow,
    after_words,
    elsewhere,
    end,
    place,
)
from proxy.debug.tracing.waiting import announce, waited

_SEEN_REPLY = 1 << 1  # IPS_SEEN_REPLY
_NEW, _DELETE = 1 << 8, 1 << 8 | 2  # of NFNL_SUBSYS_CTNETLINK
_DROPPED = "conntrack tells of packets that got through: one that was dropped is not among them."


class _Open:
    """A flow that is not answered yet."""

    def __init__(self, flow: Flow, now: float) -> None:
        self.flow = flow
        self.began = now
        self.answered: float | None = None
        self.ended = False

    def is_known(self, now: float) -> bool:
        """Whether it is known what became of it."""
        return self.ended or self.answered is not None or now - self.began >= PATIENCE_SECONDS


def traced(aim: Aim, seconds: float, count: int, known: Services, why: str) -> Traced:
    """Listen until so many flows were answered or not, or for so long. Raises EnvironmentFault."""
    news = FlowNews()
    before = legacy_counts(aim.family)
    try:
        announce(aim, seconds)
        found = _followed(news, aim, seconds, count)
    finally:
        news.close()
    advice = [f"Only what conntrack tells: {why}."]
    if not found:
        advice += [*waited(aim, seconds), _DROPPED]
        dropping = counted(before, legacy_counts(aim.family))
        advice += [f"Meanwhile a packet was taken by iptables-legacy: {rule}" for rule in dropping]
    name = known.name(aim.address, aim.port, aim.protocol)
    flows_told = tuple(_told(one, aim, known) for one in found)
    return Traced(place(aim), name, flows_told, tuple(advice), "conntrack")


def _followed(news: FlowNews, aim: Aim, seconds: float, count: int) -> list[_Open]:
    found: dict[flows.Way, _Open] = {}
    deadline = clock() + seconds
    while (now := clock()) < deadline:
        waiting = [one for one in found.values() if not one.is_known(now)]
        if len(found) >= count and not waiting:
            break
        until = min([deadline, *(one.began + PATIENCE_SECONDS for one in waiting)])
        for answer in news.hear(until - now):
            flow = flows.decode(aim.family, answer.payload) if answer.family else None
            if flow is None or not _is_meant(aim, flow):
                continue
            if flow.original not in found and len(found) < count and answer.kind == _NEW:
                found[flow.original] = _Open(flow, clock())
            if one := found.get(flow.original):
                _heard(one, flow, answer.kind)
    return list(found.values())


def _heard(one: _Open, flow: Flow, kind: int) -> None:
    if flow.status & _SEEN_REPLY and one.answered is None:
        one.answered = clock()
    if kind == _DELETE:
        one.ended = True
    else:
        one.flow = flow


def _is_meant(aim: Aim, flow: Flow) -> bool:
    to = flow.original.destination
    is_there = (flow.family, flow.protocol, to.address, to.port) == (
        aim.family,
        aim.protocol,
        aim.address,
        aim.port,
    )
    return is_there and aim.source in (None, flow.original.source.address)


def _told(one: _Open, aim: Aim, known: Services) -> TracedFlow:
    asked, back = one.flow.original, one.flow.reply
    endpoint = end(back.source.address, back.source.port)
    seen = back.destination.address
    stays = f"source stays {seen}"
    if seen != asked.source.address:
        stays = f"source {asked.source.address} becomes {seen}"
    outcome, last = _outcome(one)
    name = known.name(aim.address, aim.port, aim.protocol)
    named = f"{name} {place(aim)}" if name else place(aim)
    is_endpoint = None
    if back.source != asked.destination:  # IPVS without net.ipv4.vs.conntrack hides the endpoint
        is_endpoint = known.serves(aim.address, aim.port, aim.protocol, endpoint)
    stray = elsewhere(name) if is_endpoint is False else ""
    asked_text = f"{end(*asked.source)} -> {end(*asked.destination)}"
    back_text = f"{end(*back.source)} -> {end(*back.destination)}"
    return TracedFlow(
        outcome,
        f"{named} -> {endpoint}{stray}; {stays}; {last}",
        end(*asked.source),
        endpoint,
        end(*back.destination),
        seen != asked.source.address,
        None if one.answered is None else one.answered - one.began,
        (Hop("conntrack", f"{asked_text}; its answer is {back_text}"),),
        is_endpoint=is_endpoint,
    )


def _outcome(one: _Open) -> tuple[Outcome, str]:
    if one.answered is not None:
        return Outcome.REACHED, f"reply seen{after_words(one.answered - one.began)}"
    if one.ended and one.flow.protocol is Protocol.TCP:
        # A reset that answers the first segment ends the entry (nf_conntrack_proto_tcp.c); else an
        # entry without an answer stays for two minutes.
        return Outcome.REFUSED, "conntrack forgot it at once, as it does after a reset"
    return Outcome.UNANSWERED, f"no reply within {PATIENCE_SECONDS:.0f} s"
