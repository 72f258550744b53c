"""Which flows are forgotten after a change of the rules, and what does that cost?

The steps: remember what is promised now, doubt what differs from before, ask the kernel for flows
to just these frontends, forget the lies. A change that leaves no flow in doubt asks nothing: an
endpoint more is such a change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from conntrack import stale
from conntrack.flows import Filter, Flow, admits, decode, sent_to
from conntrack.kernel import Kernel
from conntrack.promises import Promises
from conntrack.stale import Doubt, Doubts, Past, Reached
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import NodeView
from modes.base import Delta, EnvironmentFault, KernelFault, Missing, Plans

DATAGRAMS = frozenset({Protocol.UDP, Protocol.SCTP})
"""Protocols of which a client may send for ever and never begin anew. TCP is left to finish: to
forget a connection that closes would break it (REFERENCE A.2)."""


class Cleaned(msgspec.Struct, frozen=True):
    """What was done about flows that became lies."""

    deleted: Mapping[Family, int] = {}
    """How many, of families that were looked at."""
    seconds: Mapping[Family, float] = {}
    """How long that took, likewise."""
    dumps: int = 0
    messages: int = 0
    """Sent to the kernel, dumps included."""


class Conntrack:
    """Keeps conntrack true to the rules. Not thread-safe.

    It works in the network namespace of the thread that first finds something to doubt.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        protocols: AbstractSet[Protocol] = DATAGRAMS,
        open_kernel: Callable[[], Kernel] = Kernel,
    ) -> None:
        """Nothing is asked yet.

        Args:
            clock: counts seconds.
            protocols: whose flows may be forgotten.
            open_kernel: makes the connection, when it is needed.
        """
        self._clock = clock
        self._promises = Promises(protocols)
        self._pasts: dict[Reached, Past] = {}
        """What the last attempts left undone."""
        self._open_kernel = open_kernel
        self._kernel: Kernel | None = None
        self._filters_work = True

    def close(self) -> None:
        """Give the socket back; the memory stays."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def replaced(
        self, services: Mapping[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> Cleaned:
        """Forget what is a lie, now that the kernel holds exactly these Services.

        The first time nobody knows the past: then a flow that was translated at one of the
        frontends, and not to an endpoint that serves it, counts as a lie. `services` is walked
        once; of `refused` ones the kernel has what it had before.

        Raises KernelFault: what is left undone is tried again by the next call. Raises
        EnvironmentFault: conntrack cannot be asked here.
        """
        return self._clean(self._promises.replaced(services, node, refused))

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> Cleaned:
        """Forget what a change of the rules made a lie. `refused` and faults as of `replaced`."""
        return self._clean(self._promises.applied(delta, node, refused))

    def _clean(self, changed: Mapping[Reached, Past]) -> Cleaned:
        for at, past in changed.items():
            self._pasts[at] = past.merged(self._pasts[at]) if at in self._pasts else past
        doubts = {
            at: doubt
            for at, past in self._pasts.items()
            if (doubt := Doubt(past, self._promises.serving(at) or frozenset()))
        }
        cleaned = self._forget(doubts) if doubts else Cleaned()
        self._pasts = {}
        return cleaned

    def _forget(self, doubts: Doubts) -> Cleaned:
        deleted: dict[Family, int] = {}
        seconds: dict[Family, float] = {}
        try:
            kernel = self._kernel = self._kernel or self._open_kernel()
            dumps, messages = kernel.dumps, kernel.messages
            for family in Family:
                if mine := {at: doubt for at, doubt in doubts.items() if at.family is family}:
                    began = self._clock()
                    deleted[family] = kernel.delete(self._lies(kernel, family, mine))
                    seconds[family] = self._clock() - began
        except EnvironmentFault:
            self._pasts = {}  # it will not be otherwise by waiting
            self.close()
            raise
        except KernelFault:
            self.close()  # a dump that was not read to its end would be in the way of the next
            raise
        return Cleaned(deleted, seconds, kernel.dumps - dumps, kernel.messages - messages)

    def _lies(self, kernel: Kernel, family: Family, doubts: Doubts) -> list[Flow]:
        """The lies of one family; flows to nobody's frontend are not even decoded."""
        wanted = stale.destinations(doubts)
        lies: list[Flow] = []
        for asked in self._filters(family, doubts):
            for payload in self._dump(kernel, asked):
                to = sent_to(family, payload)
                if to is None:
                    continue
                self._filters_work = self._filters_work and admits(asked, to)
                flow = decode(family, payload) if to in wanted else None
                if flow is not None and stale.refuted(doubts, flow):
                    lies.append(flow)
            if not self._filters_work:
                break  # that was everything already
        return lies

    def _filters(self, family: Family, doubts: Iterable[Reached]) -> list[Filter]:
        return list(stale.filters(doubts)) if self._filters_work else [Filter(family)]

    def _dump(self, kernel: Kernel, asked: Filter) -> Iterable[bytes]:
        try:
            yield from kernel.dump(asked)
        except Missing:
            if asked.protocol is None:
                raise
            self._filters_work = False
            yield from kernel.dump(Filter(asked.family))
