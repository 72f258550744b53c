"""How does news of the cluster become a change of the kernel?

The only place where the steps meet: fold the events, plan what they made dirty, apply the plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from conntrack.tracker import DATAGRAMS
from endpoints.addresses import family
from endpoints.events import Delete, Folded, Problem, Replace, Upsert
from endpoints.names import Family, ObjectName
from endpoints.node import NodeSettings, NodeView
from endpoints.nodeports import is_loopback
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import ApplyReport, Delta, EnvironmentFault, KernelFault, Mode, Plans
from proxy import log
from proxy.cleaning import Cleaning
from proxy.drift import Drifts
from proxy.observer import Observer, Synced
from proxy.sources.base import ForeignChange, LocalAddresses, Message, Together


class Outcome(msgspec.Struct, frozen=True):
    """What became of an attempt to make the kernel agree."""

    fault: str = ""
    """The kernel refused the whole: what it holds is not known."""
    refused: Mapping[ObjectName, str] = {}
    """Services that are not as they should be, with the kernel's reasons; all others are."""
    problems: int = 0
    """How many refusals of input were reported so far."""


class Known(NamedTuple):
    """What a Sync knew between two runs; nobody changes it any more."""

    state: ClusterState
    is_synced: bool
    """Whether all of it is in the kernel, but for what was refused."""
    refused: Mapping[ObjectName, str]


class AllPlans(Mapping[ObjectName, Plans]):
    """The plans of all Services, each made when it is looked at: they need not fit in memory.

    Only those stay that conntrack asks for afterwards.
    """

    def __init__(self, state: ClusterState, observer: Observer) -> None:
        self._state = state
        self._observer = observer
        self.tracked: dict[ObjectName, Plans] = {}
        """Services with protocols whose flows do not end by themselves."""

    def __getitem__(self, service: ObjectName) -> Plans:
        if service not in self._state.services():
            raise KeyError(service)
        plans = self._state.plans(service)
        self._observer.planned(service, plans)
        if any(plan.name.protocol in DATAGRAMS for plan in plans):
            self.tracked[service] = plans
        return plans

    def __iter__(self) -> Iterator[ObjectName]:
        return iter(self._state.services())

    def __len__(self) -> int:
        return len(self._state.services())


