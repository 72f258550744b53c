"""What must be written so that the kernel holds the new rules? Pure.

`Program` is one family's memory of what the kernel was told. It works out a change without making
it, so that a restore that fails leaves the memory as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from endpoints.names import Family, ObjectName
from modes.base import TableRules
from modes.xtables.chains import Skeleton
from modes.xtables.names import Table
from modes.xtables.restore import spec
from modes.xtables.rules import ChainName

Owner = ObjectName | None
"""The Service that a line is for; None: the node's own."""
Specs = tuple[str, ...]

BULK = 200
"""So many changes of a shared chain, and it is written anew: each deletion is a search in it."""
EVERYTHING = -1
"""In place of BULK: a shared chain that differs is always written anew."""


class Written(NamedTuple):
    """What one Service puts into a family's tables, as text."""

    chains: Mapping[ChainName, Specs]
    shared: tuple[tuple[ChainName, str], ...]
    endpoints: int = 0
    """How many endpoints the Service has in this family."""
    cluster_ips: tuple[int, ...] = ()
    """Its addresses as numbers."""


NOTHING = Written({}, ())
Updates = Mapping[ObjectName, Written]
"""New fragments by Service; NOTHING for a Service that is gone."""


class Frame(NamedTuple):
    """A chain of the skeleton as text."""

    head: Specs
    tail: Specs
    is_shared: bool


class Placed(NamedTuple):
    """A rule in a chain that holds rules of others too."""

    owner: Owner
    chain: ChainName
    spec: str


class Whole(NamedTuple):
    """A chain with all that it shall hold."""

    owner: Owner
    chain: ChainName
    specs: Specs
    owners: tuple[Owner, ...] = ()
    """Whose each rule is, in a shared chain."""

    def only(self, belongs: Callable[[Owner], bool]) -> Whole:
        """Without the rules of others."""
        if not self.owners:
            return self
        kept = [i for i, of in enumerate(self.owners) if of is None or belongs(of)]
        specs = tuple(self.specs[i] for i in kept)
        return Whole(self.owner, self.chain, specs, tuple(self.owners[i] for i in kept))


class Gone(NamedTuple):
    """A chain that is to be emptied, and deleted if nobody else refers to it."""

    owner: Owner
    chain: ChainName
    is_referred_to: bool = False


class Changes(msgspec.Struct):
    """What to write in one family."""

    new: list[Whole] = []
    """Chains that the kernel does not have."""
    rewritten: list[Whole] = []
    added: list[Placed] = []
    """Rules to put first in a shared chain, after its head."""
    guests: list[Placed] = []
    """Rules to put first in chains that are not ours, the first of them topmost."""
    deleted: list[Placed] = []
    gone: list[Gone] = []

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return any(getattr(self, field) for field in self.__struct_fields__)

    def only(self, belongs: Callable[[Owner], bool]) -> Changes:
        """The changes of some owners; None is asked about too."""
        return Changes(
            [item.only(belongs) for item in self.new if belongs(item.owner)],
            [item.only(belongs) for item in self.rewritten if belongs(item.owner)],
            [item for item in self.added if belongs(item.owner)],
            [item for item in self.guests if belongs(item.owner)],
            [item for item in self.deleted if belongs(item.owner)],
            [item for item in self.gone if belongs(item.owner)],
        )

    def part(self, owners: Collection[ObjectName]) -> Changes:
        """The changes of some Services; of none: what the node itself needs, and all else needs it.

        What may still be referred to, before all parts are written, goes with none of them.
        """
        if owners:
            return self.only(lambda owner: owner in owners)
        own = self.only(lambda owner: owner is None)
        return msgspec.structs.replace(own, deleted=[], gone=[])

    def of(self, table: Table) -> Changes:
        """The changes of one table."""
        return Changes(
            [item for item in self.new if item.chain.table is table],
            [item for item in self.rewritten if item.chain.table is table],
            [item for item in self.added if item.chain.table is table],
            [item for item in self.guests if item.chain.table is table],
            [item for item in self.deleted if item.chain.table is table],
            [item for item in self.gone if item.chain.table is table],
        )

    def owners(self) -> list[ObjectName]:
        """The Services that have a part in it, sorted."""
        found = {item.owner for field in self.__struct_fields__ for item in getattr(self, field)}
        found.update(of for whole in (*self.new, *self.rewritten) for of in whole.owners)
        return sorted(owner for owner in found if owner is not None)

    def added_rules(self) -> int:
        """How many rules are written."""
        whole = sum(len(item.specs) for item in (*self.new, *self.rewritten))
        return whole + len(self.added) + len(self.guests)


