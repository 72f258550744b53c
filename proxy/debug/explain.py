"""Where does a packet go, who may answer it, and why?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import msgspec

from endpoints.addresses import bracketed
from endpoints.explain import Drop, Explanation, Forward, Hop, Packet, Pass, Place, Reject, walk
from modes.registry import MODES, places
from proxy.debug.offline import offline
from proxy.debug.question import Question, question, target
from proxy.debug.table import as_json, percent, wants_json

_NAMED_IN_HEADLINE = 4
_ROWS = 10


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that may get the packet."""

    endpoint: str
    node: str | None
    zone: str | None
    probability: float
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


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate explain`; 0 whatever the verdict is, 1 if something was refused.

    Raises ConfigError.
    """
    json = wants_json(flags.output)
    aim = target(flags.target)
    seen = offline(flags, otherwise=MODES[0])
    node, plans = seen.state.node, seen.plans()
    asked = question(aim, getattr(flags, "from"), flags.via, flags.interface, node, plans)
    explanation = walk(plans, node, asked.packet)
    found = answer(asked, explanation, places(seen.mode, explanation))
    print(as_json(found) if json else "\n".join(text(found)))
    return 1 if seen.problems else 0


def answer(asked: Question, explanation: Explanation, named: Iterable[str]) -> Answer:
    """The explanation of a packet, put together for a reader; `named`: the places of its steps."""
    verdict = explanation.verdict
    hops = sorted(verdict.hops) if isinstance(verdict, Forward) else []
    return Answer(
        verdict=type(verdict).__name__.upper(),
        summary=_summary(asked.packet, explanation, hops),
        packet=asked.packet,
        service=str(explanation.service) if explanation.service else None,
        candidates=tuple(
            Candidate(
                str(hop.endpoint),
                hop.endpoint.node,
                hop.endpoint.zone,
                1 / len(hops),
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
    )


def text(found: Answer) -> list[str]:
    """The verdict, the steps to it, and what was left out."""
    width = max((len(step.place) for step in found.steps), default=0)
    width = max(width, len("not used") - 3)
    lines = [f"{found.verdict}   {found.summary}"]
    lines += [
        f"  {number:<3}{step.place:<{width}}   {step.text}"
        for number, step in enumerate(found.steps, 1)
    ]
    if len(found.candidates) > _NAMED_IN_HEADLINE:
        rows = [candidate.endpoint for candidate in found.candidates]
        lines += _rows("candidate", width, rows)
    room = max((len(of.endpoint) for of in found.unused[:_ROWS]), default=0)
    rows = [f"{of.endpoint:<{room}}   {of.reason}" for of in found.unused]
    lines += _rows("not used", width, rows)
    if found.advice:
        lines.append(f"  {found.advice}")
    if found.assumed:
        lines.append(f"  Without --from, the source is assumed: {found.assumed}.")
    return lines


def _rows(title: str, width: int, rows: Sequence[str]) -> list[str]:
    """The first rows under a title, and how many more there are."""
    lines = [f"  {title:<{width + 3}}   {row}" for row in rows[:_ROWS]]
    if len(rows) > _ROWS:
        lines.append(f"  {'':<{width + 3}}   and {len(rows) - _ROWS} more: -o json has all")
    return lines


def _summary(packet: Packet, explanation: Explanation, hops: Sequence[Hop]) -> str:
    """One sentence after the verdict."""
    service = explanation.service
    place = f"{bracketed(packet.destination)}:{packet.port}/{packet.protocol}"
    match explanation.verdict:
        case Forward():
            return f"{service} -> {_ends(hops)}; {_source(packet, hops)}"
        case Drop():
            return _why_dropped(packet, explanation)
        case Reject() if service is None:
            return f"no Service has {place}"
        case Reject():
            return f"{service} has no endpoints"
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


def _ends(hops: Sequence[Hop]) -> str:
    share = percent(len(hops))
    if len(hops) > _NAMED_IN_HEADLINE:
        return f"one of {len(hops)} endpoints ({share} each)"
    return " or ".join(f"{hop.endpoint} ({share})" for hop in hops)


def _source(packet: Packet, hops: Sequence[Hop]) -> str:
    """What the endpoint sees."""
    masqueraded = [hop for hop in hops if hop.masqueraded]
    if not masqueraded:
        return f"source stays {packet.source}"
    if len(masqueraded) == len(hops):
        return "source becomes the node's"
    exceptions = ", ".join(str(hop.endpoint) for hop in masqueraded)
    return f"source stays {packet.source}, for {exceptions} it becomes the node's"
