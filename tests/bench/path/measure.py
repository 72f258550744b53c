"""What does a packet pay for rules? All variants side by side, in one process, in turns.

Each has a world of its own. A round goes through the variants many times, a few packets each, every
time in another order, so that whatever disturbs the machine disturbs all of them alike.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path as FilePath
from statistics import median, quantiles

import msgspec

from tests.bench.cluster import Size
from tests.bench.path import echo, rules, traffic
from tests.bench.path.results import NONE, RULE, STRAIGHT, TRACKED, Figure, Path, Spread
from tests.bench.path.world import POD_ADDRESSES, PODS, World, built
from tests.bench.whole.measure import takes_minutes
from tests.bench.whole.story import Contender
from tests.lab import sandbox

HEADGATE, KUBE_PROXY = "headgate", "kube-proxy"
MIN_ROUNDS = 2
"""Quartiles need two."""


class Effort(msgspec.Struct, frozen=True):
    """How many packets make a round of one variant."""

    turns: int = 10
    """Each has so many of the following; short ones would measure what is not in a cache yet."""
    datagrams: int = 100
    connects: int = 100
    batches: int = 5
    connections: int = 20
    """In a batch. Short ones: whoever takes the processor meanwhile spoils few of them."""


EFFORT = Effort()


class Taken(msgspec.Struct):
    """What one round took."""

    datagram: float
    """Microseconds, the median; the next too."""
    connect: float
    connections: float
    """A second, in the median batch."""


class Variant(msgspec.Struct, frozen=True):
    """Whose rules, and how many."""

    name: str
    back_end: str = ""
    services: int = 0

    def __str__(self) -> str:
        """`headgate nftables, 1,000 Services`."""
        if not self.back_end:
            return self.name
        return f"{self.name} {self.back_end}, {self.services:,} Services"


def measured(
    back_ends: Sequence[str],
    services: Sequence[int],
    rounds: int,
    peer: str | None,
    tell: Callable[[str], None],
    effort: Effort = EFFORT,
    *,
    full: bool = False,
) -> list[Path]:
    """Send packets through the rules of headgate, and of `peer`, a kube-proxy, if there is one.

    The back ends are those of `tests.lab.modes`. Where the peer needs minutes to write its rules it
    is left out, unless the measurement is to be `full`. Raises what the programs that write rules end with,
    traffic.Astray if somebody else answered than the pods, BlockingIOError if nobody did.
    """
    sandbox.require_sandbox()
    if rounds < MIN_ROUNDS:
        raise ValueError(f"rounds {rounds}: must be at least {MIN_ROUNDS}")
    with tempfile.TemporaryDirectory(dir="/run") as folder, ExitStack() as stack:
        worlds: dict[Variant, World] = {}
        for number, variant in enumerate(_variants(back_ends, services, peer)):
            if peer and not full and _takes_minutes(variant, peer):
                tell(f"path: {variant} left out: it takes minutes; FULL=1 measures it too")
                continue
            tell(f"path: {variant}: its rules")
            world = stack.enter_context(built(FilePath(folder) / str(number)))
            _write(variant, world, peer, tell)
            worlds[variant] = world
        tell(f"path: {rounds} rounds of {len(worlds)} variants")
        with echoing(list(worlds.values())):
            taken = [_round(worlds, effort) for _ in range(rounds)]
        return [_found(variant, worlds[variant], taken) for variant in worlds]


def _variants(
    back_ends: Sequence[str], services: Sequence[int], peer: str | None
) -> Iterator[Variant]:
    yield from map(Variant, (NONE, TRACKED, RULE))
    for back_end in back_ends:
        for program in (STRAIGHT, HEADGATE, *((KUBE_PROXY,) if peer else ())):
            yield from (Variant(program, back_end, count) for count in services)


def _takes_minutes(variant: Variant, peer: str) -> bool:
    contender = Contender(KUBE_PROXY, peer)
    return variant.name == KUBE_PROXY and takes_minutes(
        contender, variant.back_end, Size(variant.services, len(PODS))
    )


def _write(variant: Variant, world: World, peer: str | None, tell: Callable[[str], None]) -> None:
    if variant.name == TRACKED:
        rules.track(world)
    elif variant.name == RULE:
        rules.write_one_rule(world)
    elif variant.name in (HEADGATE, STRAIGHT):
        rules.write_by_headgate(world, variant.back_end, variant.services)
        if variant.name == STRAIGHT:
            world.targets = POD_ADDRESSES
    elif variant.name == KUBE_PROXY:
        assert peer is not None
        rules.write_by_peer(world, peer, variant.back_end, variant.services, tell)


@contextmanager
def echoing(worlds: Sequence[World]) -> Iterator[None]:
    """Keep this thread on one processor, and on the same one a process that answers datagrams."""
    before = os.sched_getaffinity(0)
    processor = max(before)
    descriptors = [world.datagrams.fileno() for world in worlds]
    command = [sys.executable, "-m", echo.__name__, str(processor), *map(str, descriptors)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=descriptors) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == echo.READY
            os.sched_setaffinity(0, {processor})
            yield
        finally:
            os.sched_setaffinity(0, before)
            process.kill()


def _round(worlds: Mapping[Variant, World], effort: Effort) -> dict[Variant, Taken]:
    """One round of all variants."""
    datagrams: dict[Variant, list[int]] = {variant: [] for variant in worlds}
    connects: dict[Variant, list[int]] = {variant: [] for variant in worlds}
    connections: dict[Variant, list[int]] = {variant: [] for variant in worlds}
    order = list(worlds)
    for _ in range(effort.turns):
        random.shuffle(order)
        with _no_garbage():
            for variant in order:
                world = worlds[variant]
                datagrams[variant] += traffic.datagrams(world, effort.datagrams)
                connects[variant] += traffic.connects(world, effort.connects)
                for _ in range(effort.batches):
                    connections[variant].append(traffic.connections(world, effort.connections))
    for world in worlds.values():
        world.forget_flows()
    return {
        variant: Taken(
            median(datagrams[variant]) / 1000,
            median(connects[variant]) / 1000,
            effort.connections * 1e9 / median(connections[variant]),
        )
        for variant in worlds
    }


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect garbage before and after, not meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _found(variant: Variant, world: World, rounds: Sequence[Mapping[Variant, Taken]]) -> Path:
    if not world.answers.keys() <= set(PODS):
        raise traffic.Astray(f"{variant}: answers came from {dict(world.answers)}")

    def figure(part: Callable[[Taken], float]) -> Figure:
        def of(other: Variant) -> list[float]:
            return [part(taken[other]) for taken in rounds]

        mine = of(variant)
        none, tracked = (_ratio(mine, of(Variant(name))) for name in (NONE, TRACKED))
        straight = None
        if variant.name == HEADGATE:
            same = Variant(STRAIGHT, variant.back_end, variant.services)
            straight = _ratio(mine, of(same))
        return Figure(_spread(mine), none, tracked, straight)

    return Path(
        variant.name,
        variant.back_end,
        variant.services,
        figure(lambda taken: taken.datagram),
        figure(lambda taken: taken.connect),
        figure(lambda taken: taken.connections),
        pods=len(world.answers),
        packets=world.answers.total(),
    )


def _ratio(mine: Sequence[float], other: Sequence[float]) -> Spread:
    return _spread([a / b for a, b in zip(mine, other, strict=True)])


def _spread(values: Sequence[float]) -> Spread:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)
