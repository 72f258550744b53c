"""Where does the time go, and what does it cost besides?

The program's own parts with a stopwatch around them. Nothing is replaced: each measured part does
its work through the code that the real process runs.
"""

from __future__ import annotations

import re
import resource
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec

from endpoints.events import Event, Folded
from endpoints.names import ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from endpoints.state import ClusterState
from modes.base import (
    Adopted,
    ApplyReport,
    Delta,
    Drift,
    ForeignWatch,
    Glance,
    Mode,
    Plans,
    nothing,
)
from modes.ipvs.machine import Machine
from modes.ipvs.mode import IpvsMode
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.xtables import kernel as iptables
from modes.xtables.answers import Answer
from tests.bench import program
from tests.bench.cluster import LOCAL_ADDRESSES, settings
from tests.lab import modes

_CHILD_EVENTS = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
)


class Instant(NamedTuple):
    """When something began."""

    clock: float
    processor: float
    """What this thread had used of it by then."""

    @classmethod
    def now(cls) -> Instant:
        """Seconds that mean something only beside those of another instant."""
        return cls(time.perf_counter(), time.thread_time())


class Stopwatch:
    """Seconds by name of a part, the longest time of each at once, and how often a thing was done."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """On the clock."""
        self.worked: defaultdict[str, float] = defaultdict(float)
        """Of the processor, in this thread: what other work on the machine leaves equal."""
        self.longest: defaultdict[str, float] = defaultdict(float)
        """On the clock."""
        self.counts: Counter[str] = Counter()

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of the body to a part."""
        began = Instant.now()
        try:
            yield
        finally:
            self.add(part, began)

    def add(self, part: str, began: Instant) -> None:
        """Add the time since `began` to a part."""
        ended = Instant.now()
        took = ended.clock - began.clock
        self.seconds[part] += took
        self.worked[part] += ended.processor - began.processor
        self.longest[part] = max(self.longest[part], took)

    def reset(self) -> None:
        """Forget everything."""
        self.seconds.clear()
        self.worked.clear()
        self.longest.clear()
        self.counts.clear()


