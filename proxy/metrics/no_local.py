"""How many Service ports have endpoints elsewhere only, under traffic policy Local? Pure.

Kept up to date with each Service that is planned, so that no sync walks all of them.
"""

from __future__ import annotations

from collections import Counter

from endpoints.names import Family, ObjectName
from endpoints.plan import FrontendKind, ServicePlan, TrafficPolicy
from modes.base import Plans

Key = tuple[Family, str]
"""A family, and `internal` or `external`."""


class NoLocal:
    """Counts, by Service."""

    def __init__(self) -> None:
        self.counts: Counter[Key] = Counter()
        self._of: dict[ObjectName, Counter[Key]] = {}
        """Only Services that lack something."""

    def clear(self) -> None:
        """No Service is known any more."""
        self.counts.clear()
        self._of.clear()

    def put(self, service: ObjectName, plans: Plans) -> None:
        """A Service means this for the node now."""
        before = self._of.pop(service, None)
        if before:
            self.counts.subtract(before)
        now = [(plan.family, policy) for plan in plans for policy in lacking(plan)]
        if now:
            self._of[service] = Counter(now)
            self.counts.update(now)


def lacking(plan: ServicePlan) -> tuple[str, ...]:
    """Under which policies a Service port has endpoints, and none that may be used here."""
    if plan.local or not plan.has_any:
        return ()
    local = [front for front in plan.frontends if front.policy is TrafficPolicy.LOCAL]
    internal = any(front.kind is FrontendKind.CLUSTER_IP for front in local)
    external = any(front.kind is not FrontendKind.CLUSTER_IP for front in local)
    return ("internal",) * internal + ("external",) * external
