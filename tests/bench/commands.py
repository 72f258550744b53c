"""How long does an operator wait for an answer of the debug commands?

The real program runs, with a cluster of a given size, and each command is a process of its own, in
the network namespace of the caller.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench import cluster, program
from tests.bench.cluster import SETTINGS, Size
from tests.bench.program import Launched
from tests.lab import modes, namespaces
from tests.lab.daemons import Daemon

ROUNDS = 3
ASKED = 7
_OF_A_FILE = " --snapshot"
"""The number of the Service that is asked for alone."""


class Answered(msgspec.Struct):
    """What a command cost: the fastest of some rounds."""

    back_end: str
    services: int
    endpoints: int
    what: str
    """`dump`, `dump of a Service`."""
    cost: Launched

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)

    @property
    def is_of_a_file(self) -> bool:
        """Whether a snapshot was asked, and no kernel."""
        return self.what.endswith(_OF_A_FILE)

    @property
    def is_of_one(self) -> bool:
        """Whether one Service was asked for."""
        return " of a " in self.what


def answered(back_end: str, of: Size, rounds: int = ROUNDS) -> list[Answered]:
    """Ask a headgate and its kernel everything, alive and from a snapshot. Raises Failed."""
    with tempfile.TemporaryDirectory(dir="/run") as name, _running(back_end, of, Path(name)):
        snapshot = Path(name) / "snapshot"
        found = []
        for what, arguments in _live(snapshot).items():
            found.append(Answered(back_end, *of, what, _fastest(arguments, rounds, snapshot)))
        for what, arguments in _recalled(snapshot).items():
            found.append(Answered(back_end, *of, what, _fastest(arguments, rounds)))
        return found


def _live(snapshot: Path) -> Mapping[str, Sequence[str]]:
    port = cluster.service_port(ASKED)
    one, place = f"{port.namespace}/{port.name}", f"{cluster.cluster_ip(ASKED)}:{cluster.PORT}"
    return {
        "dump of a Service": ("dump", one),
        "dump of a place": ("dump", place),
        "diff of a Service": ("diff", one),
        "explain of a packet": ("explain", place),
        "dump": ("dump",),
        "dump -o json": ("dump", "-o", "json"),
        "dump -o native": ("dump", "-o", "native"),
        "diff": ("diff",),
        "render": ("render",),
        "snapshot": ("snapshot", "-o", str(snapshot)),
    }


def _recalled(snapshot: Path) -> Mapping[str, Sequence[str]]:
    """The same of a file, which is there when the last of the others has been asked."""
    return {
        f"{what}{_OF_A_FILE}": (*arguments, "--snapshot", str(snapshot))
        for what, arguments in _live(snapshot).items()
        if what != "snapshot"
    }


def _fastest(arguments: Sequence[str], rounds: int, made: Path | None = None) -> Launched:
    """The fastest of some rounds; what a command makes is gone before each."""
    costs = []
    for _ in range(rounds):
        if made is not None:
            made.unlink(missing_ok=True)
        costs.append(program.launch([sys.executable, "-m", "proxy", *arguments]))
    return min(costs, key=lambda cost: cost.seconds)


@contextmanager
def _running(back_end: str, of: Size, folder: Path) -> Iterator[Daemon]:
    """A headgate that has programmed a cluster of this size."""
    manifests = folder / "manifests"
    manifests.mkdir()
    for name, data in cluster.documents(of):
        (manifests / name).write_bytes(data)
    arguments = [*modes.arguments(back_end), f"--manifests={manifests}", "-v=2"]
    arguments += [f"--hostname-override={SETTINGS.name}"]
    arguments += [f"--cluster-cidr={','.join(SETTINGS.cluster_cidrs)}"]
    here = os.open(namespaces.THREAD_NETWORK, os.O_RDONLY)
    try:
        daemon = Daemon(SETTINGS.name, here, arguments)
    finally:
        os.close(here)
    try:
        daemon.wait_for(lambda line: line.is_synced)
        yield daemon
    finally:
        daemon.stop()
