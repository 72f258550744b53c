"""Which rules are missing, which are too many, and where is the order wrong? Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from modes.xtables.delta import Changes, Owner, Placed, Whole
from modes.xtables.rules import ChainName


class Compared(NamedTuple):
    """What changes say of the rules that were found."""

    missing: tuple[Placed, ...]
    extra: tuple[Placed, ...]
    """Of the owner of their chain; None: of everybody or of nobody."""
    reordered: tuple[ChainName, ...]
    """Chains that hold the right rules, in another order."""


def compared(changes: Changes, found: Mapping[ChainName, Sequence[str]]) -> Compared:
    """The same difference by rules. Each chain is in it whole, or by single rules."""
    missing: list[Placed] = []
    extra: list[Placed] = []
    reordered: list[ChainName] = []
    for whole in (*changes.new, *changes.rewritten):
        have = found.get(whole.chain, ())
        lacking = list(_lacking(whole, have))
        wanted = Counter(whole.specs)
        beyond = [Placed(whole.owner, whole.chain, one) for one in _beyond(have, wanted)]
        if not lacking and not beyond and have:
            reordered.append(whole.chain)
        missing += lacking
        extra += beyond
    added = [*changes.added, *changes.guests]
    missing += _without(added, changes.deleted)
    extra += _without(changes.deleted, added)
    again = {_place(of) for of in added} & {_place(of) for of in changes.deleted}
    reordered += sorted({chain for chain, _ in again})
    for gone in changes.gone:
        extra += [Placed(gone.owner, gone.chain, one) for one in found.get(gone.chain, ())]
    return Compared(tuple(missing), tuple(extra), tuple(reordered))


def _lacking(whole: Whole, have: Sequence[str]) -> Iterator[Placed]:
    """The wanted rules that are not there, each with its owner."""
    left = Counter(have)
    for number, one in enumerate(whole.specs):
        if left[one] > 0:
            left[one] -= 1
        else:
            owner: Owner = whole.owners[number] if whole.owners else whole.owner
            yield Placed(owner, whole.chain, one)


def _beyond(have: Sequence[str], wanted: Counter[str]) -> Iterator[str]:
    """The rules that are there and not wanted, or not so often."""
    left = wanted.copy()
    for one in have:
        if left[one] > 0:
            left[one] -= 1
        else:
            yield one


def _place(of: Placed) -> tuple[ChainName, str]:
    return of.chain, of.spec


def _without(these: Sequence[Placed], others: Sequence[Placed]) -> Iterator[Placed]:
    """What is not among the others, or not so often."""
    left = Counter(map(_place, others))
    for placed in these:
        if left[_place(placed)] > 0:
            left[_place(placed)] -= 1
        else:
            yield placed
