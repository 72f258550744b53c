"""Which way did the packets of a flow take, there and back? Pure.

Events are told packet by packet, in the order in which they happen; a packet is known by the
kernel's number of it, which a later one of the same flow may have again. A flow is known by its
client. That a translated packet belongs to it is learnt on its way, where it was seen both before
and after: so its answers are known, too.
"""

from __future__ import annotations

from typing import NamedTuple

from modes.tracing.events import Ends, Event, Header, Kind
from modes.tracing.program import (
    HOOKS,
    INPUT,
    OUTPUT,
    PLACES,
    POSTROUTING,
    PREROUTING,
    Aim,
    Place,
)

_LOOPBACK = 1
"""Index of `lo` in every network namespace."""
_WAYS = 8
"""Packets of one direction that are remembered."""
_STEPS = 200
_PACKETS = 256
_ORDER = {place: number for number, place in enumerate(PLACES.values())}
_ENDS = {(POSTROUTING, 299), (INPUT, 150)}


class RuleAt(NamedTuple):
    """Where a rule is."""

    family: str
    table: str
    chain: str
    handle: int
    """0: the policy of a base chain."""


class Seen(NamedTuple):
    """A packet was at a place."""

    place: Place
    header: Header
    arrived_by: int
    """Index of an interface; 0: none."""
    leaves_by: int
    mark: int


class Matched(NamedTuple):
    """A rule of somebody matched a packet."""

    hook: int
    rule: RuleAt
    verdict: str


class Way:
    """The way of one packet through this kernel."""

    def __init__(self, first: Seen, now: float) -> None:
        self.steps: list[Seen | Matched] = [first]
        self.began = self.last = now

    @property
    def first(self) -> Seen:
        """Where it was seen first."""
        return next(step for step in self.steps if isinstance(step, Seen))

    @property
    def latest(self) -> Seen:
        """Where it was seen last."""
        return next(step for step in reversed(self.steps) if isinstance(step, Seen))

    @property
    def is_through(self) -> bool:
        """Whether it left this kernel, or reached a process here."""
        return self.refusal is None and self.latest.place in _ENDS

    @property
    def refusal(self) -> Matched | None:
        """The rule that dropped it."""
        last = self.steps[-1]
        return last if isinstance(last, Matched) and last.verdict == "drop" else None

    def add(self, step: Seen | Matched, now: float) -> None:
        """It went on."""
        self.last = now
        if len(self.steps) < _STEPS:
            self.steps.append(step)


