"""What does IPVS not hold as Services want it, Service by Service? Pure.

The mode's own code says what it would have to do; here is said what that means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from math import inf

from endpoints.names import Family
from endpoints.node import NodeView
from modes.base import ModeSettings
from modes.held import Difference, DifferenceKind
from modes.ipvs import schedulers
from modes.ipvs.adopt import Found, Ownership, adopt, give_way
from modes.ipvs.belonging import Belonging
from modes.ipvs.draining import Draining
from modes.ipvs.drift import remaining
from modes.ipvs.fragment import NOTHING
from modes.ipvs.ipsets import FOREIGN, Entry, Extra
from modes.ipvs.marks import Layout
from modes.ipvs.program import Goal, Held, Steps, bound, registered
from modes.ipvs.servers import LINK, PERSISTENT, WEIGHT, ServerKey, Verb, VirtualServer
from modes.ipvs.wishes import Wishes

MISSING, EXTRA, DIFFERENT = DifferenceKind
EVERYTHING_OF_IT = "everything of it"
Asked = Collection[tuple[str, Family]]
"""Service ports by name and family."""


def differing(
    found: Found, wishes: Wishes, node: NodeView, settings: ModeSettings, asked: Asked | None
) -> list[Difference]:
    """Each thing that is not as it should be.

    Args:
        found: with the rules' owner.
        wishes: of all Services, or of those that are asked for.
        node: this node.
        settings: of the mode.
        asked: whose differences are asked for; None: all, and nobody's.
    """
    goal = wishes.goal
    owned = adopt(
        found,
        Layout(settings.masquerade_bit),
        node.addresses,
        settings.ipvs.exclude_cidrs,
        (0.0, inf),
        {key for key in goal.servers if not _is_anothers(key, found)},
    )
    lost = give_way(owned.foreign, owned.held, goal)
    words = _Words(found, wishes, owned.held)
    if asked is not None:
        words.narrow(asked)
    todo = remaining(owned.held, goal, _draining(owned, goal))
    told = [*words.servers(todo), *words.entries(todo), *words.addresses(todo)]
    told += [
        Difference(str(of.name), DIFFERENT, f"{_server(key)} is somebody else's")
        for key, of in lost.items()
    ]
    return _collapsed(told, wishes)


def _is_anothers(key: ServerKey, found: Found) -> bool:
    """Whether our own set says that a virtual server is somebody else's.

    One that no set names, where a Service wants it, is ours with its name lost.
    """
    name, element = registered(key)
    registry = found.sets.get(name)
    return bool(key.address and registry and registry.elements.get(element) == FOREIGN)


def _draining(owned: Ownership, goal: Goal) -> Draining:
    """Who drains as it should: nobody wants it, and it has a deadline that has not passed."""
    kept = Draining()
    for key in owned.draining:
        drained = owned.draining.get(key)
        wanted = goal.servers.get(key)
        there = owned.held.servers.get(key)
        if there is None:  # nobody asked for it, or it went during the look
            continue
        for real, until in drained.deadlines.items() if drained else ():
            if until > 0 and (wanted is None or real not in wanted.reals):
                kept.begin(key, there.server, real, until)
    return kept


class _Words:
    """Differences, while they are put into words."""

    def __init__(self, found: Found, wishes: Wishes, held: Held) -> None:
        self.found = found
        self.wishes = wishes
        self.goal = wishes.goal
        self.held = held
        self.belonging = Belonging()
        for (name, element), extra in self.goal.entries.items():
            if extra.comment and extra != FOREIGN and element.protocol:
                self.belonging.say(name.family, element, extra)
        self.belonging.learn(found.sets)

    def narrow(self, asked: Asked) -> None:
        """Leave aside what is held of others."""
        goal, held, of = self.goal, self.held, self.belonging
        held.servers = {
            key: server
            for key, server in held.servers.items()
            if key in goal.servers or (of.of_server(key), key.family) in asked
        }
        held.entries = {
            one: extra
            for one, extra in held.entries.items()
            if one in goal.entries or (of.of_entry(one, extra), one.set.family) in asked
        }
        held.addresses &= goal.addresses

    def servers(self, todo: Steps) -> Iterator[Difference]:
        """Virtual servers, and the real ones of those that are there."""
        made = {of.command.key for of in todo.commands if of.command.verb is Verb.NEW_SERVER}
        for owned in todo.commands:
            verb, key, server, real, _ = owned.command
            name = self._name(key)
            this = _server(key)
            at = f"real server {real} of {key}"
            match verb:
                case Verb.NEW_SERVER:
                    yield Difference(name, MISSING, this)
                case Verb.DELETE_SERVER:
                    yield Difference(name, EXTRA, this)
                case Verb.SET_SERVER:
                    have, want = self.held.servers[key].server, server or VirtualServer()
                    what = f"{this} chooses by {chosen_by(have)}, not {chosen_by(want)}"
                    yield Difference(name, DIFFERENT, what)
                case Verb.NEW_REAL:
                    if key not in made:
                        yield Difference(name, MISSING, at)
                case Verb.DELETE_REAL:
                    yield Difference(name, EXTRA, at)
                case Verb.SET_REAL:
                    yield Difference(name, DIFFERENT, f"{at} has weight 0, not {WEIGHT}")

    def _name(self, key: ServerKey) -> str:
        wanted = self.goal.servers.get(key)
        return str(wanted.name) if wanted else self.belonging.of_server(key)

    def entries(self, todo: Steps) -> Iterator[Difference]:
        """Elements of sets; those that say of an address that it is bound, with it."""
        added = {one.entry: one.extra for one in todo.additions}
        removed = {one.entry for one in todo.removals}
        binding = {*map(bound, todo.bind)}
        for one, extra in added.items():
            if one in removed or one in binding:  # refused for a moment only; or see `addresses`
                continue
            have = self.held.entries.get(one)
            for name in self._names(one, extra):
                if have is None:
                    yield Difference(name, MISSING, _entry(one))
                else:
                    what = f"{_entry(one)} has {_said(have)}, not {_said(extra)}"
                    yield Difference(name, DIFFERENT, what)
        for one in removed - added.keys():
            if one in self.held.entries:
                name = self.belonging.of_entry(one, self.held.entries[one])
                yield Difference(name, EXTRA, _entry(one))

    def _names(self, one: Entry, extra: Extra) -> list[str]:
        return self.wishes.names.get(one) or [self.belonging.of_entry(one, extra)]

    def addresses(self, todo: Steps) -> Iterator[Difference]:
        """What the link holds; or what the set does not know of it."""
        for address in todo.bind:
            is_there = address in self.found.addresses
            what = _entry(bound(address)) if is_there else f"{address} on {LINK}"
            for name in self.wishes.holders[address]:
                yield Difference(name, MISSING, what)
        for address in todo.unbind:
            yield Difference(self.belonging.of_address(address), EXTRA, f"{address} on {LINK}")


def chosen_by(server: VirtualServer) -> str:
    """`rr`, `mh mh-port`, `rr, persistent for 90 s`."""
    by = " ".join((server.scheduler, *schedulers.named(server)))
    if not server.flags & PERSISTENT:
        return by
    return f"{by}, persistent for {server.persistence_seconds} s"


def _collapsed(told: Iterable[Difference], wishes: Wishes) -> list[Difference]:
    """One line for a Service port of which nothing is there."""
    by_name: dict[str, list[Difference]] = defaultdict(list)
    for one in told:
        by_name[one.service].append(one)
    found: list[Difference] = []
    for name, of in by_name.items():
        lost = {one.what for one in of if one.kind is MISSING}
        needed = set(_needed(name, wishes)) if lost else set()
        if needed and needed <= lost:
            found.append(Difference(name, MISSING, EVERYTHING_OF_IT))
            found += [one for one in of if one.kind is not MISSING]
        else:
            found += of
    return found


def _needed(name: str, wishes: Wishes) -> Iterator[str]:
    """All that nobody else needs, in the words of its absence."""
    for family in Family:
        fragment = wishes.own.get((name, family), NOTHING)
        yield from map(_server, fragment.servers)
        yield from map(_entry, fragment.entries)


def _server(key: ServerKey) -> str:
    return f"virtual server {key}"


def _entry(one: Entry) -> str:
    return f"entry {one.element} in set {one.set}"


def _said(extra: Extra) -> str:
    mark = f" and mark {extra.mark:#x}" if extra.mark else ""
    return f"the name {extra.comment}{mark}" if extra.comment else f"no name{mark}"
