"""What must be done, and in which order, so that the kernel holds the new servers? Pure.

`Program` is the memory of what the kernel was told. What is held against what shall be comes as
`Held` and `Goal`: of the Services that changed, or of everything at start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar

import msgspec

from endpoints.addresses import family as family_of
from endpoints.names import ObjectName, Protocol
from modes.ipvs.draining import Draining, entry
from modes.ipvs.fragment import NOTHING, Fragment
from modes.ipvs.ipsets import PLAIN, Element, Entry, Extra, Kind, SetChange, SetName, SetVerb, at
from modes.ipvs.servers import WEIGHT, Command, RealServer, ServerKey, Verb, VirtualServer, Wanted

T = TypeVar("T")
_API_SERVER = ObjectName("default", "kubernetes")
_DNS_PORT = 53
Updates = Mapping[ObjectName, Fragment]
"""New fragments by Service; NOTHING for a Service that is gone."""


class HeldServer(NamedTuple):
    """A virtual server as the kernel holds it."""

    server: VirtualServer
    weights: Mapping[RealServer, int]


class Held(msgspec.Struct):
    """What the kernel holds of ours."""

    servers: dict[ServerKey, HeldServer] = {}
    entries: dict[Entry, Extra] = {}
    """Without those of the set of deadlines, which has its own life."""
    addresses: AbstractSet[str] = frozenset()


class Goal(msgspec.Struct):
    """What it shall hold."""

    servers: dict[ServerKey, Wanted] = {}
    silent: dict[ServerKey, Protocol] = {}
    entries: dict[Entry, Extra] = {}
    addresses: AbstractSet[str] = frozenset()


class Owned(NamedTuple):
    """A command, and the Service that it is for; None: one that is gone."""

    owner: ObjectName | None
    command: Command


class Drain(NamedTuple):
    """A real server that begins to drain."""

    key: ServerKey
    server: VirtualServer
    real: RealServer


class Steps(msgspec.Struct):
    """One change, in the order of the fields."""

    additions: list[SetChange] = []
    """Who is only there for a moment more, or not yet, refuses; what is served says so."""
    unbind: list[str] = []
    commands: list[Owned] = []
    bind: list[str] = []
    removals: list[SetChange] = []
    drains: list[Drain] = []
    resumed: list[tuple[ServerKey, RealServer]] = []

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.size > 0

    @property
    def size(self) -> int:
        """How many messages it takes."""
        sets = len(self.additions) + len(self.removals)
        return sets + len(self.commands) + len(self.bind) + len(self.unbind)


class Program:
    """What the kernel was told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.fragments: dict[ObjectName, Fragment] = {}
        self.draining = Draining()
        self._shared: Counter[Entry] = Counter()
        self._addresses: Counter[str] = Counter()

    def commit(self, updates: Updates) -> None:
        """Remember that the kernel was told the updates."""
        for name, new in updates.items():
            old = self.fragments.pop(name, NOTHING)
            _recount(self._shared, old.shared, new.shared)
            _recount(self._addresses, old.addresses, new.addresses)
            if new != NOTHING:
                self.fragments[name] = new

    def remember(self, steps: Steps, goal: Goal, until: float) -> None:
        """Keep what begins to drain, with its deadline, and forget what does no more."""
        for key, server, real in steps.drains:
            self.draining.begin(key, server, real, until)
        for key, real in steps.resumed:
            self.draining.end(key, real)
        for owned in steps.commands:
            if owned.command.verb is Verb.DELETE_SERVER:
                self.draining.forget(owned.command.key)
        for key in (*goal.servers, *goal.silent):
            self.draining.settle(key, lingers=key in goal.silent)

    def servers(self, but: Collection[ObjectName]) -> Iterator[ServerKey]:
        """The virtual servers of all Services but these."""
        for name, fragment in self.fragments.items():
            if name not in but:
                yield from fragment.servers

    def needs(self, address: str) -> bool:
        """Whether an address shall be on the link."""
        return address in self._addresses

    def owner_of(self, entry: Entry) -> ObjectName | None:
        """The first Service that needs an entry, or an address, if any does."""
        for name, fragment in self.fragments.items():
            if entry in fragment.entries or entry in fragment.shared:
                return name
            if entry in map(bound, fragment.addresses):
                return name
        return None

    def change(self, updates: Updates) -> tuple[Held, Goal]:
        """What is held of the Services that change, and what shall be; costs what they do."""
        old = [self.fragments.get(name, NOTHING) for name in updates]
        held = Held(
            {
                key: held
                for fragment in old
                for key in (*fragment.servers, *fragment.silent)
                if (held := self._held(key, fragment.servers.get(key))) is not None
            },
            {e: extra for fragment in old for e, extra in fragment.entries.items()},
        )
        goal = _goal(updates.values())
        for name, new in updates.items():
            goal.silent |= _outlived(self.fragments.get(name, NOTHING), new)
        shared, addresses = self._recounted(updates)
        for one, count in shared.items():
            if self._shared[one]:
                held.entries[one] = PLAIN
            if count:
                goal.entries[one] = PLAIN
        held.addresses = {address for address in addresses if self._addresses[address]}
        goal.addresses = {address for address, count in addresses.items() if count}
        return held, goal

    def _recounted(self, updates: Updates) -> tuple[dict[Entry, int], dict[str, int]]:
        """How many Services will need each of what several may need, of what is touched."""
        shared: dict[Entry, int] = {}
        addresses: dict[str, int] = {}
        for name, new in updates.items():
            old = self.fragments.get(name, NOTHING)
            for sign, fragment in ((-1, old), (1, new)):
                for one in fragment.shared:
                    shared[one] = shared.get(one, self._shared[one]) + sign
                for address in fragment.addresses:
                    addresses[address] = addresses.get(address, self._addresses[address]) + sign
        return shared, addresses

    def goal(self) -> Goal:
        """Everything that the kernel shall hold."""
        goal = _goal(self.fragments.values())
        goal.entries.update(dict.fromkeys(self._shared, PLAIN))
        goal.addresses = self._addresses.keys()
        return goal

    def _held(self, key: ServerKey, wanted: Wanted | None) -> HeldServer | None:
        drained = self.draining.get(key)
        weights = dict.fromkeys(wanted.reals if wanted else (), WEIGHT)
        weights |= dict.fromkeys(drained.deadlines if drained else (), 0)
        if wanted is not None:
            return HeldServer(wanted.server, weights)
        return HeldServer(drained.server, weights) if drained else None


