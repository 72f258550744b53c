"""Where does the time of a full load go, and that of a change?

    python -m tests.bench.profile [--mode nftables] [--size 10000x10] [--changes 1000] [--stacks FILE]

The program's parts as `worker` runs them, in this process, which is looked at by a `Sampler`. Each
sample belongs to the step of its innermost call that is part of one. A program that is looked at is
slower, by a fifth to a half: read the shares here, and the times in `make bench`. With `--stacks`
all stacks are written as the tools for flame graphs want them: `flamegraph.pl FILE`, or
https://www.speedscope.app.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

import msgspec

from proxy.debug.screen import PLAIN
from proxy.garbage import collect_seldom
from tests.bench import cluster, feed, instruments
from tests.bench.cluster import Size
from tests.bench.sampler import PROGRAMS, Place, Sampler, Stack, Stacks, collapsed
from tests.bench.worker import Program, lines_of
from tests.lab import modes, sandbox

CHANGES: Mapping[str, Callable[[Size, int], Iterable[bytes]]] = {
    "an endpoint replaced": cluster.replacements,
    "an endpoint removed or added": cluster.resizings,
}
WHERE = 3
"""The functions that are named beside a step, at most."""
NOTEWORTHY = 0.05
"""Of a step: functions with less are not named."""
_ITS = contextlib.__name__, f"namedtuple_{instruments.Instant.__name__}"
"""What a stopwatch calls."""
KERNEL, OTHER = "the kernel", "other"
_FUNCTIONS = {
    "tests.bench.instruments.MeasuredSocket.sendall": KERNEL,
    str(PROGRAMS): "programs",
    "tests.bench.instruments.MeasuredSocket.recv": "transport",
    "endpoints.state.ClusterState.fold": "fold",
    "endpoints.state.ClusterState.plans": "plan",
}
"""Where a step is entered that shares its module with another."""
_MODULES = {
    "endpoints.decode": "decode",
    "proxy.sync": "sync",
    "proxy.observer": "sync",
}
_ROOMS = {
    "render": ("elements", "fragment", "rendering", "service_chains", "chains", "wishes", "rules"),
    "compare": ("mode", "delta", "affinity", "compared", "adopt", "part", "program", "transaction"),
    "encode": ("codec", "netlink", "native", "ipset_messages", "restore", "script"),
    "transport": ("kernel", "channel", "inbox", "answers"),
}
"""Rooms of the modes: the same name is the same step in each of them."""
_STEP_OF_ROOM = {room: step for step, rooms in _ROOMS.items() for room in rooms}


class Step(msgspec.Struct):
    """A part of the way from bytes to a kernel that agrees."""

    name: str
    seconds: float
    """Of the processor."""
    share: float
    where: list[tuple[str, float]]
    """The functions that took most of it themselves, and their share of the step."""


class Profile(msgspec.Struct):
    """Where the time of one thing went."""

    what: str
    count: int
    """How often it was done: the seconds are those of all."""
    samples: int
    steps: list[Step]
    stacks: Stacks

    @property
    def seconds(self) -> float:
        """Of the processor, altogether."""
        return sum(step.seconds for step in self.steps)


def profiles(back_end: str, of: Size, changes: int) -> list[Profile]:
    """A load and changes of each kind; in a network of its own, of the calling thread."""
    descriptor = feed.write(cluster.lists(of))
    with os.fdopen(descriptor, "rb") as file, sandbox.own_network():
        program = Program(back_end)
        with Sampler() as sampler:
            program.load(feed.read(file))
        found = [_profile("the load", 1, sampler)]
        for what, lines in CHANGES.items():
            frames = [lines_of(line) for line in lines(of, changes)]
            with Sampler() as sampler:
                for frame in frames:
                    program.change(frame)
            found.append(_profile(what, len(frames), sampler))
        program.mode.close()
    return found


def _profile(what: str, count: int, sampler: Sampler) -> Profile:
    stacks: defaultdict[Stack, float] = defaultdict(float)
    for stack, seconds in sampler.stacks.items():
        if not is_measuring(stack):
            stacks[_ours(stack)] += seconds
    return Profile(what, count, sampler.samples, steps(stacks), stacks)


def is_measuring(stack: Stack) -> bool:
    """Whether a stopwatch is looked at: nothing that the program does. Pure."""
    inner = next((place for place in reversed(stack) if place.module not in _ITS), None)
    return inner is not None and (
        inner.module == instruments.__name__ and str(inner) not in _FUNCTIONS
    )


def _ours(stack: Stack) -> Stack:
    """What the program calls, without the bench between, except where that stands for the kernel."""
    around = Program.__module__, PROGRAMS.module
    inside = dropwhile(lambda place: place.module not in around, stack)
    return tuple(
        place
        for place in inside
        if str(place) in _FUNCTIONS or not place.module.startswith("tests.bench.")
    )


def steps(stacks: Stacks) -> list[Step]:
    """What each step took, the longest first. Pure."""
    by_step: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for stack, seconds in stacks.items():
        by_step[step_of(stack)][_short(stack)] += seconds
    whole = sum(stacks.values())
    found = []
    for name, functions in by_step.items():
        seconds = sum(functions.values())
        ordered = sorted(((part / seconds, of) for of, part in functions.items()), reverse=True)
        where = [(of, share) for share, of in ordered[:WHERE] if share >= NOTEWORTHY]
        found.append(Step(name, seconds, seconds / whole, where))
    return sorted(found, key=lambda step: -step.seconds)


def step_of(stack: Stack) -> str:
    """The step of the innermost call that is part of one. Pure."""
    for place in reversed(stack):
        step = _FUNCTIONS.get(str(place)) or _MODULES.get(place.module) or _of_room(place)
        if step:
            return step
    return OTHER


def _of_room(place: Place) -> str:
    package, _, room = place.module.rpartition(".")
    return _STEP_OF_ROOM.get(room, "") if package.startswith("modes") else ""


def _short(stack: Stack) -> str:
    """The innermost function, with the last name of its module."""
    if not stack:
        return "-"
    place = stack[-1]
    return f"{place.module.rpartition('.')[2]}.{place.name.replace('<locals>.', '')}"


def rows(profile: Profile) -> list[list[str]]:
    """A table with its head; of changes the mean of one."""
    unit, scale = ("s", 1.0) if profile.count == 1 else ("ms", 1000 / profile.count)
    out = [[profile.what, unit, "share", "where"]]
    for step in profile.steps:
        where = ", ".join(f"{of} {share:.0%}" for of, share in step.where)
        out.append([step.name, f"{step.seconds * scale:.3f}", f"{step.share:.1%}", where])
    return [*out, ["all", f"{profile.seconds * scale:.3f}", "", f"{profile.samples:,} samples"]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile one size, and print where the processor's time went."""
    flags = _parser().parse_args(arguments)
    if not sandbox.is_inside():
        sandbox.reexecute()
    collect_seldom()
    found = profiles(flags.mode, flags.size, flags.changes)
    print(f"{flags.mode}, {flags.size}: the processor's time")
    for profile in found:
        print("", *PLAIN.table(rows(profile), right=frozenset({1, 2})), sep="\n")
    if flags.stacks:
        text = "".join(collapsed(profile.what, profile.stacks) for profile in found)
        flags.stacks.write_text(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", allow_abbrev=False)
    parser.add_argument("--mode", choices=sorted(modes.offered()), default="nftables")
    parser.add_argument("--size", type=cluster.size, default=Size(10_000, 10))
    parser.add_argument("--changes", type=int, default=1000, help="of each kind")
    parser.add_argument("--stacks", type=Path, help="where to write the collapsed stacks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
