"""Where does a packet go, who may answer it, and why?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from socket import if_nameindex

import msgspec

from endpoints.addresses import bracketed
from endpoints.explain import Drop, Explanation, Forward, Hop, Packet, Pass, Place, Reject, walk
from endpoints.scheduling import is_even
from modes.registry import MODES, places
from proxy.debug.circumstances import Circumstances, circumstances
from proxy.debug.question import Question, question, target
from proxy.debug.screen import Screen, Style, screen
from proxy.debug.table import as_json, percent, wants_json
from proxy.desired.choice import desired
from proxy.facts.facts import Ways
from proxy.facts.finding import Finding
from proxy.settings.refusal import ConfigError

_NAMED_IN_HEADLINE = 4
_ROWS = 10
NOBODY_LOOKED = "this machine, its rules, routes and conntrack; --check does"


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that may get the packet."""

    endpoint: str
    node: str | None
    zone: str | None
    probability: float | None
    """None: a scheduler of IPVS chooses, by what it knows of clients and endpoints."""
    masqueraded: bool


class Unused(msgspec.Struct, frozen=True):
    """An endpoint of the Service that cannot get it."""

    endpoint: str
    reason: str


class Told(msgspec.Struct, frozen=True):
    """A step of the way, at the place's name in a mode."""

    place: str
    text: str


