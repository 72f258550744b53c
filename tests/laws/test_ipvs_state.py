"""Does the kernel hold what it shall, however it came there, and is all well on the way?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from endpoints.node import Loopback, NodeSettings, NodeView
from modes.base import Delta, IpvsSettings, ModeSettings
from modes.ipvs.ipsets import Kind, SetName
from modes.ipvs.mode import IpvsMode
from modes.ipvs.servers import FoundReal, FoundServer, RealServer, VirtualServer
from tests.laws.clusters import Cluster, Clustered, change, compiled, node_settings, objects
from tests.laws.effort import effort
from tests.unit.modes.ipvs.fake import Kernel, Killed, no_rules

EXAMPLES = effort(40)


def of_ipvs(wanted: NodeSettings) -> NodeSettings:
    """As `on_mode` has them for this mode."""
    return msgspec.structs.replace(wanted, loopback=Loopback.NEVER, holds_addresses=True)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NodeView, Sequence[Clustered]]:
    """One node, and what its cluster was from time to time."""
    node = of_ipvs(draw(node_settings))
    clusters = draw(st.lists(objects(), min_size=2, max_size=4))
    compiled_ones = [compiled(Cluster(node, listed)) for listed in clusters]
    return compiled_ones[0][0], [plans for _, plans in compiled_ones]


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def mode_on(kernel: Kernel, clock: Clock | None = None, seconds: int = 900) -> IpvsMode:
    """A headgate that has just been started."""
    wanted = ModeSettings(ipvs=IpvsSettings(drain_seconds=seconds))
    mode = IpvsMode(wanted, lambda *_, **__: None, clock or Clock(), kernel.machine)
    mode._rules = no_rules()
    return mode


def essence(kernel: Kernel) -> set[str]:
    """What the kernel holds, but for the numbers of marks, and what drains."""
    return {
        *(f"{'mark' if key.mark else key} {of.server} {sorted((str(r), at.weight) for r, at in of.reals.items())}"
          for key, of in kernel.servers.items()),
        *(f"{name} {element} {extra.comment}"
          for name, of in kernel.sets.items() if name.kind is not Kind.DRAINING
          for element, extra in of.items()),
        *kernel.link,
    }  # fmt: skip


def assert_same(kernel: Kernel, other: Kernel) -> None:
    """Nothing more and nothing less."""
    have, want = essence(kernel), essence(other)
    assert (have - want, want - have) == (set(), set())


def fresh(node: NodeView, plans: Clustered) -> Kernel:
    """A kernel that was told nothing before."""
    kernel = Kernel()
    mode = mode_on(kernel)
    mode.start(node)
    assert not mode.replace(plans).failed
    return kernel


@EXAMPLES
@given(histories())
def test_changes_make_what_a_start_makes(history: tuple[NodeView, Sequence[Clustered]]) -> None:
    node, clusters = history
    kernel, clock = Kernel(), Clock()
    mode = mode_on(kernel, clock, seconds=0)
    mode.start(node)
    mode.replace(clusters[0])
    for before, after in pairwise(clusters):
        assert not mode.apply(change(before, after)).failed
        assert not mode.glance().foreign
        assert not mode.verify()
        assert_same(kernel, fresh(node, after))


@EXAMPLES
@given(histories(), st.integers(1, 200))
def test_who_is_killed_and_started_again_makes_the_same(
    history: tuple[NodeView, Sequence[Clustered]], steps: int
) -> None:
    node, (first, second, *_) = history
    kernel = fresh(node, first)
    kernel.stops_after = kernel.steps + steps
    mode = mode_on(kernel)
    try:
        mode.start(node)
        mode.replace(first)
        mode.apply(change(first, second))
    except Killed:
        pass
    kernel.stops_after = None
    clock = Clock()
    mode = mode_on(kernel, clock)
    mode.start(node)
    assert not mode.replace(second).failed
    assert not mode.verify()
    clock.now += 1000
    mode.tend()
    assert mode.tend() is None
    assert_same(kernel, fresh(node, second))


@EXAMPLES
@given(histories())
def test_what_drains_ends_as_if_it_had_never_been(
    history: tuple[NodeView, Sequence[Clustered]],
) -> None:
    node, clusters = history
    kernel, clock = Kernel(), Clock()
    mode = mode_on(kernel, clock)
    mode.start(node)
    mode.replace(clusters[0])
    for before, after in pairwise(clusters):
        kernel.busy = {real for of in kernel.servers.values() for real in of.reals}
        assert not mode.apply(change(before, after)).failed
        mode.tend()
        assert not mode.verify()
        clock.now += 100
    clock.now += 1000
    mode.tend()
    assert mode.tend() is None
    assert not kernel.sets[SetName(Kind.DRAINING, next(iter(kernel.sets)).family)]
    assert_same(kernel, fresh(node, clusters[-1]))


@EXAMPLES
@given(histories())
def test_a_second_start_changes_nothing(history: tuple[NodeView, Sequence[Clustered]]) -> None:
    node, clusters = history
    kernel = fresh(node, clusters[0])
    before = essence(kernel)
    mode = mode_on(kernel)
    mode.start(node)
    assert mode.replace(clusters[0]).messages == 0
    assert essence(kernel) == before


@EXAMPLES
@given(histories())
def test_cleared_of_everything(history: tuple[NodeView, Sequence[Clustered]]) -> None:
    node, clusters = history
    kernel = fresh(node, clusters[0])
    mode = mode_on(kernel)
    mode.start(node)
    mode.replace({})
    mode.tend()
    assert not kernel.servers
    assert not any(kernel.sets.values())
    assert not kernel.link


@EXAMPLES
@given(histories(), st.integers(0, 1 << 32))
def test_virtual_servers_of_others_stay_as_they_are(
    history: tuple[NodeView, Sequence[Clustered]], seed: int
) -> None:
    """Also those that a Service wants: it is named, each time, and all others are served."""
    node, clusters = history
    theirs = FoundServer(VirtualServer("wlc"), {RealServer("10.244.9.9", 99): FoundReal(5)})
    wanted = sorted(
        {key for plans in clusters for key in fresh(node, plans).servers if key.address}
    )
    kernel = Kernel()
    kernel.foreign = set(Random(seed).sample(wanted, min(2, len(wanted))))
    kernel.servers = dict.fromkeys(kernel.foreign, theirs)
    mode = mode_on(kernel)
    mode.start(node)
    mode.replace(clusters[0])
    for before, after in pairwise(clusters):
        mode.apply(change(before, after))
        assert {key: kernel.servers[key] for key in kernel.foreign} == dict.fromkeys(
            kernel.foreign, theirs
        )
        again = mode_on(kernel)
        again.start(node)
        failed = again.replace(after).failed
        hit = kernel.foreign & fresh(node, after).servers.keys()
        assert bool(failed) is bool(hit)
        assert again.apply(Delta({name: after[name] for name in failed})).failed == failed
        mode = again
    kernel.watch()
    mode.replace({})
    mode.tend()
    assert kernel.servers == dict.fromkeys(kernel.foreign, theirs)
