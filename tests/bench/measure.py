"""How is one size measured? In processes of its own, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec

from tests.bench import cluster, feed
from tests.bench.cluster import Size
from tests.bench.report import Measured
from tests.bench.worker import Load, Loaded
from tests.lab import sandbox


def measured(of: Size, changes: int, tell: Callable[[str], None]) -> Measured:
    """Measure one size; leaves this process in a fresh network namespace.

    Raises CalledProcessError if what is measured fails; it has said why on standard error.
    """
    sandbox.enter_private()
    tell(f"{of}: generating")
    descriptor = feed.write(_frames(of, changes))
    try:
        tell(f"{of}: load, {changes} changes of each kind")
        loaded = msgspec.json.decode(_worker("load", descriptor), type=Loaded)
        tell(f"{of}: restart")
        restart = msgspec.json.decode(_worker("restart", descriptor), type=Load)
    finally:
        os.close(descriptor)
    return Measured(of.services, of.endpoints, loaded, restart)


def _frames(of: Size, changes: int) -> Iterator[tuple[str, bytes]]:
    yield from cluster.lists(of)
    yield from (("replaced", line) for line in cluster.replacements(of, changes))
    yield from (("resized", line) for line in cluster.resizings(of, changes))


def _worker(part: str, descriptor: int) -> bytes:
    command = [sys.executable, "-m", "tests.bench.worker", part, str(descriptor)]
    done = subprocess.run(command, pass_fds=[descriptor], stdout=subprocess.PIPE, check=True)
    return done.stdout
