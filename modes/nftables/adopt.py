"""Can a table that the kernel holds be kept, and how is one made that can? Pure.

A table is kept when every set, chain and rule in it is what this program would write. If all sets
are, its rules are mended in place: a packet sees the old rules or the new ones, and the elements
all the time. Otherwise, and where the kernel refuses that, the table is deleted and made anew with
all its elements in one transaction. There a gap of a microsecond is left: rules that a packet has
begun with go on after the commit, and find the maps empty, while the new chains, hooked before the
old ones, had nothing to say yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from endpoints.names import Family
from modes.held import DifferenceKind
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.elements import Elements, set_of
from modes.nftables.expressions import rule_holds
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.skeleton import Chain, Layout
from modes.nftables.strangers import Stranger, flag_words


class TableFound(NamedTuple):
    """The structure of a table of ours in the kernel."""

    chains: dict[str, Chain]
    sets: dict[str, ruleset.FoundSet]
    flags: int
    """Of the table; ours has none. 1 is `dormant`: the kernel passes its chains by."""
    strangers: tuple[Stranger, ...] = ()
    """Objects and flowtables; ours has none."""


class Mend(NamedTuple):
    """What mends the rules of a table, around the change of its elements."""

    before: list[nl.Message]
    after: list[nl.Message]
    foreign: frozenset[str]
    """Chains that do not belong there, which go."""


class Observed(msgspec.Struct, frozen=True):
    """What the kernel holds of ours."""

    elements: Elements
    """Of tables that are kept or mended."""
    rebuild: dict[Family, str]
    """Families whose table must be made anew, or mended, and why."""
    mends: dict[Family, Mend]
    """Of these, the families whose table can be mended."""
    present: frozenset[Family]
    """Families that have a table of ours, kept or not."""
    chains: frozenset[tuple[Family, str]]
    """Of tables that are kept or mended, without those that do not belong there."""

    @property
    def made_anew(self) -> list[Family]:
        """Families whose table starts from nothing."""
        return [family for family in self.rebuild if family not in self.mends]

    def without(self, families: Collection[Family]) -> Observed:
        """The same, but that the tables of these families are made anew, whatever is in them."""
        reasons = dict.fromkeys(families, "the kernel refuses to change what is there")
        return Observed(
            {key: value for key, value in self.elements.items() if set_of(key)[0] not in families},
            {**reasons, **self.rebuild},
            {family: how for family, how in self.mends.items() if family not in families},
            self.present,
            frozenset(chain for chain in self.chains if chain[0] not in families),
        )


class Misfit(NamedTuple):
    """What of a table's structure is not as this program would make it."""

    kind: DifferenceKind
    what: str
    """`chain prerouting`; empty: the table itself."""
    how: str = ""
    """What is wrong with it, if it is different: `is of another layout`."""

    def __str__(self) -> str:
        """A sentence: `set hairpin is missing`, `there is a counter cc`."""
        if self.kind is DifferenceKind.EXTRA:
            return f"there is a {self.what}"
        if self.kind is DifferenceKind.MISSING:
            return f"{self.what} is missing" if self.what else "no table yet"
        return f"{self.what or 'the table'} {self.how}"


_OTHER = "is of another layout"


def misfit(table: TableFound | None, layout: Layout) -> str:
    """Why a table cannot be kept; empty if it can."""
    return str(next(misfits(table, layout), ""))


def misfits(table: TableFound | None, layout: Layout) -> Iterator[Misfit]:
    """All that keeps a table from being kept."""
    if table is None:
        yield Misfit(DifferenceKind.MISSING, "")
        return
    if table.flags:
        yield Misfit(DifferenceKind.DIFFERENT, "", f"has flags: {flag_words(table.flags)}")
    fitting = fitting_sets(table, layout.family)
    specs = set_specs(layout.family)
    for spec in specs:
        if spec.id not in fitting:
            yield _differs(spec.words, found=spec.id.set_name in table.sets)
    for name in sorted(table.sets.keys() - {spec.id.set_name for spec in specs}):
        yield Misfit(DifferenceKind.EXTRA, table.sets[name].words)
    constant = {chain.name: chain for chain in layout.base_chains()}
    for name in sorted(constant.keys() | table.chains.keys()):
        wanted = constant.get(name) or layout.numbered_chain(name)
        have = table.chains.get(name)
        if wanted is None:
            yield Misfit(DifferenceKind.EXTRA, f"chain {name}")
        elif have is None or not chain_fits(wanted, have):
            yield _differs(f"chain {name}", found=have is not None)
    for stranger in table.strangers:
        yield Misfit(DifferenceKind.EXTRA, str(stranger))


def _differs(what: str, *, found: bool) -> Misfit:
    if found:
        return Misfit(DifferenceKind.DIFFERENT, what, _OTHER)
    return Misfit(DifferenceKind.MISSING, what)


def sets_fit(table: TableFound, layout: Layout) -> bool:
    """Whether all our sets are there, each as this program would make it."""
    return len(fitting_sets(table, layout.family)) == len(set_specs(layout.family))


def fitting_sets(table: TableFound, family: Family) -> frozenset[S]:
    """Which of our sets are as this program would make them: whose elements it can read."""
    found = ((spec, table.sets.get(spec.id.set_name)) for spec in set_specs(family))
    return frozenset(spec.id for spec, have in found if have is not None and _set_fits(spec, have))


def _set_fits(spec: SetSpec, found: ruleset.FoundSet) -> bool:
    # Of a verdict map the kernel tells the size of its own struct.
    data_fits = spec.is_vmap or found.data_size == spec.data_size
    return data_fits and (found.flags, found.key_size) == (ruleset.set_flags(spec), spec.key_size)


def chain_fits(wanted: Chain, found: Chain) -> bool:
    """Whether a chain is hooked where ours is, and its rules say what ours say."""
    return (
        wanted.base == found.base
        and len(wanted.rules) == len(found.rules)
        and all(map(rule_holds, wanted.rules, found.rules))
    )


def rebuilding(layout: Layout, *, exists: bool) -> list[nl.Message]:
    """The messages that make the family's table anew, without its elements."""
    messages = [ruleset.delete_table(layout.family)] if exists else []
    return [*messages, *_bare(layout.family), *_made(layout.family, layout.base_chains())]


def unhooked(layout: Layout) -> list[nl.Message]:
    """The messages that make the family's table, but for the chains that packets enter it by."""
    chains = [chain for chain in layout.base_chains() if chain.base is None]
    return [*_bare(layout.family), *_made(layout.family, chains)]


def hooks(layout: Layout) -> list[nl.Message]:
    """The messages that make what `unhooked` leaves out."""
    return _made(layout.family, [chain for chain in layout.base_chains() if chain.base])


def _bare(family: Family) -> list[nl.Message]:
    sets = (ruleset.new_set(family, spec) for spec in set_specs(family))
    return [ruleset.new_table(family), *sets]


def _made(family: Family, chains: Collection[Chain]) -> list[nl.Message]:
    messages = [ruleset.new_chain(family, chain) for chain in chains]
    for chain in chains:
        messages.extend(ruleset.new_rules(family, chain))
    return messages
