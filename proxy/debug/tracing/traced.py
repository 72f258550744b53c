"""How is told what became of traced packets? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from endpoints.addresses import bracketed
from endpoints.names import Protocol
from modes.nftables.skeleton import TABLE
from modes.tracing.counted import CountedRule
from modes.tracing.events import Ends, Header
from modes.tracing.following import Flow, Matched, RuleAt, Seen, Way, hook_name
from modes.tracing.outcome import PATIENCE_SECONDS, Became, Loss, Outcome
from modes.tracing.program import FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING, Aim
from modes.tracing.rules import RuleText
from proxy.debug.screen import PLAIN, Screen, Style
from proxy.debug.tracing.losing import ROUTED, icmp_words, where_lost
from proxy.debug.tracing.served import Services
from proxy.facts.finding import Finding

_RESET, _SYN = 0x04, 0x02
_NAMED_RULES = 3
_SILENT = "the endpoint does not answer, or answers another way"
_STRAY = "conntrack keeps an old flow there, or a rule of others sends packets there"
_STYLES = {
    Outcome.REACHED: Style.GOOD,
    Outcome.REFUSED: Style.BAD,
    Outcome.LOST: Style.BAD,
    Outcome.UNANSWERED: Style.DOUBT,
}


class Look(msgspec.Struct, frozen=True):
    """How what is only a number in a packet's way is called."""

    rule: Callable[[RuleAt], RuleText]
    link: Callable[[int], str]
    services: Services = Services()
    is_quiet: bool = False
    """Whether rules of nf_tables are not told of."""
    causes: Callable[[Flow, Became], tuple[Finding, ...]] = lambda *_: ()
    """What on this machine explains a loss."""
    counted: Callable[[], tuple[CountedRule, ...]] = tuple
    """Rules that dropped something meanwhile, and do not say whose packet."""


class Hop(msgspec.Struct, frozen=True):
    """A step of a packet's way."""

    place: str
    """A hook of netfilter, or a chain of ours."""
    text: str


class TracedFlow(msgspec.Struct, frozen=True):
    """What became of one flow."""

    outcome: Outcome
    summary: str
    client: str
    """`10.244.1.9:43210`, as a packet arrives."""
    endpoint: str = ""
    """Where it was sent on to; empty: it did not come so far."""
    source: str = ""
    """What the endpoint sees as the sender."""
    is_masqueraded: bool = False
    reply_seconds: float | None = None
    forth: tuple[Hop, ...] = ()
    """The way of the client's packet."""
    back: tuple[Hop, ...] = ()
    """That of the answer."""
    causes: tuple[Finding, ...] = ()
    """What this machine does to such packets, besides rules."""
    is_endpoint: bool | None = None
    """Whether `endpoint` may get packets of the Service; None: nobody here knows, or the connection
    was open already, which an endpoint that goes may keep."""

    @property
    def is_fine(self) -> bool:
        """Whether it was answered, and not by somebody else."""
        return self.outcome is Outcome.REACHED and self.is_endpoint is not False


class Traced(msgspec.Struct, frozen=True):
    """What `headgate trace -o json` says."""

    target: str
    service: str
    """`namespace/name:port`; empty: nobody here knows."""
    flows: tuple[TracedFlow, ...]
    advice: tuple[str, ...] = ()
    by: str = "nf_tables"
    """Or `conntrack`, where packets cannot be traced."""


def told(flow: Flow, of: Became, look: Look, aim: Aim) -> TracedFlow:
    """One flow in words."""
    way, answer = flow.way, flow.answer
    now = way.latest.header.ends
    named = look.services.name(aim.address, aim.port, aim.protocol)
    head = f"{named} {place(aim)}" if named else place(aim)
    loss = _loss(of, look)
    causes = () if loss.is_certain else look.causes(flow, of)
    endpoint = end(now.destination, now.destination_port) if way.is_through else ""
    is_endpoint = None
    if endpoint and not _is_open_already(way.first.header):
        is_endpoint = look.services.serves(aim.address, aim.port, aim.protocol, endpoint)
    stray = elsewhere(named) if is_endpoint is False else ""
    why = next((cause.text for cause in causes if cause.breaks), loss.guess)
    if of.outcome is Outcome.UNANSWERED:
        why = why or (_STRAY if stray else _SILENT)
    return TracedFlow(
        Outcome.REFUSED if loss.is_refusal else of.outcome,
        f"{head}{_summary(flow, of, loss.text, stray)}{f': {why}' if why else ''}",
        end(flow.ends.source, flow.ends.source_port),
        endpoint,
        end(now.source, now.source_port) if way.is_through else "",
        way.is_through and now.source != flow.ends.source,
        of.reply_seconds,
        tuple(_hops(way, look)),
        tuple(_hops(answer, look)) if answer else (),
        causes,
        is_endpoint,
    )