def steps(held: Held, goal: Goal, draining: Draining, drain_seconds: int) -> Steps:
    """What turns the one into the other."""
    return _Steps(held, goal, draining, drain_seconds).steps()


class _Steps:
    """Steps while they are found."""

    def __init__(self, held: Held, goal: Goal, draining: Draining, drain_seconds: int) -> None:
        self.held = held
        self.goal = goal
        self.draining = draining
        self.drain_seconds = drain_seconds
        self.out = Steps()
        self.lingering: set[Entry] = set()
        self.barred: set[Entry] = set()

    def steps(self) -> Steps:
        for key, wanted in self.goal.servers.items():
            have = self.held.servers.get(key)
            if have is None:
                self._make(key, wanted)
            else:
                self._alter(key, wanted, have)
        for key, have in self.held.servers.items():
            if key not in self.goal.servers:
                self._leave(key, have)
        self._addresses()
        self._entries()
        return self.out

    def _make(self, key: ServerKey, wanted: Wanted) -> None:
        self._bar(key)
        owner = wanted.name.service
        self.out.commands.append(Owned(owner, Command(Verb.NEW_SERVER, key, wanted.server)))
        self.out.commands += [
            Owned(owner, Command(Verb.NEW_REAL, key, None, real)) for real in wanted.reals
        ]

    def _alter(self, key: ServerKey, wanted: Wanted, have: HeldServer) -> None:
        if have.server != wanted.server:
            self._tell(wanted, Command(Verb.SET_SERVER, key, wanted.server))
        for real in wanted.reals:
            weight = have.weights.get(real)
            if weight is None:
                self._tell(wanted, Command(Verb.NEW_REAL, key, real=real))
            elif weight == 0:
                # Not made anew: it still has its connections.
                self._tell(wanted, Command(Verb.SET_REAL, key, real=real))
                self._resume(key, real)
        kept = set(wanted.reals)
        for real, weight in have.weights.items():
            if real not in kept:
                owner, protocol = wanted.name.service, wanted.name.protocol
                self._retire(owner, protocol, key, have.server, real, weight)

    def _leave(self, key: ServerKey, have: HeldServer) -> None:
        protocol = self.goal.silent.get(key)
        if protocol is None or not self._drains(protocol) or not have.weights:
            self._bar(key)
            self.out.commands.append(Owned(None, Command(Verb.DELETE_SERVER, key)))
            self.out.removals += [
                SetChange(SetVerb.DELETE, entry(key, real))
                for real, weight in have.weights.items()
                if weight == 0
            ]
            if key.address and registered(key) not in self.held.entries:
                self.out.removals.append(SetChange(SetVerb.DELETE, registered(key)))
            return
        self.lingering.add(registered(key))
        for real, weight in have.weights.items():
            self._retire(None, protocol, key, have.server, real, weight)

    def _retire(
        self,
        owner: ObjectName | None,
        protocol: Protocol,
        key: ServerKey,
        server: VirtualServer,
        real: RealServer,
        weight: int,
    ) -> None:
        """No new connections; those of UDP move at once, as the kernel does for lost servers."""
        if not self._drains(protocol):
            self.out.commands.append(Owned(owner, Command(Verb.DELETE_REAL, key, real=real)))
        elif weight:
            self.out.additions.append(
                SetChange(SetVerb.ADD, entry(key, real), Extra(timeout_seconds=self.drain_seconds))
            )
            command = Command(Verb.SET_REAL, key, real=real, weight=0)
            self.out.commands.append(Owned(owner, command))
            self.out.drains.append(Drain(key, server, real))

    def _resume(self, key: ServerKey, real: RealServer) -> None:
        self.out.resumed.append((key, real))
        if not self.draining.shares_entry(key, real):
            self.out.removals.append(SetChange(SetVerb.DELETE, entry(key, real)))

    def _drains(self, protocol: Protocol) -> bool:
        return protocol is not Protocol.UDP and self.drain_seconds > 0

    def _tell(self, wanted: Wanted, command: Command) -> None:
        self.out.commands.append(Owned(wanted.name.service, command))

    def _bar(self, key: ServerKey) -> None:
        """Refuse for the moment in which packets would meet the address, and no virtual server.

        A process of the node that listens on all addresses would answer them.
        """
        if key.address in self.held.addresses and key.address in self.goal.addresses:
            refused = Entry(SetName(Kind.NO_ENDPOINTS, key.family), _element(key))
            if refused not in self.held.entries and refused not in self.goal.entries:
                self.barred.add(refused)

    def _addresses(self) -> None:
        self.out.bind = sorted(self.goal.addresses - self.held.addresses)
        self.out.unbind = sorted(self.held.addresses - self.goal.addresses)
        self.out.additions += [SetChange(SetVerb.ADD, bound(a)) for a in self.out.bind]

    def _entries(self) -> None:
        goal, held = self.goal.entries, self.held.entries
        kept = {*self.lingering, *map(bound, self.goal.addresses)}
        self.out.additions += [SetChange(SetVerb.ADD, one) for one in self.barred]
        self.out.additions += [
            SetChange(SetVerb.ADD, one, extra)
            for one, extra in goal.items()
            if held.get(one) != extra
        ]
        self.out.removals += [
            SetChange(SetVerb.DELETE, one) for one in held if one not in goal and one not in kept
        ]
        self.out.removals += [SetChange(SetVerb.DELETE, one) for one in self.barred]
        self.out.removals += [SetChange(SetVerb.DELETE, bound(a)) for a in self.out.unbind]
        # An entry has no place for the real server's port: one port may resume, another drain.
        draining = {entry(drain.key, drain.real) for drain in self.out.drains}
        self.out.removals = [one for one in self.out.removals if one.entry not in draining]


