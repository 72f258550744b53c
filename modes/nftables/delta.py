"""What must be said to the kernel so that it holds the new fragments? Pure.

`Applied` is the mode's memory of what the kernel was told. It works out a change without making
it, so that a transaction that fails leaves the memory as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress, filterfalse
from operator import ne

import msgspec

from endpoints.names import Family, ObjectName
from modes.nftables import netlink as nl
from modes.nftables.codec import additions, deletions
from modes.nftables.elements import (
    Elements,
    Fragment,
    Value,
    Verdict,
    is_shared,
    set_of,
    shared_of,
)
from modes.nftables.ruleset import new_chain, new_rules
from modes.nftables.skeleton import Layout

Updates = Mapping[ObjectName, Fragment]
"""New fragments by Service; an empty one for a Service that is gone."""


class Changes(msgspec.Struct):
    """Elements to delete, then elements to add; a changed element is in both."""

    deletes: set[bytes] = msgspec.field(default_factory=set)
    adds: Elements = msgspec.field(default_factory=dict)
    shared: Counter[bytes] = msgspec.field(default_factory=Counter)
    """By how many Services more, or fewer, each element is wanted that several may want."""

    def __bool__(self) -> bool:
        """Whether anything is to be said."""
        return bool(self.deletes or self.adds)


class Applied:
    """The fragments that the kernel holds, by Service."""

    def __init__(self, fragments: Updates | None = None) -> None:
        """These, or nothing yet."""
        self.fragments = {name: of for name, of in (fragments or {}).items() if of}
        self._wanted_by = Counter(
            key for fragment in self.fragments.values() for key in shared_of(fragment)
        )

    def changes(self, updates: Updates) -> Changes:
        """The difference that the updates make; costs as much as they are large."""
        changes = Changes()
        for name, new in updates.items():
            old = self.fragments.get(name, {})
            for key in old.keys() - new.keys():
                if is_shared(key):
                    changes.shared[key] -= 1
                else:
                    changes.deletes.add(key)
            for key in unlike(old, new):
                if is_shared(key):
                    changes.shared[key] += 1
                else:
                    changes.adds[key] = new[key]
                    if key in old:
                        changes.deletes.add(key)
        self._settle(changes)
        return changes

    def _settle(self, changes: Changes) -> None:
        for key, difference in changes.shared.items():
            before = self._wanted_by[key]
            if not before and difference > 0:
                changes.adds[key] = b""
            elif before and before + difference == 0:
                changes.deletes.add(key)

    def commit(self, updates: Updates, changes: Changes) -> None:
        """Remember that the kernel has taken the updates, which make these changes."""
        for key, difference in changes.shared.items():
            self._wanted_by[key] += difference
            if not self._wanted_by[key]:
                del self._wanted_by[key]
        for name, new in updates.items():
            if new:
                self.fragments[name] = new
            else:
                self.fragments.pop(name, None)

    def elements(self) -> Elements:
        """Everything that the kernel should hold, in one dictionary."""
        union: Elements = {}
        for fragment in self.fragments.values():
            union.update(fragment)
        return union

    def owner_of(self, key: bytes) -> ObjectName | None:
        """A Service whose fragment has this element; walks all, for error messages only."""
        return owner_of(self.fragments, key)


def owner_of(fragments: Updates, key: bytes) -> ObjectName | None:
    """A Service whose fragment has this element, if any."""
    return next((name for name, fragment in fragments.items() if key in fragment), None)


def difference(
    found: Mapping[bytes, Value], wanted: Elements, doubtful: Iterable[bytes] | None = None
) -> Changes:
    """What turns the elements that were found into those that are wanted.

    `doubtful`: keys of these, if it is known that all others were found so.
    """
    if not found:
        return Changes(adds=wanted)  # as large as the cluster: not copied
    keys = unlike(found, wanted) if doubtful is None else doubtful
    adds = {key: wanted[key] for key in keys if found.get(key) != wanted[key]}
    changed = adds.keys() & found.keys()
    extra = len(found) - (len(wanted) - len(adds) + len(changed))
    if extra:
        changed.update(filterfalse(wanted.__contains__, found))
    return Changes(changed, adds)


def unlike(found: Mapping[bytes, Value], wanted: Mapping[bytes, Value]) -> Iterator[bytes]:
    """Keys of what is wanted and was not found so; without a step of Python for each other."""
    return compress(wanted, map(ne, map(found.get, wanted), wanted.values()))


def chains_named(values: Iterable[tuple[bytes, Value]]) -> Iterator[tuple[Family, str]]:
    """The chains that verdicts lead to."""
    for key, value in values:
        if isinstance(value, Verdict):
            _, _, chain = value.verdict.partition(" ")
            if chain:
                yield set_of(key)[0], chain


def missing_chains(
    layouts: Mapping[Family, Layout], present: set[tuple[Family, str]], changes: Changes
) -> list[tuple[Family, str]]:
    """The numbered chains that must be made before these elements, those jumped to first."""
    ordered: dict[tuple[Family, str], None] = {}
    for family, name in dict.fromkeys(chains_named(changes.adds.items())):
        for needed in (target_of(name), name):
            if (family, needed) not in present and layouts[family].numbered_chain(needed):
                ordered[family, needed] = None
    return list(ordered)


def target_of(name: str) -> str:
    """The chain that a sticky chain goes on to; any other chain's own name."""
    return name.replace("sticky-", "")


def messages(
    layouts: Mapping[Family, Layout], chains: Iterable[tuple[Family, str]], changes: Changes
) -> list[nl.Message]:
    """One transaction: chains, deletions, additions."""
    out: list[nl.Message] = []
    for family, name in chains:
        chain = layouts[family].numbered_chain(name)
        if chain is not None:
            out.append(new_chain(family, chain))
            out.extend(new_rules(family, chain))
    out.extend(deletions(changes.deletes))
    out.extend(additions(changes.adds))
    return out
