"""What does one size cost? A process of its own: `python -m tests.bench.worker PART BACK_END FD`.

PART is `load` (an empty kernel, then single changes), `restart` (the kernel holds everything
already, and then lists it) or `weigh` (an empty kernel: how large do the programs get that write?).
Answers with one line of JSON. The network namespace is the one it was started in.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from endpoints.decode import decode_list, decode_watch
from endpoints.events import Delete, Replace, Upsert
from endpoints.objects import Kind, KubernetesObject
from proxy.garbage import collect_seldom
from proxy.loop import taken
from proxy.sync import Sync
from tests.bench import feed
from tests.bench.instruments import (
    Instant,
    MeasuredMode,
    MeasuredState,
    Stopwatch,
    count_children,
    peak_megabytes,
    processor_seconds,
)
from tests.lab import modes, sandbox

LISTED = (Kind.SERVICE, Kind.ENDPOINT_SLICE)


class Work(msgspec.Struct):
    """Seconds of the processor, of the thread alone: what a busy machine leaves equal."""

    decode: float
    fold_and_plan: float
    encode: float
    """Rendering, comparing and packing."""
    kernel: float
    """In sendmsg(2), or in iptables' programs that write and for their start."""


class Load(msgspec.Struct):
    """From bytes to a kernel that agrees with them; seconds."""

    imports: float
    """Of the program and of the kubernetes client, which the real process has loaded too."""
    decode: float
    fold_and_plan: float
    encode_and_commit: float
    """Rendering, packing, and the kernel's part."""
    kernel: float
    """Of that the kernel's own: the time in sendmsg(2), or in iptables' programs that write."""
    longest_send: float
    """The longest single one of these: what others wait for who want to change rules meanwhile."""
    user: float
    """Of the processor, in those programs; 0 without any."""
    system: float
    """Of the processor, in the kernel for those programs."""
    read_back: float
    """Reading what the kernel held before; in iptables mode also what the host has and uses."""
    whole: float
    """From bytes in memory to the kernel's acknowledgement."""
    cpu: float
    """The processor's time for that, with the kernel's part and children: what a busy machine leaves
    equal."""
    work: Work
    """The processor's time for the steps."""
    peak_megabytes: float
    elements: int
    messages: int
    bytes_sent: int
    kept: bool
    """The kernel's table was adopted."""
    child_processes: int


class Changes(msgspec.Struct):
    """One kind of change, many times, from the bytes of a watch event; milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    ours_p50: float
    """The whole without the kernel's part."""
    kernel_p50: float
    ours_cpu_p50: float
    """The same of the processor, as the next one."""
    kernel_cpu_p50: float
    longest_send: float
    """Of all, the longest call of sendmsg(2) or program that writes."""
    user: float
    """Per change, as those that follow; of the programs that write."""
    system: float
    messages: float
    most_messages: int
    """Of any one."""
    bytes_sent: float
    elements: float
    system_calls: float
    sends: float
    """Of these: that tell the kernel something."""
    child_processes: int
    """All together."""


class Loaded(msgspec.Struct):
    """What the part `load` answers."""

    load: Load
    replaced: Changes
    resized: Changes
    arrived: Changes
    departed: Changes
    peak_megabytes: float
    """After the changes."""

    @property
    def most_messages(self) -> int:
        """Of any change of one endpoint."""
        return max(self.replaced.most_messages, self.resized.most_messages)


class Restarted(msgspec.Struct):
    """What the part `restart` answers."""

    load: Load


class Weighed(msgspec.Struct):
    """What the part `weigh` answers: the largest program, in megabytes."""

    load: float
    change: float


class _Named(msgspec.Struct):
    kind: Kind


class _Line(msgspec.Struct):
    object: _Named


_LINE = msgspec.json.Decoder(_Line)


class Program:
    """The parts of the real process that are measured, wired as it wires them."""

    def __init__(self, back_end: str, *, weighed: bool = False) -> None:
        self.watch = Stopwatch()
        self.state = MeasuredState(self.watch, modes.BACK_ENDS[back_end][0])
        self.mode = MeasuredMode(back_end, self.watch, weighed=weighed)
        self.sync = Sync(self.state, self.mode, LISTED, time.monotonic)

    def load(self, pages: Iterator[tuple[str, bytes]]) -> float:
        """List every kind, and sync; returns the seconds that took."""
        began = time.perf_counter()
        for kind in LISTED:
            self.sync.run(taken([Replace(kind, tuple(self._listed(kind, pages)))]))
        return time.perf_counter() - began

    def _listed(self, kind: Kind, pages: Iterator[tuple[str, bytes]]) -> Iterator[KubernetesObject]:
        for label, data in pages:
            assert label == kind, label
            with self.watch.measure("decode"):
                page = decode_list(data, kind)
            yield from page.objects
            if not page.continue_token:
                return

    def change(self, lines: Iterable[tuple[Kind, bytes]]) -> None:
        """Take in lines of watches at once; returns when the kernel has acknowledged."""
        outcome = self.sync.run(list(self._watched(lines)))
        assert outcome is not None, "the events changed nothing"
        assert not outcome.fault, outcome.fault

    @staticmethod
    def _watched(lines: Iterable[tuple[Kind, bytes]]) -> Iterator[Upsert | Delete]:
        for kind, line in lines:
            watched = decode_watch(line, kind)
            assert watched.event is not None, watched
            yield watched.event


