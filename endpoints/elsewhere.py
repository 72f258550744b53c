"""At which ports would somebody have answered who asked for the wrong one? Pure."""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.plan import ServicePlan

_NAMED = 5


def ports_of(plans: Iterable[ServicePlan], address: str) -> str:
    """A sentence on the Service ports that an address has; empty if it has none."""
    found = [
        f"{frontend.port}/{plan.name.protocol} of {plan.name}"
        for plan in plans
        for frontend in plan.frontends
        if frontend.address == address
    ]
    if not found:
        return ""
    more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{address} has {', '.join(found[:_NAMED])}{more}."