class MeasuredSocket:
    """A socket to the kernel whose calls are counted; a commit happens inside `sendall`."""

    def __init__(self, real: socket.socket, watch: Stopwatch) -> None:
        self._real = real
        self._watch = watch
        self.tape: list[bytes] | None = None
        """What was sent, if anybody wants to know."""

    def sendall(self, data: bytes) -> None:
        """Send, and add the time to `kernel`."""
        if self.tape is not None:
            self.tape.append(data)
        began = Instant.now()
        self._real.sendall(data)
        self._watch.add("kernel", began)
        self._watch.counts["system calls"] += 1
        self._watch.counts["sends"] += 1
        self._watch.counts["bytes"] += len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive, and add the time to `kernel read`."""
        began = Instant.now()
        self._watch.counts["system calls"] += 1
        try:
            return self._real.recv(size, flags)
        finally:
            self._watch.add("kernel read", began)

    def close(self) -> None:
        """Close it."""
        self._real.close()


class MeasuredPrograms:
    """The programs that the iptables mode starts; a commit happens inside `…-restore`.

    Weighed, a program that writes is started by a small process, which tells how large it gets:
    what the kernel tells of a child of ours is at least our own size. That takes longer.
    """

    def __init__(self, watch: Stopwatch, *, weighed: bool) -> None:
        self._watch = watch
        self._weighed = weighed
        self._run = iptables._run
        self.peak_megabytes = 0.0

    def run(
        self,
        command: Sequence[str],
        text: str = "",
        lock: Path | None = None,
        knows: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> Answer:
        """Run one, and add its time to `kernel`, or to `kernel read` if it writes nothing."""
        if "--noflush" not in command:
            with self._watch.measure("kernel read"):
                return self._run(command, text, lock, knows)
        if self._weighed:
            return self._weigh(command, text)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with self._watch.measure("kernel"):
            answer = self._run(command, text, lock, knows)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._watch.seconds["user"] += after.ru_utime - before.ru_utime
        self._watch.seconds["system"] += after.ru_stime - before.ru_stime
        return answer

    def _weigh(self, command: Sequence[str], text: str) -> Answer:
        try:
            cost = program.launch(command, text.encode())
        except program.Failed as failed:
            return Answer(failed.status, "", failed.said)
        self.peak_megabytes = max(self.peak_megabytes, cost.peak_megabytes)
        return Answer(0, "", "")


class MeasuredMode:
    """A mode that remembers its last report."""

    def __init__(self, back_end: str, watch: Stopwatch, *, weighed: bool) -> None:
        self._watch = watch
        self._mode: Mode = modes.create(back_end)
        self.programs = MeasuredPrograms(watch, weighed=weighed)
        self.name = self._mode.name
        self.adopted: Adopted | None = None
        self.report = ApplyReport()
        self.socket: MeasuredSocket | None = None
        """In nftables mode."""
        if isinstance(self._mode, NftablesMode):
            kernel = Kernel()
            self.socket = MeasuredSocket(kernel._socket, watch)
            kernel._socket = self.socket  # type: ignore[assignment]
            self._mode._open = kernel
        else:
            iptables._run = self.programs.run
        if isinstance(self._mode, IpvsMode):
            self._mode._opening = self._machine

    def _machine(self) -> Machine:
        """IPVS, ipset and the link, measured."""
        machine = Machine.open()
        for connection in (machine.ipvs, machine.ipset, machine.link):
            channel = connection._channel
            channel._socket = MeasuredSocket(channel._socket, self._watch)  # type: ignore[assignment]
        return machine

    def start(self, node: NodeView) -> Adopted:
        """Start, measured; what it writes it takes back: it tries what the kernel can do."""
        with self._watch.measure("start"):
            self.adopted = self._mode.start(node)
        for part in ("kernel", "user", "system"):
            self._watch.seconds[f"{part}, trials"] = self._watch.seconds.pop(part, 0.0)
        self._watch.worked.pop("kernel", None)
        self._watch.longest.pop("kernel", None)
        return self.adopted

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Replace, measured; the plans are made meanwhile."""
        with self._watch.measure("replace"):
            self.report = self._mode.replace(services)
        return self.report

    def apply(self, delta: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply, measured."""
        before = self._watch.counts["bytes"]
        with self._watch.measure("apply"):
            self.report = self._mode.apply(delta)
        sent = self._watch.counts["bytes"] - before
        if sent and not self.report.bytes_sent:
            self.report = msgspec.structs.replace(self.report, bytes_sent=sent)
        return self.report

    def tend(self) -> float | None:
        """Tend."""
        return self._mode.tend()

    def read_ahead(self, done: Callable[[], None] = nothing) -> None:
        """Begin to read."""
        self._mode.read_ahead(done)

    def verify(self, *, from_ahead: bool = False) -> Drift:
        """Hold the kernel against what was applied."""
        return self._mode.verify(from_ahead=from_ahead)

    def watch(self) -> ForeignWatch | None:
        """What hears of foreign changes."""
        return self._mode.watch()

    def glance(self) -> Glance:
        """Look for foreign changes."""
        return self._mode.glance()

    def retire(self, successor: str) -> float | None:
        """Give way."""
        return self._mode.retire(successor)

    def cleanup(self) -> bool:
        """Remove everything."""
        return self._mode.cleanup()

    def close(self) -> None:
        """Give back sockets."""
        self._mode.close()


class MeasuredState(ClusterState):
    """The cluster's state."""

    def __init__(self, watch: Stopwatch, mode: str) -> None:
        super().__init__(settings(mode), LOCAL_ADDRESSES)
        self._watch = watch

    def fold(self, event: Event) -> Folded:
        """Fold, measured."""
        with self._watch.measure("fold"):
            return super().fold(event)

    def plans(self, service: ObjectName) -> tuple[ServicePlan, ...]:
        """Plan, measured."""
        began = Instant.now()
        plans = super().plans(service)
        self._watch.add("plan", began)
        return plans


def count_children(watch: Stopwatch) -> None:
    """Count from now on every process that this one starts."""

    def audit(event: str, _: tuple[object, ...]) -> None:
        if event in _CHILD_EVENTS:
            watch.counts["child processes"] += 1

    sys.addaudithook(audit)


def peak_megabytes() -> float:
    """The most memory that this process ever had resident.

    From /proc: the maximum that getrusage(2) tells survives exec, and may be the parent's.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def processor_seconds() -> float:
    """What this process used of the processors, with its children that ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