def urgent_first(change: Steps) -> tuple[Steps, Steps]:
    """The virtual servers and new addresses of the API server and of DNS, then all others."""
    urgent = [owned for owned in change.commands if _is_urgent(owned)]
    addresses = {owned.command.key.address for owned in urgent}
    return (
        Steps(
            unbind=change.unbind,
            commands=urgent,
            bind=[a for a in change.bind if a in addresses],
        ),
        Steps(
            commands=[owned for owned in change.commands if not _is_urgent(owned)],
            bind=[a for a in change.bind if a not in addresses],
        ),
    )


def _is_urgent(owned: Owned) -> bool:
    return owned.owner == _API_SERVER or owned.command.key.port == _DNS_PORT


def registered(key: ServerKey) -> Entry:
    """Where it stands that a virtual server is ours; of no meaning for one with a mark."""
    return Entry(SetName(Kind.VIRTUAL_SERVERS, key.family), _element(key))


def bound(address: str) -> Entry:
    """Where it stands that an address was bound by us."""
    return Entry(SetName(Kind.IPVS_IPS, family_of(address)), Element(address))


def _element(key: ServerKey) -> Element:
    return at(key.address, key.port, key.protocol)


def _goal(fragments: Collection[Fragment]) -> Goal:
    goal = Goal()
    for fragment in fragments:
        goal.servers.update(fragment.servers)
        goal.silent.update(fragment.silent)
        goal.entries.update(fragment.entries)
    return goal


def _outlived(old: Fragment, new: Fragment) -> dict[ServerKey, Protocol]:
    """Virtual servers with marks that a Service needs no more, but its connections do.

    Its frontends go on, with virtual servers by address, which know nothing of those connections.
    """
    if new == NOTHING:
        return {}
    kept = new.servers.keys() | new.silent.keys()
    return {
        key: wanted.name.protocol
        for key, wanted in old.servers.items()
        if key.mark and key not in kept
    }


def _recount(counter: Counter[T], old: Iterable[T], new: Iterable[T]) -> None:
    counter.update(new)
    for one in old:
        counter[one] -= 1
        if not counter[one]:
            del counter[one]
