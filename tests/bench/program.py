"""How long does a program take, from its start to its exit, and how large does it get?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench import cluster
from tests.bench.cluster import SETTINGS, Size
from tests.lab import modes


class Launched(msgspec.Struct):
    """What one run of a program cost."""

    seconds: float
    user: float
    """Seconds of the processor in the program itself."""
    system: float
    """Seconds of the processor in the kernel, for the program."""
    peak_megabytes: float
    """Of the program, or of the largest process that it waited for, if that is larger."""


class Ran(msgspec.Struct):
    """The real program, from its start to its exit: `headgate run --once`."""

    back_end: str
    services: int
    endpoints: int
    cost: Launched

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)


class Failed(RuntimeError):
    """A program ended with another exit status than 0."""

    def __init__(self, command: Sequence[str], status: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: exit status {status}: {said}")
        self.status = status
        self.said = said


def launch(command: Sequence[str], text: bytes = b"") -> Launched:
    """Run a program to its end, with `text` on its standard input. Raises Failed."""
    launcher = [sys.executable, "-m", "tests.bench.launch", *command]
    done = subprocess.run(launcher, input=text, capture_output=True, check=True)
    seconds, user, system, kilobytes, status = done.stdout.split()
    if int(status):
        raise Failed(command, int(status), done.stderr.decode())
    return Launched(float(seconds), float(user), float(system), int(kilobytes) / 1024)


def run_once(back_end: str, of: Size) -> Ran:
    """Run `headgate run --once` on JSON files, in the network namespace of the caller.

    Raises Failed.
    """
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        for name, data in cluster.documents(of):
            (Path(folder) / name).write_bytes(data)
        command = [sys.executable, "-m", "proxy", "run", "--once", *modes.arguments(back_end)]
        command += ["--manifests", folder, "--hostname-override", SETTINGS.name]
        command += ["--cluster-cidr", ",".join(SETTINGS.cluster_cidrs)]
        return Ran(back_end, of.services, of.endpoints, launch(command))
