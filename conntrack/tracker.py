"""Which flows are forgotten after a change of the rules, and what does that cost?

The steps: remember what is promised now, doubt what differs from before; then ask the kernel for
flows to just these frontends, and forget the lies. A change that leaves no flow in doubt asks
nothing: an endpoint more is such a change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from conntrack import stale
from conntrack.flows import Filter, Flow, admits, decode, sent_to
from conntrack.kernel import Kernel
from conntrack.promises import Promises
from conntrack.stale import Doubt, Doubts, Endpoints, Past, Reached
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
    """Keeps conntrack true to the rules.

    One thread tells of the rules, which costs what has changed; one forgets, which the kernel may
    take its time for, in the network namespace in which it first does so.
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
        """Of what is to be looked at."""
        self._lock = threading.Lock()
        """Held while those two are read or changed."""
        self._open_kernel = open_kernel
        self._kernel: Kernel | None = None
        self._filters_work = True

    def close(self) -> None:
        """Give the socket back; the memory stays."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],
        node: NodeView,
        refused: Collection[ObjectName],
        *,
        doubtful: bool = False,
    ) -> bool:
        """The kernel holds exactly these Services now; whether that makes any flow doubtful.

        The first time nobody knows the past, nor if the kernel may not have held what it was told
        (`doubtful`): then a flow to one of the frontends counts as a lie if it was not translated
        to an endpoint that serves it. `services` is walked once; of `refused` ones the kernel has
        what it had before.
        """
        with self._lock:
            changed = self._promises.replaced(services, node, refused, doubtful=doubtful)
            return self._doubt(changed)

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> bool:
        """The rules have changed; whether that makes any flow doubtful. `refused` as above."""
        with self._lock:
            return self._doubt(self._promises.applied(delta, node, refused))

    def forget(self) -> Cleaned:
        """Forget what has become a lie.

        Raises KernelFault: what is left undone is tried again by the next call. Raises
        EnvironmentFault: conntrack cannot be asked here.
        """
        with self._lock:
            pasts, self._pasts = self._pasts, {}
            doubts = dict(self._doubts(pasts))
        if not doubts:
            return Cleaned()
        try:
            return self._forget(doubts)
        except EnvironmentFault:  # it will not be otherwise by waiting
            self.close()
            raise
        except KernelFault:
            self.close()  # a dump that was not read to its end would be in the way of the next
            with self._lock:
                self._doubt(pasts)
            raise

    def _doubt(self, changed: Mapping[Reached, Past]) -> bool:
        for at, past in changed.items():
            self._pasts[at] = past.merged(self._pasts[at]) if at in self._pasts else past
        return any(True for _ in self._doubts(self._pasts))

    def _doubts(self, pasts: Mapping[Reached, Past]) -> Iterator[tuple[Reached, Doubt]]:
        for at, past in pasts.items():
            if doubt := Doubt(past, self._promises.serving(at) or frozenset()):
                yield at, doubt

    def _forget(self, doubts: Doubts) -> Cleaned:
        deleted: dict[Family, int] = {}
        seconds: dict[Family, float] = {}
        kernel = self._kernel = self._kernel or self._open_kernel()
        dumps, messages = kernel.dumps, kernel.messages
        for family in Family:
            if mine := {at: doubt for at, doubt in doubts.items() if at.family is family}:
                began = self._clock()
                lies = self._still(self._lies(kernel, family, mine))
                deleted[family] = kernel.delete(lies)
                seconds[family] = self._clock() - began
        return Cleaned(deleted, seconds, kernel.dumps - dumps, kernel.messages - messages)

    def _still(self, lies: Iterable[Flow]) -> list[Flow]:
        """Those that no change has made true again since they were found."""
        with self._lock:
            return [flow for flow in lies if flow.reply.source not in self._serving(flow)]

    def _serving(self, flow: Flow) -> Endpoints:
        to = flow.original.destination
        at = Reached(flow.family, flow.protocol, to.address, to.port)
        return self._promises.serving(at) or frozenset()

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
