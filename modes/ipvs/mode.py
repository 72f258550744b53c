"""How does the IPVS mode keep the kernel equal to the plans?

Steps only: what to tell the kernel is worked out in `fragment`, `program`, `adopt` and `draining`,
and `machine` tells it.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from endpoints.names import ObjectName, Protocol
from endpoints.node import NodeView
from modes.base import (
    Adopted,
    ApplyReport,
    Delta,
    Drift,
    EnvironmentFault,
    ForeignWatch,
    Glance,
    KernelFault,
    ModeSettings,
    Plans,
    Tell,
    nothing,
)
from modes.ipvs.adopt import Found, Ownership, adopt, give_way
from modes.ipvs.cleanup import clean_up
from modes.ipvs.draining import Draining
from modes.ipvs.drift import drift, without
from modes.ipvs.ending import ended
from modes.ipvs.fragment import NOTHING, Choice, Fragment, render
from modes.ipvs.ipsets import FOREIGN, SetChange, SetVerb, sets_of
from modes.ipvs.lookout import LOOK_SECONDS, Counts, Lookout
from modes.ipvs.machine import Fault, Machine, set_sysctls
from modes.ipvs.marks import Layout, Marks
from modes.ipvs.program import (
    Goal,
    Held,
    HeldServer,
    Program,
    Steps,
    Updates,
    registered,
    steps,
    urgent_first,
)
from modes.ipvs.retire import Retirement
from modes.ipvs.rules import Rules
from modes.ipvs.schedulers import Offer
from modes.ipvs.servers import ServerKey, Verb

_GONE = frozenset({errno.ESRCH, errno.ENOENT})
"""What IPVS says of a virtual server, and of a real one, that is not there."""
_DELETIONS = frozenset({Verb.DELETE_SERVER, Verb.DELETE_REAL})


class IpvsMode:
    """The IPVS back end; see README.md for the way of a packet. One thread uses it."""

    name = "ipvs"

    def __init__(
        self,
        settings: ModeSettings,
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
        opening: Callable[[], Machine] = Machine.open,
    ) -> None:
        """Nothing is asked and nothing is known yet; `clock` counts seconds."""
        self._settings = settings.ipvs
        self._tell = tell
        self._clock = clock
        self._layout = Layout(settings.masquerade_bit)
        self._rules = Rules(settings, self._layout, tell)
        self._retirement = Retirement(settings, self._layout, tell, clock)
        self._opening = opening
        self._offer = Offer(self._settings, self._refusal, tell)
        self._opened: Machine | None = None
        self._node: NodeView | None = None
        self._found: Found | None = None
        self._marks = Marks(self._layout, {})
        self._program = Program()
        self._unknown: set[ObjectName] = set()
        self._foreign: set[ServerKey] = set()
        self._look_at = 0.0
        self._lookout = Lookout(self._count, self._needs, tell)

    @property
    def _machine(self) -> Machine:
        if self._opened is None:
            self._opened = self._opening()
        return self._opened

    @property
    def messages(self) -> int:
        """Netlink messages sent so far."""
        return self._machine.messages

    def close(self) -> None:
        """Give back sockets; what IPVS was told stays."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._found = None

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        """Nothing is read ahead: IPVS and ipset are read in a few system calls."""
        done()

    def start(self, node: NodeView) -> Adopted:
        """Look at what the kernel holds for this node. Writes nothing that stays: `replace` does.

        Raises EnvironmentFault.
        """
        warnings = self._rules.look(again=node == self._node)
        self._node = node
        self._offer.require()
        self._lookout.settle()
        self._found = self._observed()
        ours = self._adopted(self._found, self._made).held
        count = sum(1 + len(of.weights) for of in ours.servers.values())
        rules = self._found.rules_of or "nobody's"
        others = len(self._found.servers) - len(ours.servers)
        reason = f"the rules are {rules}; {others} virtual servers of others"
        return Adopted(bool(ours.servers), count, reason, tuple(warnings))

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Make the kernel hold exactly these Services, writing only what differs.

        Raises KernelFault.
        """
        with self._lookout.ours():
            return self._replace(services)

    def _replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        found = self._found or self._observed()
        self._found, made = None, self._made
        adopted = self._adopted(found, made)
        self._foreign = set(adopted.foreign)
        self._marks = Marks(self._layout, adopted.marks, {key.mark for key in found.servers})
        self._program = Program()
        self._program.draining = adopted.draining
        self._program.commit({name: self._rendered(plans) for name, plans in services.items()})
        self._marks.keep({o for f in self._program.fragments.values() for o in f.marked})
        self._unknown = set()
        goal = self._program.goal()
        if found.is_flushed:
            adopted = self._adopted(found, made | goal.servers.keys())
            self._foreign = set(adopted.foreign)
        _outlast(adopted.draining, goal)
        failed = self._give_way(adopted.held, goal)
        for reason in self._machine.prepare(self._settings):
            self._tell("Degraded", mode=self.name, reason=reason)
        written = self._machine.make_sets(self._rules.families, found, goal.entries)
        change = self._change(adopted.held, goal)
        is_takeover = self._rules.are_of_another_mode
        faults = self._machine.admit(change)
        if not is_takeover:
            written += self._rules.write(self._view)
        for part in urgent_first(change):
            faults += self._machine.serve(part)
        # Before rules ask the sets: they may still refuse what IPVS gave way with.
        faults += self._machine.withdraw(change)
        if is_takeover:
            written += self._rules.write(self._view)
        return self._report(change, faults, failed, written)

    def apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply a change; its cost is that of the change.

        A Service that the kernel refuses is named in the report. Raises KernelFault if somebody
        else has changed what is ours: then only a `replace` knows what to do.
        """
        with self._lookout.ours():
            return self._apply(delta)

    def _apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        updates: dict[ObjectName, Fragment] = dict.fromkeys(delta.deletes, NOTHING)
        updates |= {name: self._rendered(plans) for name, plans in delta.upserts.items()}
        held, goal = self._program.change(updates)
        is_again = self._look_again(updates, held, goal)
        failed = self._give_way(held, goal)
        change = self._change(held, goal)
        if is_again:  # one of its addresses may be what was refused
            change.bind = sorted({*change.bind, *goal.addresses})
        old = [self._program.fragments.get(name, NOTHING).marked for name in updates]
        self._program.commit(updates)
        kept = {owner for fragment in updates.values() for owner in fragment.marked}
        for owner in frozenset().union(*old) - kept:
            self._marks.forget(owner)
        faults = self._machine.admit(change)
        faults += self._machine.serve(change)
        faults += self._machine.withdraw(change)
        return self._report(change, faults, failed)

    def tend(self) -> float | None:
        """End what has drained: who is idle, and who has had its time."""
        draining = self._program.draining
        now = self._clock()
        if not draining:
            return None
        if now < self._look_at:
            return self._look_at - now
        try:
            with self._lookout.ours():
                faults = self._end_drained(now)
        except (KernelFault, EnvironmentFault, OSError) as error:
            faults = [Fault(0, str(error))]
        for fault in faults:
            if fault.errno not in _GONE:
                self._tell("Not ended", reason=fault.reason)
        seconds = draining.seconds_until_look(now)
        self._look_at = now + (seconds or 0.0)
        return seconds

    def verify(self, *, from_ahead: bool = False) -> Drift:  # noqa: ARG002 (as of a Mode)
        """Hold the kernel against what was applied."""
        found, goal = self._observed(), self._program.goal()
        held = self._adopted(found, self._made).held
        self._give_way(held, goal)
        refused = [self._program.fragments.get(name, NOTHING) for name in self._unknown]
        lacking = sets_of(self._rules.families) - found.sets.keys()
        of_servers = drift(*without(refused, held, goal), self._program.draining, lacking)
        of_rules = Drift() if of_servers and not self._rules.are_disturbed else self._rules.drift()
        return Drift(
            of_servers.missing + of_rules.missing,
            of_servers.extra + of_rules.extra,
            of_servers.different + of_rules.different,
        )

    def watch(self) -> ForeignWatch | None:
        """What hears of changes of our rules of iptables; None where the kernel tells nobody."""
        return self._rules.watch()

    def glance(self) -> Glance:
        """Count what IPVS, its sets and its link hold: the kernel tells nobody."""
        self._lookout.look()
        self._lookout.sample(self._served, self._machine.ipvs.holds)
        return Glance((*self._lookout.take(), *self._rules.glance()), LOOK_SECONDS)

    def retire(self, successor: str) -> float | None:
        """As of a Mode: who has connections is told to take no more of them."""
        return self._retirement.look(lambda: self._machine, successor)

    def cleanup(self) -> bool:
        """Remove what is ours and only that; True if there was anything.

        Raises EnvironmentFault.
        """
        self._program = Program()
        return clean_up(self._machine, self._layout, self._settings, self._tell)

    @property
    def _view(self) -> NodeView:
        if self._node is None:
            raise RuntimeError("start() comes first")
        return self._node

    def _observed(self) -> Found:
        found = self._machine.observe()
        found.rules_of = self._rules.whose
        return found

    def _served(self) -> AbstractSet[ServerKey]:
        return {*self._program.servers(self._unknown)} - self._foreign

    @property
    def _made(self) -> AbstractSet[ServerKey]:
        """The virtual servers that this process made, or took over."""
        return {*self._program.servers(()), *self._program.draining} - self._foreign

    def _count(self) -> Counts:
        return self._machine.census.count()

    def _needs(self, address: str) -> bool:
        return self._program.needs(address)

    def _adopted(self, found: Found, known: Collection[ServerKey]) -> Ownership:
        now, of = self._clock(), self._settings
        deadlines = (now, now + of.drain_seconds)
        local = self._view.addresses
        return adopt(found, self._layout, local, of.exclude_cidrs, deadlines, known)

    def _rendered(self, plans: Plans) -> Fragment:
        served = (plan for plan in plans if plan.family in self._rules.families)
        return render(served, self._view, Choice(self._marks.of, self._offer.server))

    def _refusal(self, scheduler: str) -> str:
        return self._machine.works(scheduler, self._layout.mark(0))

    def _give_way(self, held: Held, goal: Goal) -> dict[ObjectName, str]:
        """Leave virtual servers of others alone, also where a Service wants the same."""
        failed: dict[ObjectName, str] = {}
        for key, wanted in give_way(self._foreign, held, goal).items():
            name, reason = wanted.name.service, f"{key} is a virtual server of somebody else"
            failed[name] = "; ".join(filter(None, (failed.get(name), reason)))
        return failed

    def _look_again(self, updates: Updates, held: Held, goal: Goal) -> bool:
        """Ask what the kernel holds of Services that it refused something of, if any are here."""
        again = self._unknown & updates.keys()
        for name in again:
            old = self._program.fragments.get(name, NOTHING)
            for key in {*old.servers, *old.silent, *updates[name].servers, *updates[name].silent}:
                found = self._machine.ipvs.server(key)
                if found is None:
                    self._foreign.discard(key)
                    held.servers.pop(key, None)
                elif key not in self._foreign:
                    weights = {real: at.weight for real, at in found.reals.items()}
                    held.servers[key] = HeldServer(found.server, weights)
        if again:
            held.entries = {e: x for e, x in held.entries.items() if e not in goal.entries}
            self._unknown -= again
        return bool(again)

    def _change(self, held: Held, goal: Goal) -> Steps:
        seconds = self._settings.drain_seconds
        change = steps(held, goal, self._program.draining, seconds)
        self._program.remember(change, goal, self._clock() + seconds)
        return change

    def _report(
        self,
        change: Steps,
        faults: Sequence[Fault],
        failed: dict[ObjectName, str],
        written: int = 0,
    ) -> ApplyReport:
        """Name the Services that the kernel refused; `written`: sets made, lines of rules.

        Raises KernelFault where none is to blame.
        """
        lost: set[ServerKey] = set()
        for fault in faults:
            self._judge(fault, failed, lost)
        self._unknown |= failed.keys()
        verbs = Counter(owned.command.verb for owned in change.commands)
        return ApplyReport(
            added=verbs[Verb.NEW_SERVER] + verbs[Verb.NEW_REAL],
            deleted=verbs[Verb.DELETE_SERVER] + verbs[Verb.DELETE_REAL],
            messages=change.size + written,
            failed=failed,
        )

    def _judge(self, fault: Fault, failed: dict[ObjectName, str], lost: set[ServerKey]) -> None:
        command = fault.command
        if command is None:
            owner = self._program.owner_of(fault.entry) if fault.entry else None
            what = " ".join(map(str, fault.entry or ()))
            if owner is None:
                raise KernelFault(f"{what}: {fault.reason}")
            failed[owner] = f"{what}: {fault.reason}"
            return
        key = command.key
        if key in lost or (command.verb in _DELETIONS and fault.errno in _GONE):
            return
        what = f"{key} -> {command.real}" if command.real else str(key)
        if command.verb is Verb.NEW_SERVER and fault.owner is not None:
            lost.add(key)
            failed[fault.owner] = f"{what}: {fault.reason}"
            if fault.errno == errno.EEXIST:
                failed[fault.owner] = f"{key} is a virtual server of somebody else"
                self._foreign.add(key)
                theirs = SetChange(SetVerb.ADD, registered(key), FOREIGN)
                for unsaid in self._machine.admit(Steps(additions=[theirs])):
                    raise KernelFault(f"{key} cannot be marked as theirs: {unsaid.reason}")
        elif fault.owner is None or fault.errno in {*_GONE, errno.EEXIST}:
            raise KernelFault(f"{what} was changed by somebody else: {fault.reason}")
        else:
            failed[fault.owner] = f"{what}: {fault.reason}"

    def _end_drained(self, now: float) -> list[Fault]:
        change = ended(self._program.draining, self._machine.ipvs.reals, now)
        return self._machine.serve(change) + self._machine.withdraw(change)


def _outlast(draining: Draining, goal: Goal) -> None:
    """What drained of virtual servers with marks that no Service needs any more, goes on so."""
    for key in draining:
        if key.mark and key not in goal.servers:
            goal.silent.setdefault(key, Protocol.TCP)


def prepare(settings: ModeSettings) -> tuple[str, ...]:
    """Set the sysctls that the mode needs; why one cannot be, a sentence each."""
    return tuple(set_sysctls(settings.ipvs))
