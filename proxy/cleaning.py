"""When are flows forgotten that have become lies?

A moment after the change, by a thread of its own: a sync waits for no list of flows, changes that
follow each other cost one list, and an answer that is under way when its endpoint goes still finds
its flow. It is also when a packet that met the rules from before the change has made its flow.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Protocol

from conntrack.tracker import Cleaned
from endpoints.names import ObjectName
from endpoints.node import NodeView
from modes.base import Delta, EnvironmentFault, KernelFault, Plans
from proxy import log
from proxy.observer import Observer
from proxy.sources.base import Died, Sink

GRACE_SECONDS = 0.4
RETRY_SECONDS = 1.0


class Flows(Protocol):
    """Who knows which tracked flows have become lies; see `conntrack.tracker`."""

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],
        node: NodeView,
        refused: Collection[ObjectName],
        *,
        doubtful: bool = False,
    ) -> bool:
        """The kernel holds these Services, all there are; whether any flow is doubtful."""

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> bool:
        """The rules have changed; whether any flow is doubtful."""

    def forget(self) -> Cleaned:
        """Forget the lies. Raises KernelFault and EnvironmentFault."""


class Cleaning:
    """Forgets flows; `observer` is told by its thread. What cannot be done is told once."""

    def __init__(self, flows: Flows, observer: Observer) -> None:
        self._flows = flows
        self._observer = observer
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._told = ""

    def start(self, sink: Sink) -> None:
        """Begin to forget what is doubtful."""
        self._sink = sink
        self._thread = threading.Thread(target=self._run, name="conntrack", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Forget what is doubtful now, and end the thread."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join()

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],
        node: NodeView,
        refused: Collection[ObjectName],
        *,
        doubtful: bool,
    ) -> None:
        """The kernel holds these Services. `doubtful`: it may not have held what it was told."""
        if self._flows.replaced(services, node, refused, doubtful=doubtful):
            self._wanted.set()

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> None:
        """The kernel has taken a change, but for `refused` Services."""
        if self._flows.applied(delta, node, refused):
            self._wanted.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wanted.wait()
                self._stopping.wait(GRACE_SECONDS)
                self._wanted.clear()
                if not self._forget() and not self._stopping.wait(RETRY_SECONDS):
                    self._wanted.set()
        except Exception as error:  # noqa: BLE001 (the main thread reports it, and ends the program)
            self._sink.put(Died("conntrack", error))

    def _forget(self) -> bool:
        """Whether there is nothing to try again."""
        try:
            cleaned = self._flows.forget()
        except (KernelFault, EnvironmentFault, OSError) as fault:
            if str(fault) != self._told:
                self._told = str(fault)
                log.warning("Stale flows are not deleted", reason=self._told)
            return isinstance(fault, EnvironmentFault)
        self._told = ""
        if any(cleaned.deleted.values()):
            deleted = {str(of): count for of, count in cleaned.deleted.items() if count}
            log.info("Deleted stale flows", v=2, **deleted)
        self._observer.cleaned(cleaned.deleted, cleaned.seconds)
        return True
