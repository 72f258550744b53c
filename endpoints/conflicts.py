"""Which of several Services that claim the same address, port and protocol has it? Pure.

The one that came first: by creationTimestamp, then by namespace and name; one without timestamp
comes last. The API server does not forbid two Services the same external IP and port, and two
manifests may even agree on a NodePort. An index of claims makes the cost that of the change.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Set as AbstractSet

import msgspec

from endpoints.exposure import Claim, Exposure
from endpoints.names import ObjectName


class Claimant(msgspec.Struct, frozen=True, order=True, gc=False):
    """A Service as a claimant; the least one has what several claim."""

    undated: bool
    created: str
    name: ObjectName


class Tally(msgspec.Struct):
    """What a batch of changes comes to for the Services around it."""

    dirty: set[ObjectName] = msgspec.field(default_factory=set)
    losses: dict[tuple[ObjectName, Claim], int] = msgspec.field(default_factory=dict)
    """Times lost minus times regained: above 0, the Service lost what it had or asked for."""
    services: int = 0
    """Services that are exposed differently."""
    slices: int = 0
    """EndpointSlices that say something else of a Service that is ours."""
    triggered: list[float] = msgspec.field(default_factory=list)
    """When their changes were caused, in seconds since 1970, as far as they tell."""

    def count(self, claimant: Claimant, claim: Claim, losses: int) -> None:
        """A claim was lost (1) or is no longer lost (-1)."""
        self.dirty.add(claimant.name)
        key = (claimant.name, claim)
        self.losses[key] = self.losses.get(key, 0) + losses


class Claims:
    """All claims of all Services, and who lost which."""

    def __init__(self) -> None:
        self._claimants: dict[Claim, tuple[Claimant, ...]] = {}
        """Sorted: the first has it."""
        self._lost: dict[ObjectName, set[Claim]] = {}

    def copy(self) -> Claims:
        """The same claims, which further changes of these leave alone."""
        other = Claims()
        other._claimants = dict(self._claimants)
        other._lost = {service: set(claims) for service, claims in self._lost.items()}
        return other

    def lost(self, service: ObjectName) -> AbstractSet[Claim]:
        """What the Service claims and another one has."""
        return self._lost.get(service, frozenset())

    def holder(self, claim: Claim) -> ObjectName:
        """The Service that has what it claims. Raises KeyError if none claims it."""
        return self._claimants[claim][0].name

    def change(self, old: Exposure | None, new: Exposure | None, tally: Tally) -> None:
        """A Service is exposed differently, newly, or no more; tell the tally who is affected."""
        leaving = dict(old.claims()) if old else {}
        joining = dict(new.claims()) if new else {}
        if old and new and old.created == new.created:
            kept = leaving.keys() & joining.keys()
            leaving = {claim: row for claim, row in leaving.items() if claim not in kept}
            joining = {claim: row for claim, row in joining.items() if claim not in kept}
        if old and leaving:
            alone = (_claimant(old),)
            for claim in leaving:
                self._leave(claim, alone, tally)
        if new and joining:
            alone = (_claimant(new),)
            for claim in joining:
                self._join(claim, alone, tally)

    def _join(self, claim: Claim, alone: tuple[Claimant], tally: Tally) -> None:
        before = self._claimants.setdefault(claim, alone)
        if before is alone:
            return
        after = list(before)
        insort(after, alone[0])
        self._claimants[claim] = tuple(after)
        loser = before[0] if after[0] is alone[0] else alone[0]
        self._lost.setdefault(loser.name, set()).add(claim)
        tally.count(loser, claim, 1)

    def _leave(self, claim: Claim, alone: tuple[Claimant], tally: Tally) -> None:
        before = self._claimants.pop(claim)
        if len(before) == 1:
            return
        after = tuple(claimant for claimant in before if claimant != alone[0])
        self._claimants[claim] = after
        relieved = after[0] if before[0] == alone[0] else alone[0]
        lost = self._lost[relieved.name]
        lost.remove(claim)
        if not lost:
            del self._lost[relieved.name]
        tally.count(relieved, claim, -1)


def _claimant(of: Exposure) -> Claimant:
    return Claimant(not of.created, of.created or "", of.name)