class Answer(msgspec.Struct, frozen=True):
    """What `headgate explain -o json` says."""

    verdict: str
    summary: str
    packet: Packet
    service: str | None
    candidates: tuple[Candidate, ...]
    steps: tuple[Told, ...]
    unused: tuple[Unused, ...]
    affinity_seconds: int | None
    advice: str
    assumed: str
    origin: str
    """Who says what should be."""
    is_broken: bool = False
    """Whether this machine keeps the packet from that, for certain."""
    findings: tuple[Finding, ...] = ()
    """What of this machine speaks against it."""
    reply: str = ""
    """What an answer needs; empty where there is none."""
    not_looked_at: tuple[str, ...] = ()
    """What of this machine was not held against it."""


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate explain`; 0 whatever the verdict is, 1 if something was refused.

    With `--check` 1, too, if this machine does otherwise, and 2 if not all of it could be looked
    at. Raises ConfigError and EnvironmentFault.
    """
    json = wants_json(flags.output)
    aim = target(flags.target)
    check = flags.check and not flags.snapshot
    wanted = desired(flags, otherwise=MODES[0], here=check)
    node, plans = wanted.node, wanted.plans
    source = getattr(flags, "from")
    asked = question(aim, source, flags.via, flags.interface, node, plans)
    scheduler = wanted.of_modes.ipvs.scheduler if wanted.mode == "ipvs" else ""
    explanation = walk(plans, node, asked.packet, scheduler)
    around = Circumstances((), Ways(), (NOBODY_LOOKED,))
    looks_here = (check or wanted.running is not None) and not flags.snapshot
    if looks_here and flags.interface and flags.interface not in dict(if_nameindex()).values():
        raise ConfigError("--interface", flags.interface, "is no link of this machine")
    if looks_here or flags.snapshot:
        of_client = bool(source) and not asked.assumed
        around = circumstances(
            asked.packet, explanation, wanted, flags.snapshot, of_client=of_client
        )
    own = (of.scheduler for of in plans if of.name == explanation.service and of.scheduler)
    even = is_even(scheduler and next(own, scheduler))
    named = places(wanted.mode, explanation)
    told = answer(asked, explanation, named, wanted.origin, around, even=even)
    print(as_json(told) if json else "\n".join(text(told, screen())))
    if flags.check and any(of.breaks for of in around.findings):
        return 1
    if flags.check and around.not_looked_at and not flags.snapshot:
        return 2
    return 1 if wanted.problems else 0


def answer(
    asked: Question,
    explanation: Explanation,
    named: Iterable[str],
    origin: str,
    around: Circumstances,
    *,
    even: bool = True,
) -> Answer:
    """The explanation of a packet, put together for a reader; `named`: the places of its steps.

    `even`: all candidates get the same share.
    """
    verdict = explanation.verdict
    hops = sorted(verdict.hops) if isinstance(verdict, Forward) else []
    return Answer(
        verdict=type(verdict).__name__.upper(),
        summary=_summary(asked.packet, explanation, hops, even=even),
        packet=asked.packet,
        service=str(explanation.service) if explanation.service else None,
        candidates=tuple(
            Candidate(
                str(hop.endpoint),
                hop.endpoint.node,
                hop.endpoint.zone,
                1 / len(hops) if even else None,
                hop.masqueraded,
            )
            for hop in hops
        ),
        steps=tuple(
            Told(place, step.text) for place, step in zip(named, explanation.steps, strict=True)
        ),
        unused=tuple(Unused(str(of.endpoint), of.reason) for of in explanation.unused),
        affinity_seconds=explanation.affinity_seconds,
        advice=explanation.advice,
        assumed=asked.assumed,
        origin=origin,
        is_broken=any(of.breaks for of in around.findings),
        findings=around.findings,
        reply=_reply(asked.packet, hops, around.ways),
        not_looked_at=around.not_looked_at,
    )


_STYLES = {"FORWARD": Style.GOOD, "DROP": Style.BAD, "REJECT": Style.BAD, "PASS": Style.DOUBT}


def text(found: Answer, shown: Screen) -> list[str]:
    """The verdict, the steps to it, what was left out, and what speaks against it."""
    broken = next((of for of in found.findings if of.breaks), None)
    verdict = shown.painted(found.verdict, _STYLES[found.verdict])
    rows: list[tuple[str, str]] = []
    if broken is None:
        doubt = "; what may break it is below" if found.findings else ""
        headline = (verdict, f"{found.summary}{doubt}")
    else:
        headline = (shown.painted("BROKEN", Style.BAD), broken.text)
        rows += [("what to do", broken.remedy), ("otherwise", f"{verdict}   {found.summary}")]
    rows += [(f"{n:<3}{step.place}", step.text) for n, step in enumerate(found.steps, 1)]
    if len(found.candidates) > _NAMED_IN_HEADLINE:
        rows += _rows("candidate", [candidate.endpoint for candidate in found.candidates])
    rows += [("reply", found.reply)] if found.reply else []
    room = max((len(of.endpoint) for of in found.unused[:_ROWS]), default=0)
    rows += _rows("not used", [f"{of.endpoint:<{room}}   {of.reason}" for of in found.unused])
    for of in found.findings:
        if of is not broken:
            rows += [("breaks it too" if of.breaks else "may break it", of.text)]
            rows += [("what to do", of.remedy)] if of.remedy else []
    lines = [*shown.table([headline]), *shown.table(rows, "  ")]
    if found.advice:
        lines += shown.prose(found.advice, "  ")
    if found.not_looked_at:
        lines += shown.prose(f"Not looked at: {', '.join(found.not_looked_at)}.", "  ")
    if found.assumed:
        lines += shown.prose(found.assumed, "  ")
    return lines


def _rows(title: str, cells: Sequence[str]) -> list[tuple[str, str]]:
    """The first cells under a title, and how many more there are."""
    rows = [(title, cell) for cell in cells[:_ROWS]]
    if len(cells) > _ROWS:
        rows.append(("", f"and {len(cells) - _ROWS} more: -o json has all"))
    return rows


def _reply(packet: Packet, hops: Sequence[Hop], ways: Ways) -> str:
    """How an answer finds back."""
    if not hops:
        return ""
    to = {packet.source if not hop.masqueraded else "this node" for hop in hops}
    place = f"{bracketed(packet.destination)}:{packet.port}"
    need = "must come through this node, whose conntrack entry makes it one of"
    text = f"goes to {' or '.join(sorted(to))}, and {need} {place}"
    links = sorted({way.interface for way in ways.back if way.interface})
    return f"{text}; route back by {', '.join(links)}" if links else text


def _summary(packet: Packet, explanation: Explanation, hops: Sequence[Hop], *, even: bool) -> str:
    """One sentence after the verdict."""
    service = explanation.service
    place = f"{bracketed(packet.destination)}:{packet.port}/{packet.protocol}"
    match explanation.verdict:
        case Forward():
            return f"{service} -> {_ends(hops, even=even)}; {_source(packet, hops)}"
        case Drop():
            return _why_dropped(packet, explanation)
        case Reject() if service is None:
            return f"no Service has {place}"
        case Reject():
            return f"{service} has no {'ready endpoint' if explanation.unused else 'endpoints'}"
        case Pass():
            return f"{place} is left alone"


def _why_dropped(packet: Packet, explanation: Explanation) -> str:
    match explanation.steps[-1].place:
        case Place.SOURCE_RANGES:
            return f"{explanation.service} does not accept {packet.source}"
        case Place.MARTIANS:
            return f"{packet.source} is not the node itself, and {packet.destination} is its own"
        case _:
            return f"{explanation.service} has no endpoint on this node that it may use"


def _ends(hops: Sequence[Hop], *, even: bool) -> str:
    share = percent(len(hops))
    if len(hops) > _NAMED_IN_HEADLINE:
        return f"one of {len(hops)} endpoints" + (f" ({share} each)" if even else "")
    return " or ".join(f"{hop.endpoint} ({share})" if even else str(hop.endpoint) for hop in hops)


def _source(packet: Packet, hops: Sequence[Hop]) -> str:
    """What the endpoint sees."""
    masqueraded = [hop for hop in hops if hop.masqueraded]
    if not masqueraded:
        return f"source stays {packet.source}"
    if len(masqueraded) == len(hops):
        return "source becomes the node's"
    exceptions = ", ".join(str(hop.endpoint) for hop in masqueraded)
    return f"source stays {packet.source}, for {exceptions} it becomes the node's"
