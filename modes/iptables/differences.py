"""How are rules that should be otherwise told to an operator, Service by Service? Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from endpoints.names import Family, ObjectName
from modes.held import Difference, DifferenceKind
from modes.iptables import belonging
from modes.iptables.belonging import Found
from modes.iptables.program import ServiceProgram
from modes.iptables.wanted import Wanted
from modes.xtables import adopt
from modes.xtables.compared import Compared
from modes.xtables.delta import Changes, Placed
from modes.xtables.names import Table
from modes.xtables.restore import Unreadable, parse
from modes.xtables.rules import ChainName, Rule

MISSING, EXTRA, DIFFERENT = (
    DifferenceKind.MISSING,
    DifferenceKind.EXTRA,
    DifferenceKind.DIFFERENT,
)
_COMMENT = re.compile(r'-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) ?', re.DOTALL)
_NODE = "node"


class Said(NamedTuple):
    """One thing that is wrong in one family."""

    service: str
    kind: DifferenceKind
    what: str
    place: str
    """Where: `nat (IPv4)`. `what` is empty where all is wrong there."""


def told(said: Iterable[Said]) -> tuple[Difference, ...]:
    """The sentences, sorted; one for all places where everything of a Service is wrong."""
    found: set[Difference] = set()
    everything: dict[tuple[str, DifferenceKind], list[str]] = defaultdict(list)
    for one in said:
        if one.what:
            found.add(Difference(one.service, one.kind, f"{one.what} in {one.place}"))
        else:
            everything[one.service, one.kind].append(one.place)
    for (service, kind), places in everything.items():
        whose = "of it" if service else "that belongs to no Service"
        where = ", ".join(sorted(set(places), key=lambda place: (place[-5:], place)))
        found.add(Difference(service, kind, f"every rule {whose} in {where}"))
    return tuple(sorted(found))


class Wrongs:
    """What is wrong in one family."""

    def __init__(
        self, program: ServiceProgram, wanted: Wanted, found: Found, is_asked: Callable[[str], bool]
    ) -> None:
        """`is_asked`: whether a Service is meant, by its name."""
        self._program = program
        self._wanted = wanted
        self._found = found
        self._is_asked = is_asked
        self._names = set(wanted.names())

    def said(self, changes: Changes, compared: Compared) -> Iterator[Said]:
        """All of it; `compared` tells the same as `changes`."""
        missing, extra = _alike(compared.missing, compared.extra, self._program.family)
        lost = {(of.chain, of.spec) for of in missing}
        absent = {whole.chain for whole in changes.new}
        by_owner: dict[ObjectName | None, None] = dict.fromkeys(of.owner for of in missing)
        for owner in by_owner:
            if owner is None:
                continue
            seen: set[tuple[ChainName, str]] = set()
            for name, part in self._wanted.parts(owner):
                if self._is_asked(name):
                    rules = [(c, one) for c, specs in part.chains.items() for one in specs]
                    rules += [one for one in part.shared if one not in seen]
                    seen.update(part.shared)
                    yield from self._missing(name, rules, lost, absent)
        yield from self._missing("", self._constant, lost, absent)
        yield from self._extra(extra, changes)
        for chain in compared.reordered:
            yield self._reordered(chain)

    @cached_property
    def _constant(self) -> list[tuple[ChainName, str]]:
        """The rules of no Service."""
        rules: list[tuple[ChainName, str]] = []
        for whole in self._program.whole(self._program.frames):
            owners = whole.owners or (None,) * len(whole.specs)
            rules += [
                (whole.chain, one)
                for one, owner in zip(whole.specs, owners, strict=True)
                if owner is None
            ]
        return [*rules, *self._program.guests]

    def _missing(
        self,
        name: str,
        rules: Sequence[tuple[ChainName, str]],
        lost: set[tuple[ChainName, str]],
        absent: set[ChainName],
    ) -> Iterator[Said]:
        """What of these rules is lost: all of a table, or a chain, or single ones."""
        for table in Table:
            of_table = [rule for rule in rules if rule[0].table is table]
            place = self._place(table)
            gone = [rule for rule in of_table if rule in lost]
            if gone and len(gone) == len(of_table):
                yield Said(name, MISSING, "", place)
                continue
            whole = [c for c in self._program.frames if c.table is table and c in absent]
            chains = dict.fromkeys(chain for chain, _ in gone)
            chains |= {} if name else dict.fromkeys(whole)
            for chain in chains:
                is_own = chain.name not in adopt.BUILT_IN and (
                    not name or belonging.is_of_a_service(chain)
                )
                if is_own and chain in absent:
                    yield Said(name, MISSING, f"chain {chain.name}", place)
                elif is_own and not self._found.get(chain):
                    yield Said(name, MISSING, f"every rule of chain {chain.name}", place)
                else:
                    for of, spec in gone:
                        if of == chain:
                            yield Said(name, MISSING, self._rule(chain, spec), place)

    def _extra(self, extra: Iterable[Placed], changes: Changes) -> Iterator[Said]:
        gone = {of.chain: self._owner_of(of.chain) for of in changes.gone}
        rules = [(self._owner(of), of) for of in extra if of.chain not in gone]
        for chain, name in gone.items():
            yield self._too_many(name, f"chain {chain.name}", chain.table)
        for name, placed in rules:
            what = self._rule(placed.chain, placed.spec, keeps_comment=not name)
            yield self._too_many(name, what, placed.chain.table)

    def _too_many(self, name: str, what: str, table: Table) -> Said:
        """Of a Service that should not be there, all is."""
        is_unknown = bool(name) and name not in self._names
        return Said(name, EXTRA, "" if is_unknown else what, self._place(table))

    def _reordered(self, chain: ChainName) -> Said:
        place = self._place(chain.table)
        if chain.name not in adopt.BUILT_IN:
            what = f"order of the rules of chain {chain.name}"
            return Said(self._owner_of(chain), DIFFERENT, what, place)
        have = self._found.get(chain, ())
        ours = {one for of, one in self._program.guests if of == chain}
        first = next(n for n, one in enumerate(have) if one not in ours and adopt.ends(one))
        behind = [adopt.target(one) for one in have[first:] if one in ours]
        what = f"jump from {chain.name} to {', '.join(behind)} behind {have[first]}"
        return Said("", DIFFERENT, what, place)

    def _owner(self, of: Placed) -> str:
        """The Service of a rule that should not be there."""
        if of.owner is not None or belonging.is_of_a_service(of.chain):
            return self._owner_of(of.chain)
        if of.chain not in belonging.SHARED:
            return ""
        name = belonging.service_of(of.spec)
        if name in self._names or belonging.object_of(name) != name:
            return name
        target = ChainName(of.chain.table, adopt.target(of.spec))
        return self._owners.get(target) or self._reached_at(of.spec) or self._port_of(name) or name

    def _owner_of(self, chain: ChainName) -> str:
        return self._owners.get(chain, "") if belonging.is_of_a_service(chain) else ""

    @cached_property
    def _owners(self) -> Mapping[ChainName, str]:
        """By what is wanted, and by what was found."""
        owners = belonging.owners(self._found)
        for owner in self._program.fragments:
            for name, part in self._wanted.parts(owner):
                owners |= dict.fromkeys(part.chains, name)
        return owners

    @cached_property
    def _places(self) -> Mapping[tuple[str, int, str], str]:
        return {
            (frontend.address or _NODE, frontend.port, plan.name.protocol.lower()): str(plan.name)
            for plan in self._wanted.plans()
            for frontend in plan.frontends
        }

    def _reached_at(self, spec: str) -> str:
        """The Service that is reached at the place that a rule is about."""
        try:
            rule = parse(spec, self._program.family)
        except Unreadable:
            return ""
        address = rule.destination.partition("/")[0] or _NODE
        return self._places.get((address, rule.destination_port, rule.protocol), "")

    def _port_of(self, name: str) -> str:
        """The first port of a Service, of which comments tell no port."""
        ports = {of for of in (*self._names, *self._held) if belonging.object_of(of) == name}
        return min(ports - {name}, default=name)

    @cached_property
    def _held(self) -> set[str]:
        """The names in rules that were found."""
        shared = (self._found.get(chain, ()) for chain in belonging.SHARED)
        return {belonging.service_of(one) for specs in shared for one in specs}

    def _rule(self, chain: ChainName, spec: str, *, keeps_comment: bool = False) -> str:
        """A rule in an operator's words; a comment would repeat the name of the Service."""
        bare = _COMMENT.sub("", spec).strip()
        if chain.name in adopt.BUILT_IN and (to := adopt.target(spec)).startswith("KUBE-"):
            return f"jump from {chain.name} to {to}"
        return f"rule -A {chain.name} {spec if keeps_comment else bare}"

    def _place(self, table: Table) -> str:
        return f"{table} ({self._program.family})"


def _alike(
    missing: Iterable[Placed], extra: Iterable[Placed], family: Family
) -> tuple[list[Placed], list[Placed]]:
    """Without pairs that say the same in other words, as another program spells rules."""
    beyond = list(extra)
    same: set[int] = set()
    by_chain: dict[ChainName, dict[Rule, list[Placed]]] = {}
    chains = {of.chain for of in beyond}
    for of in beyond:
        if (rule := _read(of, family)) is not None:
            by_chain.setdefault(of.chain, {}).setdefault(rule, []).append(of)
    lacking: list[Placed] = []
    for of in missing:
        rule = _read(of, family) if of.chain in chains else None
        others = by_chain.get(of.chain, {}).get(rule, []) if rule is not None else []
        if others:
            same.add(id(others.pop()))
        else:
            lacking.append(of)
    return lacking, [of for of in beyond if id(of) not in same]


def _read(of: Placed, family: Family) -> Rule | None:
    try:
        return parse(of.spec, family)
    except Unreadable:
        return None