class Program:
    """The rules of one family, as the kernel holds them or shall hold them."""

    def __init__(self, family: Family, skeleton: Skeleton) -> None:
        """No Services yet."""
        self.family = family
        self.frames = {
            name: Frame(
                tuple(spec(rule, family) for rule in chain.head),
                tuple(spec(rule, family) for rule in chain.tail),
                chain.is_shared,
            )
            for name, chain in skeleton.chains.items()
        }
        self.guests = tuple((guest.chain, spec(guest.rule, family)) for guest in skeleton.guests)
        self.fragments: dict[ObjectName, Written] = {}
        self.endpoints = 0
        self.rules = Counter(chain.table for chain, _ in self.guests)
        """How many there are, by table."""
        for name, frame in self.frames.items():
            self.rules[name.table] += len(frame.head) + len(frame.tail)

    def commit(self, updates: Updates) -> None:
        """Remember that the kernel has taken the updates."""
        for name, new in updates.items():
            old = self.fragments.pop(name, NOTHING)
            self.endpoints += new.endpoints - old.endpoints
            _count(self.rules, new, 1)
            _count(self.rules, old, -1)
            if new != NOTHING:
                self.fragments[name] = new

    def tables(self, changes: Changes) -> tuple[TableRules, ...]:
        """How many rules there are, and were written by these changes, which are committed."""
        return tuple(
            TableRules(self.family, table, self.rules[table], changes.of(table).added_rules())
            for table in Table
            if table in self.rules
        )

    def changes(self, updates: Updates) -> Changes:
        """The difference that the updates make; costs as much as they are large."""
        changes = Changes()
        for name, new in updates.items():
            old = self.fragments.get(name, NOTHING)
            for chain, specs in new.chains.items():
                have = old.chains.get(chain)
                if have is None:
                    changes.new.append(Whole(name, chain, specs))
                elif have != specs:
                    changes.rewritten.append(Whole(name, chain, specs))
            changes.gone += [Gone(name, c) for c in old.chains if c not in new.chains]
            if old.shared != new.shared:
                had, has = Counter(old.shared), Counter(new.shared)
                changes.added += [Placed(name, *one) for one in (has - had).elements()]
                changes.deleted += [Placed(name, *one) for one in (had - has).elements()]
        return self._in_bulk(changes, updates)

    def _in_bulk(self, changes: Changes, updates: Updates) -> Changes:
        """Write a shared chain anew where that is less work than its changes."""
        touched = Counter(p.chain for p in (*changes.added, *changes.deleted))
        anew = {chain for chain, count in touched.items() if count > BULK}
        if anew:
            changes.rewritten += self.whole(anew, updates)
            changes.added = [p for p in changes.added if p.chain not in anew]
            changes.deleted = [p for p in changes.deleted if p.chain not in anew]
        return changes

    def whole(self, wanted: Iterable[ChainName], updates: Updates | None = None) -> list[Whole]:
        """Chains of the skeleton with the rules of all Services, as the updates leave them."""
        rules: dict[ChainName, list[tuple[str, Owner]]] = {chain: [] for chain in wanted}
        for name, fragment in {**self.fragments, **(updates or {})}.items():
            for chain, one in fragment.shared:
                if chain in rules:
                    rules[chain].append((one, name))
        found = []
        for chain, middle in rules.items():
            frame = self.frames[chain]
            tail = self.tail(chain, updates)
            specs = (*frame.head, *(one for one, _ in middle), *tail)
            nobody: tuple[Owner, ...] = (None,)
            owners = nobody * len(frame.head) + tuple(of for _, of in middle) + nobody * len(tail)
            found.append(Whole(None, chain, specs, owners if frame.is_shared else ()))
        return found

    def tail(self, chain: ChainName, updates: Updates | None = None) -> Specs:  # noqa: ARG002 (a mode may have a chain whose rules depend on all Services)
        """The last rules of a chain of the skeleton, as the updates leave them."""
        return self.frames[chain].tail


def _count(rules: Counter[Table], of: Written, sign: int) -> None:
    """Add a fragment's rules to the count, or take them out of it."""
    for chain, specs in of.chains.items():
        rules[chain.table] += sign * len(specs)
    for chain, _ in of.shared:
        rules[chain.table] += sign
