"""What ends of all that drains? Pure, but for the question who has connections left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modes.ipvs.draining import Draining, entry
from modes.ipvs.ipsets import SetChange, SetVerb
from modes.ipvs.program import Owned, Steps, registered
from modes.ipvs.servers import Command, FoundReal, RealServer, ServerKey, Verb


def ended(
    draining: Draining,
    reals: Callable[[ServerKey], Mapping[RealServer, FoundReal]],
    now: float,
) -> Steps:
    """Who is idle, and who has had its time; they drain no more.

    `reals`: what the kernel holds of a virtual server.
    """
    change = Steps()
    for key in draining:
        due = draining.due(key, reals(key), now)
        is_last = draining.lingers_without(key, due)
        if is_last:
            change.commands.append(Owned(None, Command(Verb.DELETE_SERVER, key)))
            if key.address:
                change.removals.append(SetChange(SetVerb.DELETE, registered(key)))
        for real in due:
            draining.end(key, real)
            if not is_last:
                change.commands.append(Owned(None, Command(Verb.DELETE_REAL, key, real=real)))
            if not draining.shares_entry(key, real):
                change.removals.append(SetChange(SetVerb.DELETE, entry(key, real)))
    return change