class Sync:
    """Keeps the kernel equal to the cluster.

    Nothing is programmed before each of `kinds` was listed once, lest half a cluster be taken for
    the whole. `clock` counts seconds.
    """

    def __init__(
        self,
        state: ClusterState,
        mode: Mode,
        kinds: Iterable[Kind],
        clock: Callable[[], float],
        observer: Observer | None = None,
        cleaning: Cleaning | None = None,
    ) -> None:
        self._state = state
        self._mode = mode
        self._awaited = set(kinds)
        self._clock = clock
        self._observer = observer or Observer()
        self._cleaning = cleaning
        self._drifts = Drifts(mode, clock, self._observer)
        self._started = False
        self._unknown = True
        self._dirty: set[ObjectName] = set()
        self._reconfigured = False
        self._triggered: list[float] = []
        self._refused: dict[ObjectName, str] = {}
        self._problems = 0
        self._warned: set[tuple[str, str]] = set()

    def run(self, messages: Iterable[Message], *, retry: bool = False) -> Outcome | None:
        """Take in what is new and bring the kernel up to it; with `retry`, what failed too.

        Returns None if there was nothing to do, or not yet. Raises EnvironmentFault when the first
        attempt shows that this machine cannot do it.
        """
        began = self._clock()
        node_changed = self._fold(messages)
        if self._awaited or (self._started and self._unknown and not retry):
            return None
        if retry:
            self._dirty |= self._refused.keys()
        doubtful = self._unknown or self._drifts.drift()
        everything = doubtful or node_changed
        if not everything and not self._dirty:
            return None
        changed = set(self._state.services()) if everything else self._dirty
        try:
            report = self._replace(doubtful=doubtful) if everything else self._apply(changed)
        except (KernelFault, EnvironmentFault, OSError) as fault:
            if isinstance(fault, EnvironmentFault) and not self._started:
                raise
            return self._failed(str(fault))
        verbosity = 2 if self._started else 0
        self._started, self._unknown, self._dirty = True, False, set()
        self._remember(changed, report)
        if everything:
            self._drifts.replaced(report)
        seconds = self._clock() - began
        triggered, self._triggered = tuple(self._triggered), []
        services = len(self._state.services())
        self._observer.synced(
            Synced(seconds, report, everything, services, self._state.node, triggered)
        )
        self._log(report, len(changed), seconds, verbosity)
        return Outcome("", dict(self._refused), self._problems)

    @property
    def is_served(self) -> bool:
        """Whether the kernel has taken what it was told last."""
        return not self._unknown

    def known(self, *, waits: bool = False) -> Known:
        """What it knows now; the cost is that of copying a few dictionaries.

        `waits`: there is news that it was not given yet.
        """
        behind = waits or self._unknown or bool(self._dirty - self._refused.keys())
        is_synced = self._started and not behind
        return Known(self._state.copy(), is_synced, dict(self._refused))

    def tend(self) -> float | None:
        """Do what only the passing of time asks for; the seconds until that is wanted again.

        None: not before the next sync that succeeds. While it is not known what the kernel holds,
        nothing is done.
        """
        return None if self._unknown else self._mode.tend()

    def glance(self) -> float | None:
        """Look for foreign changes of which the kernel tells nobody; answers as `tend`."""
        if self._unknown:
            return None
        glance = self._mode.glance()
        self._drifts.suspect(glance.foreign)
        return glance.again_in_seconds

    def read_ahead(self, done: Callable[[], None]) -> None:
        """Begin to read what the kernel holds, for `compare` or the first `run`; see `Mode`."""
        self._mode.read_ahead(done)

    def compare(self) -> float:
        """Hold the kernel against what it was told, though nobody is suspected.

        Returns in how many seconds at the earliest to do it again, lest it cost too much.
        """
        return 0.0 if self._unknown else self._drifts.compare()

    def suspicion_in(self) -> float | None:
        """In how many seconds `run` looks into what is suspected; None: nothing is."""
        return None if self._unknown else self._drifts.due_in()

    def reconfigure(self, settings: NodeSettings) -> None:
        """The operator's settings are these now: the next `run` plans everything anew."""
        self._reconfigured = self._folds(self._state.reconfigure(settings))

    def _fold(self, messages: Iterable[Message]) -> bool:
        """Take in the messages; whether the node has changed."""
        node_changed, self._reconfigured = self._reconfigured, False
        node_before = self._state.own_node
        services = slices = 0
        for message in messages:
            for folded in self._folded(message):
                node_changed |= self._folds(folded)
                services += folded.services
                slices += folded.slices
        if services or slices:
            self._observer.queued(services, slices)
        if self._state.own_node != node_before:
            self._observer.node(self._state.own_node)
        return node_changed

    def _folds(self, folded: Folded) -> bool:
        self._dirty |= folded.dirty
        self._triggered += folded.triggered
        for problem in folded.problems:
            self._report(problem)
        return folded.node_changed

    def _folded(self, message: Message) -> Iterator[Folded]:
        match message:
            case Problem():
                self._report(message)
            case LocalAddresses(addresses):
                yield self._state.observe_addresses(addresses)
            case ForeignChange(foreign):
                self._drifts.suspect(foreign)
            case Together(events):
                for event in events:
                    yield from self._folded(event)
            case Upsert() | Delete() | Replace():
                if isinstance(message, Replace):
                    self._listed(message)
                yield self._state.fold(message)

    def _listed(self, replace: Replace) -> None:
        self._awaited.discard(replace.kind)
        name = self._state.node.name
        if replace.kind is Kind.NODE and name not in {of.metadata.name for of in replace.objects}:
            reason = "no such Node: its zone, podCIDRs and InternalIP are not known"
            log.warning("Node not found", node=name, reason=reason)

    def _report(self, problem: Problem) -> None:
        self._problems += 1
        fields = {"field": problem.field, "value": problem.value, "reason": problem.reason}
        log.warning("Skipped", object=problem.subject, **{k: v for k, v in fields.items() if v})
        self._observer.skipped(problem)

    def _replace(self, *, doubtful: bool) -> ApplyReport:
        """`doubtful`: the kernel may not have held what it was told."""
        node = self._state.node
        adopted = self._mode.start(node)
        self._warn_of(node)
        found = "Kept the rules that were there" if adopted.kept else "Making the rules anew"
        log.info(
            "Compared the rules with the kernel's" if self._started else found,
            v=int(self._started),
            mode=self._mode.name,
            elements=adopted.elements,
            reason=adopted.reason,
        )
        for warning in adopted.warnings:
            log.warning("Degraded", mode=self._mode.name, reason=warning)
        self._observer.planning_all()
        plans = AllPlans(self._state, self._observer)
        report = self._mode.replace(plans)
        if self._cleaning:
            self._cleaning.replaced(plans.tracked, node, report.failed, doubtful=doubtful)
        return report

    def _warn_of(self, node: NodeView) -> None:
        """Say what of the node's configuration cannot be what was meant; each time once."""
        told = set()
        if not any(node.local_traffic.known(of) for of in Family):
            reason = (
                "no address is known for a pod's: nothing to a cluster IP is masqueraded, and"
                " policy Local serves pods like clients outside"
                f" (detectLocalMode {node.local_traffic.mode})"
            )
            told.add(("--cluster-cidr", reason))
        for of in sorted({family(a) for a in node.addresses if not is_loopback(a)}):
            if not (node.node_ports(of).match_all or node.node_ports(of).addresses):
                reason = f"NodePorts answer on no {of} address of this node"
                told.add(("--nodeport-addresses", reason))
        for flag, reason in sorted(told - self._warned):
            log.warning("Check the configuration", flag=flag, reason=reason)
        self._warned = told

    def _apply(self, dirty: Iterable[ObjectName]) -> ApplyReport:
        plans = {service: self._state.plans(service) for service in sorted(dirty)}
        for service, of in plans.items():
            self._observer.planned(service, of)
        gone = frozenset(service for service, of in plans.items() if not of)
        delta = Delta({service: of for service, of in plans.items() if of}, gone)
        report = self._mode.apply(delta)
        if self._cleaning:
            self._cleaning.applied(delta, self._state.node, report.failed)
        return report

    def _failed(self, fault: str) -> Outcome:
        self._started = True
        self._unknown = True
        self._observer.failed(fault)
        log.error("Sync failed", mode=self._mode.name, reason=fault)
        return Outcome(fault, dict(self._refused), self._problems)

    def _remember(self, changed: Iterable[ObjectName], report: ApplyReport) -> None:
        """Keep which Services the kernel refuses; each reason is told when it is new."""
        before = dict(self._refused)
        for service in changed:
            self._refused.pop(service, None)
        self._refused.update(report.failed)
        for service, reason in report.failed.items():
            if before.get(service) != reason:
                log.warning("Not programmed", service=service, reason=reason)
                self._observer.refused(service, reason)

    def _log(self, report: ApplyReport, changed: int, seconds: float, verbosity: int) -> None:
        waited = report.waited_seconds
        lock_wait = {"lock_wait": f"{waited * 1000:.0f}ms"} if waited > 0 else {}
        log.info(
            "Synced",
            v=verbosity,
            mode=self._mode.name,
            services=len(self._state.services()),
            changed=changed,
            elements=f"+{report.added}-{report.deleted}",
            took=f"{seconds * 1000:.1f}ms",
            **lock_wait,
        )