def elsewhere(service: str) -> str:
    """What is said of a place that packets of a Service went to, and that is none of its own."""
    return f", which is no endpoint of {service}"


def after_words(seconds: float) -> str:
    """` after 0.4 ms`; empty for what was read in one go, of which only the order is known."""
    milliseconds = round(1000 * seconds, 1)
    return f" after {milliseconds} ms" if milliseconds else ""


def place(aim: Aim) -> str:
    """`10.96.7.7:80/TCP`."""
    return f"{end(aim.address, aim.port)}/{aim.protocol}"


class _Loss(NamedTuple):
    """Where a packet ended."""

    text: str = ""
    guess: str = ""
    """What may have done it, if nothing is certain."""
    is_refusal: bool = False
    is_certain: bool = False
    """Whether a rule did it."""


def _loss(of: Became, look: Look) -> _Loss:
    if of.rule is not None:
        is_refusal = look.rule(of.rule.rule).is_refusal
        return _Loss(_by_rule(of.rule, look), is_refusal=is_refusal, is_certain=True)
    if of.at is None:
        return _Loss()
    dropping = () if of.at.place.chain == ROUTED else look.counted()
    if not dropping:
        return _Loss(*where_lost(of.at, is_quiet=look.is_quiet))
    by = " or ".join(f"`{rule}`" for rule in dropping[:_NAMED_RULES])
    is_refusal = all(rule.is_refusal for rule in dropping)
    verb = "refused" if is_refusal else "dropped"
    hook = hook_name(of.at.place.hook)
    text = f"at {hook}: {verb} by iptables-legacy: {by}"
    return _Loss(text, is_refusal=is_refusal, is_certain=True)


def _summary(flow: Flow, of: Became, lost: str, stray: str) -> str:
    """What comes after the name of the place."""
    if of.loss is Loss.FORTH:
        return f", {lost}"
    way, answer = flow.way, flow.answer
    on = f" -> {_way_on(way, flow.ends, stray)}"
    if of.loss is Loss.BACK:
        return f"{on}; its reply, {lost}"
    if of.outcome is Outcome.UNANSWERED:
        return f"{on}; no reply within {PATIENCE_SECONDS:.0f} s"
    after = after_words(of.reply_seconds or 0)
    if of.outcome is Outcome.REFUSED and answer is not None:
        return f"{on}; {_refused(answer)}{after}"
    return f"{on}; reply seen{after}"


def _way_on(way: Way, asked: Ends, stray: str) -> str:
    ends = way.latest.header.ends
    source = f"source stays {ends.source}"
    if ends.source != asked.source:
        source = f"source {asked.source} becomes {ends.source}"
    return f"{end(ends.destination, ends.destination_port)}{stray}; {source}"


def _refused(answer: Way) -> str:
    header = answer.first.header
    if header.icmp is not None:
        return f"{header.ends.source} answers with ICMP ({icmp_words(header)})"
    return "it answers with a reset (nothing listens there, or it wants no more of this)"


def _by_rule(at: Matched, look: Look) -> str:
    said = look.rule(at.rule)
    verb = "refused" if said.is_refusal else "dropped"
    return f"at {hook_name(at.hook)}: {verb} by {_rule_place(at.rule)}{_rule_words(at, said)}"


def _rule_place(at: RuleAt) -> str:
    chain = f"chain {at.chain} of table {at.family} {at.table}"
    return chain if at.handle else f"the policy of {chain}"


def _rule_words(at: Matched, said: RuleText) -> str:
    if not at.rule.handle:
        return ""
    if not said.text:
        return f": rule with handle {at.rule.handle}"
    return f": {said.text}"


def end(address: str, port: int) -> str:
    """`10.244.1.2:8080`; of ICMP the address alone."""
    return f"{bracketed(address)}:{port}" if port else address


