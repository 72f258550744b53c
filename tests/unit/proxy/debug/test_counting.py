"""Is each connection counted once and each byte once, whatever is told of it, and in which order?

A history is made up of flows that begin, carry bytes and end. The truth is what it is made of; what
is told of it are events, heard late and some of them never, and lists.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conntrack.traffic import Sighting
from proxy.debug.rates.counting import Counting, Tally

SERVICES = ("shop/dns:dns", "shop/pay:http")


def sighting(flow: int, carried: Sequence[int] | None, *, has_ended: bool = False) -> Sighting:
    """Of flow number so and so; of None the bytes are not told."""
    there, back = carried or (None, None)
    return Sighting(flow.to_bytes(4, "big"), has_ended, there, back)


class World:
    """What happens, and what is told of it."""

    def __init__(self) -> None:
        self.flows: dict[int, list[int]] = {}
        self.unheard: deque[tuple[str, Sighting]] = deque()
        self.counting = Counting()
        self.began: Counter[str] = Counter()
        self.carried: Counter[str] = Counter()
        self.told: list[dict[str, Tally]] = []
        self._number = 0
        self._overdue = 0

    def service(self, flow: int) -> str:
        """To which it goes."""
        return SERVICES[flow % len(SERVICES)]

    def begin(self, *, is_lost: bool = False) -> None:
        """A flow."""
        self._number += 1
        self.flows[self._number] = [0, 0]
        self.began[self.service(self._number)] += 1
        self._tell(self._number, sighting(self._number, None), is_lost=is_lost)

    def carry(self, which: int, there: int, back: int) -> None:
        """So many bytes."""
        flow = self._chosen(which)
        self.flows[flow][0] += there
        self.flows[flow][1] += back
        self.carried[self.service(flow)] += there + back

    def end(self, which: int, *, is_lost: bool = False) -> None:
        """A flow."""
        flow = self._chosen(which)
        self._tell(flow, sighting(flow, self.flows.pop(flow), has_ended=True), is_lost=is_lost)

    def hear(self, count: int) -> None:
        """Of the events that were told, the next ones."""
        for _ in range(min(count, len(self.unheard))):
            self._overdue -= 1
            self.counting.happened(*self.unheard.popleft())

    def look(self) -> None:
        """As `headgate top` does at the end of an interval."""
        self.hear(len(self.unheard))
        self.list()
        self.told.append(self.counting.taken())

    def list(self) -> None:
        """Everything that is there; here and there a flow twice.

        Until the next list, events that were told before this one may stay unheard.
        """
        self.hear(max(0, self._overdue))
        self._overdue = len(self.unheard)
        listed = [(self.service(of), sighting(of, bytes_)) for of, bytes_ in self.flows.items()]
        self.counting.listed(listed + listed[::3])

    def _chosen(self, which: int) -> int:
        return list(self.flows)[which % len(self.flows)]

    def _tell(self, flow: int, seen: Sighting, *, is_lost: bool) -> None:
        if not is_lost:
            self.unheard.append((self.service(flow), seen))

    def sums(self) -> tuple[Counter[str], Counter[str]]:
        """Beginnings and bytes that were told of."""
        began: Counter[str] = Counter()
        carried: Counter[str] = Counter()
        for tallies in self.told:
            for name, tally in tallies.items():
                assert min(msgspec.structs.astuple(tally)) >= 0
                began[name] += tally.began
                carried[name] += tally.bytes_in + tally.bytes_out
        return +began, +carried


numbers = st.integers(0, 1000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin")),
        st.tuples(st.just("carry"), numbers, numbers, numbers),
        st.tuples(st.just("end"), numbers),
        st.tuples(st.just("hear"), st.integers(1, 5)),
        st.tuples(st.just("list")),
        st.tuples(st.just("look")),
    ),
    max_size=60,
)


def happen(world: World, steps: Sequence[tuple[object, ...]], lost: Sequence[bool] = ()) -> None:
    """These steps, but for what needs a flow where there is none; some events are lost."""
    losses = iter(lost)
    for name, *of in steps:
        if name in ("carry", "end") and not world.flows:
            continue
        if name in ("begin", "end"):
            getattr(world, str(name))(*of, is_lost=next(losses, False))
        else:
            getattr(world, str(name))(*of)


@given(STEPS, STEPS)
def test_each_beginning_counts_once_and_each_byte(
    before: Sequence[tuple[object, ...]], steps: Sequence[tuple[object, ...]]
) -> None:
    world = World()
    happen(world, [step for step in before if step[0] not in ("hear", "list", "look")])
    world.counting.before(
        [(world.service(of), sighting(of, carried)) for of, carried in world.flows.items()]
    )
    # What was told before anybody knew of Services is lost, but for what is late.
    late = {of.to_bytes(4, "big") for of in world.flows}
    world.unheard = deque(event for event in world.unheard if event[1].flow in late)
    world.began.clear()
    world.carried.clear()
    happen(world, steps)
    world.look()
    assert world.sums() == (+world.began, +world.carried)
    there = Counter(map(world.service, world.flows))
    assert Counter({name: tally.flows for name, tally in world.told[-1].items()}) == there


@given(STEPS, st.lists(st.booleans(), max_size=60))
def test_what_is_lost_makes_it_less_and_never_more(
    steps: Sequence[tuple[object, ...]], lost: Sequence[bool]
) -> None:
    world = World()
    happen(world, steps, lost)
    world.look()
    began, carried = world.sums()
    assert began <= world.began
    assert carried <= world.carried


@given(
    st.lists(st.tuples(numbers, numbers), max_size=8).flatmap(
        lambda flows: st.permutations(list(enumerate(flows)))
    )
)
def test_the_order_of_flows_does_not_matter(flows: Sequence[tuple[int, tuple[int, int]]]) -> None:
    """But that of one flow's events does: the kernel tells them in theirs."""
    found = []
    for order in (flows, sorted(flows)):
        counting = Counting()
        for number, carried in order:
            counting.happened(SERVICES[number % 2], sighting(number, None))
            if number % 3:
                counting.happened(SERVICES[number % 2], sighting(number, carried, has_ended=True))
        found.append(counting.taken())
    assert found[0] == found[1]


def test_a_flow_that_took_the_place_of_another_is_another() -> None:
    """The same ports, and in the same memory: by its name it cannot be told."""
    counting = Counting()
    of = SERVICES[0]
    counting.before([(of, sighting(1, (500, 0)))])
    counting.happened(of, sighting(1, (600, 0), has_ended=True))
    counting.happened(of, sighting(1, None))
    counting.listed([(of, sighting(1, (50, 0)))])
    assert counting.taken() == {of: Tally(1, 150, 0, 1)}
    counting.listed([(of, sighting(1, (20, 0)))])  # its end was lost
    assert counting.taken() == {of: Tally(1, 20, 0, 1)}


def test_what_ended_unheard_is_forgotten() -> None:
    counting = Counting()
    of = SERVICES[0]
    counting.happened(of, sighting(1, None))
    counting.listed([])
    counting.listed([])
    assert counting.taken() == {of: Tally(began=1)}
    assert counting.taken() == {}
    counting.happened(of, sighting(1, (7, 7), has_ended=True))
    assert counting.taken() == {of: Tally(1, 7, 7)}


def test_flows_older_than_accounting_are_known_as_such() -> None:
    counting = Counting()
    of = SERVICES[0]
    counting.listed([(of, sighting(1, None)), (of, sighting(2, (3, 4)))])
    assert counting.taken() == {of: Tally(2, 3, 4, flows=2, uncounted=1)}
