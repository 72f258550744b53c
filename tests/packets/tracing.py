"""What does `headgate trace` say of a real packet? A command of its own on a node of the lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.debug.tracing.traced import Traced, TracedFlow
from tests.lab import namespaces
from tests.lab.lab import Lab

HEADGATE = Path(sys.executable).with_name("headgate")
PATIENCE_SECONDS = 60.0


class Said(NamedTuple):
    """What the command answered."""

    status: int
    answer: Traced

    @property
    def flow(self) -> TracedFlow:
        """The only flow."""
        (flow,) = self.answer.flows
        return flow

    def places(self) -> list[str]:
        """The hooks and chains that the packet passed, each once."""
        return list(dict.fromkeys(hop.place for hop in self.flow.forth))


def place(address: str, port: int, protocol: str = "tcp") -> str:
    """`10.96.7.7:80/tcp`."""
    bare = f"[{address}]" if ":" in address else address
    return f"{bare}:{port}/{protocol.lower()}"


@contextmanager
def started(lab: Lab, node: str, arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A trace that listens; it is killed at the end if it lives on."""
    with namespaces.inside(lab.network[node]):
        process = subprocess.Popen(
            [str(HEADGATE), "trace", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        assert process.stderr is not None
        first = process.stderr.readline()
        if not first.startswith("waiting"):
            raise AssertionError(f"{first}{process.stderr.read()}")
        try:
            yield process
        finally:
            process.kill()


def trace(
    lab: Lab, node: str, arguments: Sequence[str], send: Callable[[], object] = lambda: None
) -> Said:
    """Trace while something is sent, and wait for the answer."""
    with started(lab, node, [*arguments, "-o", "json"]) as process:
        send()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (0, 1), err
    return Said(process.returncode, msgspec.json.decode(out, type=Traced))
