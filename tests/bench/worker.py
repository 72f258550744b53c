"""What does one size cost? Runs in a process of its own: `python -m tests.bench.worker PART FD`.

PART is `load` (an empty kernel, then single changes) or `restart` (the kernel holds everything
already). Answers with one line of JSON. The network namespace is the one it was started in.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator

import msgspec

from endpoints.decode import decode_list, decode_watch
from endpoints.events import Replace
from endpoints.objects import Kind, KubernetesObject
from proxy.app import collect_seldom, taken
from proxy.sync import Sync
from tests.bench import feed
from tests.bench.instruments import (
    MeasuredMode,
    MeasuredState,
    Stopwatch,
    count_children,
    peak_megabytes,
)
from tests.lab import sandbox

LISTED = (Kind.SERVICE, Kind.ENDPOINT_SLICE)


class Load(msgspec.Struct):
    """From bytes to a kernel that agrees with them; seconds."""

    imports: float
    """Of the program and of the kubernetes client, which the real process has loaded too."""
    decode: float
    fold_and_plan: float
    encode_and_commit: float
    """Rendering, packing, and the kernel's part."""
    kernel: float
    """Of that the kernel's own: the time in sendmsg(2)."""
    read_back: float
    """Reading what the kernel held before."""
    whole: float
    """From bytes in memory to the kernel's acknowledgement."""
    cpu: float
    """The processor's time for that, the kernel's part included: what a busy machine leaves equal."""
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
    messages: float
    """Per change, as the next three."""
    bytes_sent: float
    elements: float
    system_calls: float
    child_processes: int
    """All together."""


class Loaded(msgspec.Struct):
    """What the part `load` answers."""

    load: Load
    replaced: Changes
    resized: Changes
    peak_megabytes: float
    """After the changes."""


class Program:
    """The parts of the real process that are measured, wired as it wires them."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.state = MeasuredState(self.watch)
        self.mode = MeasuredMode(self.watch)
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

    def change(self, line: bytes) -> None:
        """Take in one line of a watch; returns when the kernel has acknowledged."""
        watched = decode_watch(line, Kind.ENDPOINT_SLICE)
        assert watched.event is not None, watched
        outcome = self.sync.run([watched.event])
        assert outcome is not None, "the event changed nothing"
        assert not outcome.fault, outcome.fault


def loaded(program: Program, frames: Iterator[tuple[str, bytes]], imports: float) -> Load:
    """Let the program list everything; what is left in `frames` are changes."""
    watch = program.watch
    count_children(watch)
    cpu = time.process_time()
    whole = program.load(frames)
    cpu = time.process_time() - cpu
    assert program.mode.adopted is not None, "nothing was programmed"
    seconds, report = watch.seconds, program.mode.report
    return Load(
        imports=imports,
        decode=seconds["decode"],
        fold_and_plan=seconds["fold"] + seconds["plan"],
        encode_and_commit=seconds["replace"] - seconds["plan"],
        kernel=seconds["kernel"],
        read_back=seconds["kernel read"],
        whole=whole,
        cpu=cpu,
        peak_megabytes=peak_megabytes(),
        elements=report.added,
        messages=report.messages,
        bytes_sent=report.bytes_sent,
        kept=program.mode.adopted.kept,
        child_processes=watch.counts["child processes"],
    )


def changed(program: Program, lines: Iterable[bytes]) -> Changes:
    """Send one change after the other through the program."""
    watch = program.watch
    watch.reset()
    wholes: list[float] = []
    kernels: list[float] = []
    messages = size = elements = 0
    for line in lines:
        before = watch.seconds.get("kernel", 0.0)
        began = time.perf_counter()
        program.change(line)
        wholes.append(time.perf_counter() - began)
        kernels.append(watch.seconds["kernel"] - before)
        report = program.mode.report
        messages += report.messages
        size += report.bytes_sent
        elements += report.added + report.deleted
    count = len(wholes)
    ours = [whole - kernel for whole, kernel in zip(wholes, kernels, strict=True)]
    return Changes(
        count=count,
        p50=percentile(wholes, 50) * 1000,
        p90=percentile(wholes, 90) * 1000,
        p99=percentile(wholes, 99) * 1000,
        ours_p50=percentile(ours, 50) * 1000,
        kernel_p50=percentile(kernels, 50) * 1000,
        messages=messages / count,
        bytes_sent=size / count,
        elements=elements / count,
        system_calls=watch.counts["system calls"] / count,
        child_processes=watch.counts["child processes"],
    )


def percentile(values: Iterable[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def main(part: str, descriptor: int) -> None:
    """Measure one part, and print what it came to."""
    sandbox.require_sandbox()
    collect_seldom()
    began = time.perf_counter()
    import kubernetes.client  # noqa: F401, PLC0415 (measured: the real process has it in memory)

    imports = time.perf_counter() - began
    with os.fdopen(descriptor, "rb") as file:
        frames = feed.read(file)
        program = Program()
        load = loaded(program, frames, imports)
        if part == "restart":
            print(msgspec.json.encode(load).decode())
            return
        by_label: dict[str, list[bytes]] = {}
        for label, line in frames:
            by_label.setdefault(label, []).append(line)
    replaced, resized = (changed(program, by_label[label]) for label in ("replaced", "resized"))
    print(msgspec.json.encode(Loaded(load, replaced, resized, peak_megabytes())).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
