"""Which changes of iptables' rules by others concern a proxy? Pure.

Others, CNI plugins for one, change chains of their own in the same tables all the time.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from endpoints.names import Family
from modes import commits
from modes.base import Foreign
from modes.commits import Change, Commit, brief, described
from modes.wire import text
from modes.xtables.adopt import BUILT_IN, is_ours, target
from modes.xtables.names import Table
from modes.xtables.opaque import expressions, takes_all
from modes.xtables.rules import ChainName
from modes.xtables.trials import CHAIN

_TABLES = {table.value: table for table in Table}
_VERDICT_CHAIN = 2  # NFTA_VERDICT_CHAIN


def _begins(kind: int) -> bytes:
    """Kind and flags in the header of a message that deletes."""
    return struct.pack("=HH", 10 << 8 | kind, 0)


_RULE_CHAIN = 2  # NFTA_RULE_CHAIN
MARKS = (
    b"KUBE-",
    _begins(commits.DELTABLE),
    _begins(commits.DELRULE),
    *(text(_RULE_CHAIN, chain) for chain in sorted(BUILT_IN)),
)
"""What is worth reading: a rule that is deleted is told by its chain alone, a table by its name."""


class Place(NamedTuple):
    """A built-in chain."""

    family: Family
    table: str
    chain: str


Jumps = Mapping[Place, Counter[str]]
"""How often our rules in built-in chains jump to which chain."""


def jumps(family: Family, guests: Iterable[tuple[ChainName, str]]) -> dict[Place, Counter[str]]:
    """Those of a program's guests."""
    found: dict[Place, Counter[str]] = {}
    for chain, spec in guests:
        place = Place(family, chain.table.value, chain.name)
        found.setdefault(place, Counter())[target(spec)] += 1
    return found


def concerns(change: Change) -> bool:
    """Whether it may be about our rules.

    In built-in chains, deletions may be of our jumps, and what takes all may stand before them.
    """
    table = _TABLES.get(change.table)
    if table is None:
        return False
    if change.kind == commits.DELTABLE:
        return True
    if change.name in BUILT_IN:
        if change.kind == commits.NEWRULE:
            return takes_all(change.payload)
        return change.kind == commits.DELRULE
    return change.name != CHAIN and is_ours(ChainName(table, change.name))


def doubts(commit: Commit) -> tuple[list[Change], set[Place]]:
    """What of a commit is news for sure, and the built-in chains whose jumps of ours are in doubt.

    What a deleted table held went with it.
    """
    gone = {change[1:3] for change in commit.changes if change.kind == commits.DELTABLE}
    sure = [change for change in commit.changes if change.name not in BUILT_IN]
    places = {
        Place(change.family, change.table, change.name)
        for change in commit.changes
        if change.name in BUILT_IN and change[1:3] not in gone
    }
    return sure, places


def lacking(wanted: Counter[str], rules: Sequence[bytes]) -> list[str]:
    """The chains to which too few of these rules, as nf_tables dumps them, jump."""
    return [
        name
        for name, number in wanted.items()
        if sum(text(_VERDICT_CHAIN, name) in rule for rule in rules) < number
    ]


def hidden(wanted: Counter[str], rules: Iterable[bytes]) -> list[str]:
    """The chains to which jumps lead that no packet comes to, for a rule before takes them all."""
    found: dict[str, None] = {}
    is_ended = False
    for rule in rules:
        name = expressions(rule).target
        if name in wanted:
            found |= {name: None} if is_ended else {}
        else:
            is_ended |= takes_all(rule)
    return list(found)


def news(commit: Commit, sure: Iterable[Change], lost: Iterable[str]) -> tuple[Foreign, ...]:
    """What to say of it."""
    what = [*lost, *described(sure)]
    return (Foreign(brief(what), commit.author, commit.pid),) if what else ()


class Size(NamedTuple):
    """What the kernel says at once of a table of iptables-legacy (`struct ipt_getinfo`)."""

    entries: int
    """Rules, and one or two for each chain."""
    octets: int
    hooks: tuple[int, ...]
    """Where the rules of each built-in chain begin and where they end."""


Sizes = Mapping[tuple[Family, str], Size]


def differences(noted: Sizes, found: Sizes) -> tuple[Foreign, ...]:
    """What has changed in size; a table that nobody noted is nobody's concern."""
    return tuple(
        Foreign(f"table {table} ({family}) {_difference(size, found.get((family, table)))}")
        for (family, table), size in noted.items()
        if found.get((family, table)) != size
    )


def _difference(noted: Size, found: Size | None) -> str:
    if found is None:
        return "is gone"
    if found.entries != noted.entries:
        return f"has {found.entries:,} entries instead of {noted.entries:,}"
    return f"has {found.entries:,} entries as before, but others"
