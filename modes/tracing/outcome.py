"""What became of a flow, as far as it can be told by now? Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from modes.tracing.following import Flow, Matched, Seen, Way

PATIENCE_SECONDS = 3.0
"""So long an answer may take. TCP asks again after one second, and after two more."""
_SETTLED_SECONDS = 0.5
"""A packet crosses a kernel in one go: where it was seen last so long ago, it went no farther."""
_RESET = 0x04


class Outcome(StrEnum):
    """Of a flow."""

    REACHED = "REACHED"
    REFUSED = "REFUSED"
    """By a reset, or by ICMP."""
    UNANSWERED = "UNANSWERED"
    LOST = "LOST"


class Loss(StrEnum):
    """Whose packet was lost."""

    FORTH = "forth"
    BACK = "back"


class Became(msgspec.Struct, frozen=True):
    """What became of a flow."""

    outcome: Outcome
    loss: Loss | None = None
    at: Seen | None = None
    """Where the lost packet was seen last."""
    rule: Matched | None = None
    """The rule that dropped the packet; it may have answered it."""
    reply_seconds: float | None = None
    """From the packet to its answer, as this program read of them; None: not in this order."""


def became(flow: Flow, now: float) -> Became | None:
    """What became of it; None: wait until `due`."""
    way, answer = flow.way, flow.answer
    if way.refusal:
        return Became(Outcome.LOST, Loss.FORTH, way.latest, way.refusal)
    if way.is_through and answer and answer.is_through:
        return _answered(way, answer)
    if now < due(flow):
        return None
    if not way.is_through:
        return Became(Outcome.LOST, Loss.FORTH, way.latest)
    if answer:
        return Became(Outcome.LOST, Loss.BACK, answer.latest, answer.refusal)
    return Became(Outcome.UNANSWERED)


def due(flow: Flow) -> float:
    """When `became` may know more, if nothing happens until then."""
    way, answer = flow.way, flow.answer
    if not way.is_through:
        return way.last + _SETTLED_SECONDS
    return answer.last + _SETTLED_SECONDS if answer else way.began + PATIENCE_SECONDS


def _answered(way: Way, answer: Way) -> Became:
    header = answer.first.header
    is_refusal = header.tcp_flags & _RESET or header.icmp
    outcome = Outcome.REFUSED if is_refusal else Outcome.REACHED
    seconds = answer.began - way.began
    return Became(outcome, reply_seconds=seconds if seconds >= 0 else None)