class Flow:
    """What a client sent to the place that is watched, and what was answered."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        """As the client sees them."""
        self.forth: list[Way] = []
        self.back: list[Way] = []
        self.translated = {ends}
        """What its packets were turned into on their way, and what they were at first."""

    @property
    def way(self) -> Way:
        """The first packet of the client that came through; of none, that which came farthest."""
        through = (way for way in self.forth if way.is_through)
        return next(through, None) or max(self.forth, key=lambda way: len(way.steps))

    @property
    def answer(self) -> Way | None:
        """That answer which came farthest."""
        return max(self.back, key=lambda way: (way.is_through, -way.began), default=None)


class Following:
    """Puts events together to flows: to so many, for the others there is no room."""

    def __init__(self, aim: Aim, count: int, table: str) -> None:
        """`table`: that of our own chains."""
        self.flows: list[Flow] = []
        self.passed_over = 0
        """Packets of other flows, once there were enough."""
        self._aim = aim
        self._count = count
        self._table = table
        self._packets: dict[int, tuple[Flow, Way]] = {}

    @property
    def is_full(self) -> bool:
        """Whether further flows are passed over."""
        return len(self.flows) >= self._count

    def take(self, event: Event, now: float) -> None:
        """One more thing happened, at a time in seconds of any clock."""
        known = self._packets.get(event.packet)
        if event.table != self._table:
            if known and (matched := _matched(event, known[1])):
                known[1].add(matched, now)
            return
        place = PLACES.get(event.chain)
        if event.header is None or place is None:
            return
        seen = Seen(place, event.header, event.arrived_by, event.leaves_by, event.mark)
        if known is None or _begins(seen, known[1]):
            self._begin(event.packet, seen, now)
            return
        flow, way = known
        way.add(seen, now)
        if way in flow.forth:
            flow.translated.add(event.header.ends)

    def _begin(self, packet: int, seen: Seen, now: float) -> None:
        """A packet that was not seen before."""
        self._packets.pop(packet, None)
        ends = seen.header.ends
        flow = self._client(ends) or self._by_translation(seen)
        if flow is not None:
            self._remember(packet, flow, _further(flow, flow.forth, seen, now))
            return
        flow = self._by_answer(seen.header)
        if flow is not None:
            self._remember(packet, flow, _further(flow, flow.back, seen, now))
        else:
            self.passed_over += 1

    def _remember(self, packet: int, flow: Flow, way: Way | None) -> None:
        if way is None:
            return
        if len(self._packets) >= _PACKETS:
            del self._packets[next(iter(self._packets))]
        self._packets[packet] = (flow, way)

    def _client(self, ends: Ends) -> Flow | None:
        """The flow that a client's own packet belongs to, a new one if there is room."""
        aim = self._aim
        to = (aim.protocol.number, aim.address, aim.port)
        if (ends.protocol, ends.destination, ends.destination_port) != to:
            return None
        if aim.source is not None and ends.source != aim.source:
            return None
        for flow in self.flows:
            if flow.ends == ends:
                return flow
        if self.is_full:
            return None
        self.flows.append(Flow(ends))
        return self.flows[-1]

    def _by_translation(self, seen: Seen) -> Flow | None:
        """A packet of the client that was translated already, and got another number."""
        ends = seen.header.ends
        for flow in self.flows:
            if ends in flow.translated or any(_sends_on(seen, way.latest) for way in flow.forth):
                return flow
        return None

    def _by_answer(self, header: Header) -> Flow | None:
        back = header.ends.reversed
        for flow in self.flows:
            if back in flow.translated:
                return flow
        if header.icmp is None:
            return None
        # It tells too little of the packet that it is about: of whom it goes to alone.
        to = header.ends.destination
        waiting = [flow for flow in self.flows if to in {ends.source for ends in flow.translated}]
        return next((flow for flow in waiting if not flow.back), waiting[0] if waiting else None)


def _begins(seen: Seen, way: Way) -> bool:
    """Whether this is another packet than the one that had its number.

    On a bridge a number may be known from hook forward alone: the next packet has it again there.
    """
    return _ORDER[seen.place] <= _ORDER[way.latest.place]


def _further(flow: Flow, ways: list[Way], seen: Seen, now: float) -> Way | None:
    """Where a packet's steps go: behind those that it took by another number, or to a new list.

    The kernel's number depends on the interface where a packet was received: a bridge shows it to
    prerouting before it is its own, and by `lo` what left this kernel comes back.
    """
    for way in reversed(ways):
        if _follows(seen, way.latest) or _sends_on(seen, way.latest):
            way.add(seen, now)
            break
    else:
        way = Way(seen, now)
        if len(ways) >= _WAYS:
            return None
        ways.append(way)
    if ways is flow.forth:
        flow.translated.add(seen.header.ends)
    return way


def _follows(seen: Seen, before: Seen) -> bool:
    """Whether this is where the same packet is next."""
    if seen.header.ends != before.header.ends:
        return False
    if seen.place.hook == PREROUTING:
        return seen.arrived_by == _LOOPBACK and before.place.hook == POSTROUTING
    return seen.place.hook != OUTPUT and _ORDER[before.place] < _ORDER[seen.place]


def _sends_on(seen: Seen, before: Seen) -> bool:
    """Whether IPVS took the packet in hook input or output, and sends it on, translated."""
    ends, was = seen.header.ends, before.header.ends
    is_taken = before.place.hook in (INPUT, OUTPUT) and before.place not in _ENDS
    is_same_sender = ends[:3] == was[:3]
    return seen.place.hook == OUTPUT and is_taken and is_same_sender and ends != was


def _matched(event: Event, way: Way) -> Matched | None:
    """None for the end of a chain that decides nothing."""
    is_rule = event.kind is Kind.RULE and event.handle
    if not is_rule and not (event.kind is Kind.POLICY and event.verdict == "drop"):
        return None
    at = RuleAt(event.family, event.table, event.chain, event.handle)
    return Matched(way.latest.place.hook, at, event.verdict)


def hook_name(hook: int) -> str:
    """`prerouting`."""
    return HOOKS[hook]
