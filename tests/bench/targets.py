"""Which promises do the measurements keep? Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.bench.cluster import Size
from tests.bench.commands import Answered
from tests.bench.idle import Idle
from tests.bench.program import Ran
from tests.bench.results import Measured
from tests.bench.target import Target

TARGET_SIZE = Size(10_000, 10)
"""Of the nftables mode."""
HUGE = (Size(50_000, 1), Size(5_000, 50))
HUGE_SECONDS, STALL_SECONDS = 10.0, 1.0
"""To load one of these; nobody else can change rules during one transaction of it."""
IPVS_SIZE, SMALL_IPVS_SIZE = Size(2_000, 10), Size(200, 10)
FASTER_THAN_IPVSADM = 4
IDLE_SIZE = Size(1_000, 10)
COMMANDS_SIZE, LARGE_COMMANDS_SIZE = Size(1_000, 10), Size(10_000, 10)
COMMAND_SECONDS, LARGE_COMMAND_SECONDS = 1.0, 3.0
"""Every command; at the large size one that is asked for a single Service has as long as here."""
IDLE_MEGABYTES, IDLE_PERCENT = 100.0, 1.0
"""Resident memory, and the share of one processor."""


class Peer(NamedTuple):
    """kube-proxy 1.36.2, measured elsewhere on the same class of machine."""

    start: float
    """Seconds from its start until all rules are in the kernel."""
    change: float
    """Milliseconds for one endpoint, median."""
    speedup: float = 1
    """How many times as fast a start must be."""

    @property
    def start_limit(self) -> float:
        """What a start may take."""
        return self.start / self.speedup

    @property
    def change_limit(self) -> float:
        """What a change may take: half."""
        return self.change / 2


PEERS = {
    ("iptables-nft", Size(1_000, 10)): Peer(5.9, 81),
    ("iptables-nft", Size(5_000, 10)): Peer(311, 438, speedup=10),
    ("iptables-legacy", Size(1_000, 10)): Peer(0.83, 138),
    ("iptables-legacy", Size(5_000, 10)): Peer(2.8, 760),
}


def targets(
    sizes: Sequence[Measured],
    runs: Sequence[Ran],
    idle: Sequence[Idle] = (),
    answers: Sequence[Answered] = (),
) -> list[Target]:
    """The promises that these measurements can judge."""
    of_modes = (_of_nftables(sizes, runs), _of_iptables(sizes, runs), _of_ipvs(sizes))
    return [*itertools.chain(*of_modes), *_of_idle(idle), *_of_commands(answers)]


def _of_nftables(sizes: Sequence[Measured], runs: Sequence[Ran]) -> Iterator[Target]:
    found = {m.size: m for m in sizes if m.back_end == "nftables"}
    if full := found.get(TARGET_SIZE):
        name = (full.back_end, full.size)
        loaded, restart = full.loaded, full.restarted.load
        kinds = (loaded.replaced, loaded.resized, loaded.arrived, loaded.departed)
        children = loaded.load.child_processes + sum(of.child_processes for of in kinds)
        memory = max(loaded.peak_megabytes, restart.peak_megabytes)
        yield _below(*name, "encode + commit", loaded.load.encode_and_commit, 1.0, "s")
        yield _below(*name, "manifests in memory to kernel", loaded.load.whole, 3.0, "s")
        yield _below(*name, "peak RSS, load and restart", memory, 150.0, "MB")
        yield _below(*name, "one endpoint changed, p50", full.endpoint_change, 5.0, "ms")
        yield _exactly(*name, "child processes", children)
        yield _exactly(*name, "elements written by a restart", restart.elements)
        if small := found.get(Size(100, 10)):
            yield _flat(full, small)
    for size in HUGE:
        if huge := found.get(size):
            load, name = huge.loaded.load, (huge.back_end, huge.size)
            yield _below(*name, "load, bytes to kernel", load.whole, HUGE_SECONDS, "s")
            yield _below(*name, "the longest transaction", load.longest_send, STALL_SECONDS, "s")
    for run in runs:
        if (run.back_end, run.size) == ("nftables", TARGET_SIZE):
            memory = run.cost.peak_megabytes
            yield _below(
                run.back_end, run.size, "headgate run --once, peak RSS", memory, 150.0, "MB"
            )


def _of_iptables(sizes: Sequence[Measured], runs: Sequence[Ran]) -> Iterator[Target]:
    for run in runs:
        if peer := PEERS.get((run.back_end, run.size)):
            name, seconds = (run.back_end, run.size), run.cost.seconds
            yield _below(*name, "headgate run --once", seconds, peer.start_limit, "s")
    for of in sizes:
        if peer := PEERS.get((of.back_end, of.size)):
            name, change = (of.back_end, of.size), of.endpoint_change
            yield _below(*name, "one endpoint changed, p50", change, peer.change_limit, "ms")
            yield _exactly(*name, "rules written by a restart", of.restarted.load.elements)


def _of_ipvs(sizes: Sequence[Measured]) -> Iterator[Target]:
    found = {m.size: m for m in sizes if m.back_end == "ipvs"}
    full, small = found.get(IPVS_SIZE), found.get(SMALL_IPVS_SIZE)
    if full is None:
        return
    name = (full.back_end, full.size)
    if full.beside:
        ratio = full.beside.ipvsadm.seconds / full.beside.mode
        what = "the whole mode against ipvsadm --restore"
        limit, figure = f">= {FASTER_THAN_IPVSADM:g} times as fast", f"{ratio:.1f} times"
        met = ratio >= FASTER_THAN_IPVSADM
        yield Target(full.back_end, str(full.size), what, limit, figure, met=met)
    loaded = full.loaded
    kinds = (loaded.replaced, loaded.resized, loaded.arrived, loaded.departed)
    yield _exactly(*name, "child processes of changes", sum(of.child_processes for of in kinds))
    yield _exactly(*name, "written by a restart", full.restarted.load.messages)
    if small:
        yield _flat(full, small)
        most = small.loaded.most_messages
        grown = max(0, loaded.most_messages - most)
        yield _exactly(*name, f"messages of a change more than at {small.size}", grown)


def _of_idle(idle: Sequence[Idle]) -> Iterator[Target]:
    for of in idle:
        if of.size == IDLE_SIZE:
            name = (of.back_end, of.size)
            yield _below(*name, "idle, RSS", of.resident_megabytes, IDLE_MEGABYTES, "MB")
            yield _below(*name, "idle, of one processor", of.percent, IDLE_PERCENT, "%")


def _of_commands(answers: Sequence[Answered]) -> Iterator[Target]:
    """Of each back end and size the slowest command, of files only at the small size."""
    for (back_end, size), of in _grouped(answers).items():
        name = (back_end, size)
        if size == COMMANDS_SIZE:
            yield _slowest(*name, "any command", of, COMMAND_SECONDS)
        elif size == LARGE_COMMANDS_SIZE:
            live = [one for one in of if not one.is_of_a_file]
            one = [one for one in live if one.is_of_one]
            yield _slowest(*name, "a command of one Service", one, COMMAND_SECONDS)
            yield _slowest(*name, "any command", live, LARGE_COMMAND_SECONDS)


def _grouped(answers: Sequence[Answered]) -> dict[tuple[str, Size], list[Answered]]:
    found: dict[tuple[str, Size], list[Answered]] = {}
    for one in answers:
        found.setdefault((one.back_end, one.size), []).append(one)
    return found


def _slowest(
    back_end: str, of: Size, what: str, answers: Sequence[Answered], limit: float
) -> Target:
    slowest = max(answers, key=lambda one: one.cost.seconds)
    return _below(back_end, of, f"{what}: {slowest.what}", slowest.cost.seconds, limit, "s")


def _flat(large: Measured, small: Measured) -> Target:
    ratio = max(
        large.loaded.replaced.ours_p50 / small.loaded.replaced.ours_p50,
        large.loaded.resized.ours_p50 / small.loaded.resized.ours_p50,
    )
    what = f"our part of a change against {small.size}"
    figure = f"{ratio:.1f} times"
    return Target(large.back_end, str(large.size), what, "< 2.0 times", figure, met=ratio < 2)


def _below(back_end: str, of: Size, what: str, figure: float, limit: float, unit: str) -> Target:
    measured = f"{figure:.2f} {unit}" if unit != "MB" else f"{figure:.0f} {unit}"
    return Target(back_end, str(of), what, f"<= {limit:g} {unit}", measured, met=figure <= limit)


def _exactly(back_end: str, of: Size, what: str, figure: int) -> Target:
    return Target(back_end, str(of), what, "0", str(figure), met=figure == 0)