def loaded(program: Program, frames: Iterator[tuple[str, bytes]], imports: float) -> Load:
    """Let the program list everything; what is left in `frames` are changes."""
    watch = program.watch
    count_children(watch)
    cpu = processor_seconds()
    whole = program.load(frames)
    cpu = processor_seconds() - cpu
    assert program.mode.adopted is not None, "nothing was programmed"
    seconds, report = watch.seconds, program.mode.report
    return Load(
        imports=imports,
        decode=seconds["decode"],
        fold_and_plan=seconds["fold"] + seconds["plan"],
        encode_and_commit=seconds["replace"] - seconds["plan"],
        kernel=seconds["kernel"],
        longest_send=watch.longest["kernel"],
        user=seconds["user"],
        system=seconds["system"],
        read_back=seconds["kernel read"] + seconds["kernel, trials"],
        whole=whole,
        cpu=cpu,
        work=_work(watch),
        peak_megabytes=peak_megabytes(),
        elements=report.added,
        messages=report.messages,
        bytes_sent=report.bytes_sent,
        kept=program.mode.adopted.kept,
        child_processes=watch.counts["child processes"],
    )


def _work(watch: Stopwatch) -> Work:
    worked = watch.worked
    ours = worked["replace"] - worked["plan"] - worked["kernel"] - worked["kernel read"]
    kernel = _kernel_work(watch)
    return Work(worked["decode"], worked["fold"] + worked["plan"], ours, kernel)


def _kernel_work(watch: Stopwatch) -> float:
    return watch.worked["kernel"] + watch.seconds["user"] + watch.seconds["system"]


def changed(program: Program, frames: Iterable[bytes]) -> Changes:
    """Send one change after the other through the program."""
    watch = program.watch
    watch.reset()
    timings: list[Timing] = []
    messages = most = size = elements = 0
    for frame in frames:
        timings.append(_timed(program, lines_of(frame)))
        report = program.mode.report
        messages += report.messages
        most = max(most, report.messages)
        size += report.bytes_sent
        elements += report.added + report.deleted
    count = len(timings)
    wholes = [of.whole for of in timings]
    return Changes(
        count=count,
        p50=percentile(wholes, 50) * 1000,
        p90=percentile(wholes, 90) * 1000,
        p99=percentile(wholes, 99) * 1000,
        ours_p50=percentile((of.whole - of.kernel for of in timings), 50) * 1000,
        kernel_p50=percentile((of.kernel for of in timings), 50) * 1000,
        ours_cpu_p50=percentile((of.ours_cpu for of in timings), 50) * 1000,
        kernel_cpu_p50=percentile((of.kernel_cpu for of in timings), 50) * 1000,
        longest_send=watch.longest["kernel"] * 1000,
        user=watch.seconds["user"] / count * 1000,
        system=watch.seconds["system"] / count * 1000,
        messages=messages / count,
        most_messages=most,
        bytes_sent=size / count,
        elements=elements / count,
        system_calls=watch.counts["system calls"] / count,
        sends=watch.counts["sends"] / count,
        child_processes=watch.counts["child processes"],
    )


class Timing(NamedTuple):
    """Seconds of one change, on the clock and of the processor."""

    whole: float
    kernel: float
    ours_cpu: float
    kernel_cpu: float


def _timed(program: Program, lines: Iterable[tuple[Kind, bytes]]) -> Timing:
    watch = program.watch
    clock, thread, work = watch.seconds["kernel"], watch.worked["kernel"], _kernel_work(watch)
    began = Instant.now()
    program.change(lines)
    ended = Instant.now()
    return Timing(
        ended.clock - began.clock,
        watch.seconds["kernel"] - clock,
        ended.processor - began.processor - (watch.worked["kernel"] - thread),
        _kernel_work(watch) - work,
    )


def lines_of(frame: bytes) -> list[tuple[Kind, bytes]]:
    """The lines of a change as it is fed, and of which watch each is."""
    return [(_LINE.decode(line).object.kind, line) for line in frame.splitlines()]


def percentile(values: Iterable[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def main(part: str, back_end: str, descriptor: int) -> None:
    """Measure one part, and print what it came to."""
    sandbox.require_sandbox()
    collect_seldom()
    began = time.perf_counter()
    import kubernetes.client  # noqa: F401, PLC0415 (measured: the real process has it in memory)

    imports = time.perf_counter() - began
    with os.fdopen(descriptor, "rb") as file:
        frames = feed.read(file)
        program = Program(back_end, weighed=part == "weigh")
        load = loaded(program, frames, imports)
        found = {"load": _changes, "restart": _restart, "weigh": _weigh}[part](
            program, load, frames
        )
    print(msgspec.json.encode(found).decode())


def _changes(program: Program, load: Load, frames: Iterable[tuple[str, bytes]]) -> Loaded:
    by_label: dict[str, list[bytes]] = {}
    for label, lines in frames:
        by_label.setdefault(label, []).append(lines)
    measured = {label: changed(program, lines) for label, lines in by_label.items()}
    return Loaded(load, **measured, peak_megabytes=peak_megabytes())


def _restart(_: Program, load: Load, __: Iterable[tuple[str, bytes]]) -> Restarted:
    return Restarted(load)


def _weigh(program: Program, _: Load, frames: Iterable[tuple[str, bytes]]) -> Weighed:
    programs = program.mode.programs
    load, programs.peak_megabytes = programs.peak_megabytes, 0.0
    changed(program, [lines for _, lines in islice(frames, 2)])
    return Weighed(load, programs.peak_megabytes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
