"""How does news of the cluster become a change of the kernel?

The only place where the steps meet: fold the events, plan what they made dirty, apply the plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from endpoints.addresses import family
from endpoints.events import Delete, Folded, Problem, Replace, Upsert
from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import ApplyReport, Delta, EnvironmentFault, KernelFault, Mode, Plans
from proxy import log
from proxy.sources.base import LocalAddresses, Message, Together


class Outcome(msgspec.Struct, frozen=True):
    """What became of an attempt to make the kernel agree."""

    fault: str = ""
    """The kernel refused the whole: what it holds is not known."""
    refused: Mapping[ObjectName, str] = {}
    """Services that are not as they should be, with the kernel's reasons; all others are."""
    problems: int = 0
    """How many refusals of input were reported so far."""


class Observer(Protocol):
    """Who counts what syncs do; told by the thread that syncs."""

    def synced(self, seconds: float, report: ApplyReport) -> None:
        """A sync took so long and did this."""

    def failed(self) -> None:
        """A sync failed as a whole."""


class Nobody:
    """Counts nothing."""

    def synced(self, seconds: float, report: ApplyReport) -> None:
        """As of an Observer."""

    def failed(self) -> None:
        """As of an Observer."""


class AllPlans(Mapping[ObjectName, Plans]):
    """The plans of all Services, each made when it is looked at: they need not fit in memory."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state

    def __getitem__(self, service: ObjectName) -> Plans:
        if service not in self._state.services():
            raise KeyError(service)
        return self._state.plans(service)

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
    ) -> None:
        self._state = state
        self._mode = mode
        self._awaited = set(kinds)
        self._clock = clock
        self._observer = observer or Nobody()
        self._started = False
        self._unknown = True
        self._refused: dict[ObjectName, str] = {}
        self._problems = 0
        self._warned: set[tuple[str, str]] = set()

    def run(self, messages: Iterable[Message], *, retry: bool = False) -> Outcome | None:
        """Take in what is new and bring the kernel up to it; with `retry`, what failed too.

        Returns None if there was nothing to do, or not yet. Raises EnvironmentFault when the first
        attempt shows that this machine cannot do it.
        """
        began = self._clock()
        dirty, node_changed = self._fold(messages)
        if self._awaited or (self._started and self._unknown and not retry):
            return None
        everything = self._unknown or node_changed
        dirty |= self._refused.keys() if retry else set()
        if not everything and not dirty:
            return None
        try:
            report = self._replace() if everything else self._apply(dirty)
        except (KernelFault, EnvironmentFault, OSError) as fault:
            if isinstance(fault, EnvironmentFault) and not self._started:
                raise
            return self._failed(str(fault))
        verbosity = 2 if self._started else 0
        self._started = True
        self._unknown = False
        changed = self._state.services() if everything else dirty
        self._remember(changed, report)
        seconds = self._clock() - began
        self._observer.synced(seconds, report)
        waited = report.waited_seconds
        lock_wait = {"lock_wait": f"{waited * 1000:.0f}ms"} if waited > 0 else {}
        log.info(
            "Synced",
            v=verbosity,
            mode=self._mode.name,
            services=len(self._state.services()),
            changed=len(changed),
            elements=f"+{report.added}-{report.deleted}",
            took=f"{seconds * 1000:.1f}ms",
            **lock_wait,
        )
        return Outcome("", dict(self._refused), self._problems)

    def tend(self) -> float | None:
        """Do what only the passing of time asks for; the seconds until that is wanted again.

        None: not before the next sync that succeeds. While it is not known what the kernel holds,
        nothing is done.
        """
        return None if self._unknown else self._mode.tend()

    def _fold(self, messages: Iterable[Message]) -> tuple[set[ObjectName], bool]:
        dirty: set[ObjectName] = set()
        node_changed = False
        for message in messages:
            for folded in self._folded(message):
                dirty |= folded.dirty
                node_changed |= folded.node_changed
                for problem in folded.problems:
                    self._report(problem)
        return dirty, node_changed

    def _folded(self, message: Message) -> Iterator[Folded]:
        match message:
            case Problem():
                self._report(message)
            case LocalAddresses(addresses):
                yield self._state.observe_addresses(addresses)
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

    def _replace(self) -> ApplyReport:
        node = self._state.node
        adopted = self._mode.start(node)
        self._warn_of(node)
        log.info(
            "Kept the rules that were there" if adopted.kept else "Making the rules anew",
            v=int(self._started),
            mode=self._mode.name,
            elements=adopted.elements,
            reason=adopted.reason,
        )
        for warning in adopted.warnings:
            log.warning("Degraded", mode=self._mode.name, reason=warning)
        return self._mode.replace(AllPlans(self._state))

    def _warn_of(self, node: NodeView) -> None:
        """Say what of the node's configuration cannot be what was meant; each time once."""
        told = set()
        if not any(node.local_traffic.known(of) for of in Family):
            reason = "local pods cannot be told from others: their traffic counts as from outside"
            told.add((f"--detect-local-mode {node.local_traffic.mode}", reason))
        for of in sorted({family(a) for a in node.addresses if not is_loopback(a)}):
            if not (node.node_ports(of).match_all or node.node_ports(of).addresses):
                reason = f"NodePorts answer on no {of} address of this node"
                told.add(("--nodeport-addresses", reason))
        for flag, reason in sorted(told - self._warned):
            log.warning("Check the configuration", flag=flag, reason=reason)
        self._warned = told

    def _apply(self, dirty: Iterable[ObjectName]) -> ApplyReport:
        plans = {service: self._state.plans(service) for service in sorted(dirty)}
        gone = frozenset(service for service, of in plans.items() if not of)
        return self._mode.apply(Delta({service: of for service, of in plans.items() if of}, gone))

    def _failed(self, fault: str) -> Outcome:
        self._started = True
        self._unknown = True
        self._observer.failed()
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