def _ends(ends: Ends) -> str:
    there = end(ends.destination, ends.destination_port)
    return f"{end(ends.source, ends.source_port)} -> {there}"


def _hops(way: Way, look: Look) -> Iterator[Hop]:
    """What of a way is worth a line: a beginning, a change, a turn, a rule, an end."""
    before: Seen | None = None
    for step in way.steps:
        if isinstance(step, Matched):
            yield _rule_hop(step, look)
            continue
        text = _seen(step, before, look)
        if text:
            yield Hop(hook_name(step.place.hook), text)
        before = step


def _seen(step: Seen, before: Seen | None, look: Look) -> str:
    hook, ends = step.place.hook, step.header.ends
    if before is None:
        return _first(step, look)
    turned = "" if ends == before.header.ends else f"becomes {_ends(ends)}"
    parts = [turned]
    if hook != before.place.hook:
        if hook == PREROUTING:
            parts.append(f"comes back by {look.link(step.arrived_by)}")
        elif hook == FORWARD:
            parts.append(f"goes on by {look.link(step.leaves_by)}")
        elif hook == INPUT:
            parts.append("is for this node itself")
        elif hook == OUTPUT:
            parts.append("is sent on by this node")
    if hook == POSTROUTING and step.place.chain.endswith("late"):
        parts.append(f"leaves by {look.link(step.leaves_by)}")
    if hook == INPUT and step.place.chain.endswith("late"):
        parts.append("reaches its process")
    return ", ".join(filter(None, parts))


def _first(step: Seen, look: Look) -> str:
    header = step.header
    what = _ends(header.ends)
    if header.icmp is not None:
        what += f" (ICMP: {icmp_words(header)})"
    elif header.tcp_flags & _RESET:
        what += " (reset)"
    elif _is_open_already(header):
        what += " (of a connection that is open already)"
    if step.place.hook == PREROUTING:
        return f"{what} arrives by {look.link(step.arrived_by)}"
    return f"{what} is sent by this node" if step.place.hook == OUTPUT else f"{what} is seen here"


def _is_open_already(header: Header) -> bool:
    return header.ends.protocol == Protocol.TCP.number and not header.tcp_flags & _SYN


def _rule_hop(step: Matched, look: Look) -> Hop:
    said = look.rule(step.rule)
    words = _rule_words(step, said).removeprefix(": ") or "policy"
    if step.verdict != "continue" and not words.endswith(step.verdict):
        words = f"{words} -> {step.verdict}"
    if step.rule.table == TABLE:
        return Hop(step.rule.chain, words)
    return Hop(hook_name(step.hook), f"{_rule_place(step.rule)}: {words}")


def text(found: Traced, shown: Screen = PLAIN) -> list[str]:
    """The answer first, then the way of each flow."""
    lines: list[str] = []
    for flow in found.flows:
        is_astray = flow.outcome is Outcome.REACHED and not flow.is_fine
        style = Style.DOUBT if is_astray else _STYLES[flow.outcome]
        verdict = shown.painted(flow.outcome, style)
        lines += shown.prose(f"{verdict}   {flow.summary}", hang="  ")
        rows = _rows(flow.forth, 1)
        if flow.back:
            rows += [("", "reply", ""), *_rows(flow.back, len(flow.forth) + 1)]
        lines += shown.table(rows, "  ")
        for advised in filter(None, (_advised(cause, flow.summary) for cause in flow.causes)):
            lines += shown.prose(advised, "  ")
    if not found.flows:
        nothing = shown.painted("NOTHING", Style.DOUBT)
        lines += shown.prose(f"{nothing}   no packet to {_asked(found)} was seen", hang="  ")
    for line in found.advice:
        lines += shown.prose(line, "  ")
    return lines


def _advised(cause: Finding, summary: str) -> str:
    """The cause and what to do; what the summary said is not said again."""
    if not summary.endswith(cause.text):
        return f"{cause.text}; {cause.remedy}".removesuffix("; ")
    return f"what to do: {cause.remedy}" if cause.remedy else ""


def _asked(found: Traced) -> str:
    return f"{found.service} {found.target}" if found.service else found.target


def _rows(hops: Iterable[Hop], first: int) -> list[Sequence[str]]:
    return [(str(number), hop.place, hop.text) for number, hop in enumerate(hops, first)]
