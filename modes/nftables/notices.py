"""Which commits of others are news to the nftables mode, and what does it say of them? Pure."""

from __future__ import annotations

from endpoints.names import Family
from modes.base import Foreign
from modes.commits import Change, Commit, brief, described
from modes.nftables.sets import set_specs
from modes.nftables.skeleton import TABLE

MARKS = (TABLE.encode() + b"\0",)
"""What is in every message about something of ours."""

_MAPS = frozenset(spec.id.set_name for spec in set_specs(Family.IPV4) if spec.data)


def is_ours(change: Change) -> bool:
    """Whether it is about one of our tables, or what is in them."""
    return change.table == TABLE


def judge(commit: Commit) -> tuple[Foreign, ...]:
    """Every change of our tables is news; what packets and time do to them nobody is told."""
    what = described(commit.changes, lambda name: "map" if name in _MAPS else "set")
    return (Foreign(brief(what), commit.author, commit.pid),)
