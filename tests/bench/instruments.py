"""Where does the time go, and what does it cost besides?

The program's own parts with a stopwatch around them. Nothing is replaced: each measured part does
its work through the code that the real process runs.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from endpoints.events import Event, Folded
from endpoints.names import ObjectName
from endpoints.node import NodeView
from endpoints.plan import ServicePlan
from endpoints.state import ClusterState
from modes.base import Adopted, ApplyReport, Delta, Plans
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from tests.bench.cluster import LOCAL_ADDRESSES, SETTINGS

_CHILD_EVENTS = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
)


class Stopwatch:
    """Seconds by name of a part, and how often a thing was done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of the body to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, began)

    def add(self, part: str, began: float) -> None:
        """Add the time since `began` to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began

    def reset(self) -> None:
        """Forget everything."""
        self.seconds.clear()
        self.counts.clear()


class MeasuredSocket:
    """A socket to the kernel whose calls are counted; a commit happens inside `sendall`."""

    def __init__(self, real: socket.socket, watch: Stopwatch) -> None:
        self._real = real
        self._watch = watch

    def sendall(self, data: bytes) -> None:
        """Send, and add the time to `kernel`."""
        began = time.perf_counter()
        self._real.sendall(data)
        self._watch.add("kernel", began)
        self._watch.counts["system calls"] += 1

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive, and add the time to `kernel read`."""
        began = time.perf_counter()
        self._watch.counts["system calls"] += 1
        try:
            return self._real.recv(size, flags)
        finally:
            self._watch.add("kernel read", began)

    def close(self) -> None:
        """Close it."""
        self._real.close()


class MeasuredMode(NftablesMode):
    """The nftables mode; remembers its last report."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch
        self._open = Kernel()
        self._open._socket = MeasuredSocket(self._open._socket, watch)  # type: ignore[assignment]
        self.adopted: Adopted | None = None
        self.report = ApplyReport()

    def start(self, node: NodeView) -> Adopted:
        """Start, measured."""
        with self._watch.measure("start"):
            self.adopted = super().start(node)
        return self.adopted

    def replace(self, services: Mapping[ObjectName, Plans]) -> ApplyReport:
        """Replace, measured; the plans are made meanwhile."""
        with self._watch.measure("replace"):
            self.report = super().replace(services)
        return self.report

    def apply(self, delta_: Delta[ObjectName, Plans]) -> ApplyReport:
        """Apply, measured."""
        with self._watch.measure("apply"):
            self.report = super().apply(delta_)
        return self.report


class MeasuredState(ClusterState):
    """The cluster's state."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__(SETTINGS, LOCAL_ADDRESSES)
        self._watch = watch

    def fold(self, event: Event) -> Folded:
        """Fold, measured."""
        with self._watch.measure("fold"):
            return super().fold(event)

    def plans(self, service: ObjectName) -> tuple[ServicePlan, ...]:
        """Plan, measured."""
        began = time.perf_counter()
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
