"""How fast can nobody be faster? `python -m tests.bench.floor 10000x10 100`: the kernel's part alone.

The transactions that headgate sends are recorded from its socket, and then sent by a bare loop to a
kernel that has none of them yet: whatever computes them, and in whatever language, this it takes at
least. Answers with one line of JSON. nftables mode only: the others start programs.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from statistics import median
from typing import NamedTuple

import msgspec

from modes.nftables import netlink as nl
from modes.nftables.kernel import NETLINK_NETFILTER
from tests.bench import cluster, feed
from tests.bench.cluster import Size
from tests.bench.worker import Program, lines_of
from tests.lab import sandbox

_SO_SNDBUFFORCE, _SEND_BUFFER = 32, 1 << 28
_DATAGRAM = 1 << 16


class Took(msgspec.Struct):
    """Time of transactions, until their answer is read."""

    seconds: float
    """On the clock."""
    cpu: float
    """Of the processor: what a busy machine leaves equal."""


class Floor(msgspec.Struct):
    """What the kernel needs for what headgate asks of it."""

    services: int
    endpoints: int
    load: Took
    """All transactions of a load together."""
    longest: Took
    """The longest of them: nobody else can change rules meanwhile."""
    transactions: int
    bytes_sent: int
    slot: Took
    """One endpoint is replaced by another one; the median."""
    verdict: Took
    """One goes or comes; the median. Its Service chooses among another number, or has none."""

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)


class Tape(NamedTuple):
    """The transactions of a load, and those of changes after it."""

    load: list[bytes]
    replaced: list[bytes]
    resized: list[bytes]


def floor(of: Size, changes: int = 100) -> Floor:
    """Measure one size, in a process of its own. Raises CalledProcessError; it has said why."""
    words = (f"{of.services}x{of.endpoints}", str(changes))
    command = [sys.executable, "-m", "tests.bench.floor", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Floor)


def rows(found: Sequence[Floor]) -> list[list[str]]:
    """A table of floors, with its head."""
    head = ["nftables, the kernel alone: s (of the processor)", *(str(of.size) for of in found)]
    cells = [
        ["load", *(_cell(of.load) for of in found)],
        ["  the longest transaction", *(_cell(of.longest) for of in found)],
        ["  transactions", *(str(of.transactions) for of in found)],
        ["  bytes", *(f"{of.bytes_sent:,}" for of in found)],
        ["endpoint replaced, p50 ms", *(_cell(of.slot, 1000) for of in found)],
        ["endpoint removed, added, p50 ms", *(_cell(of.verdict, 1000) for of in found)],
    ]
    return [head, *cells]


def _cell(took: Took, unit: int = 1) -> str:
    return f"{took.seconds * unit:.3f} ({took.cpu * unit:.3f})"


def recorded(of: Size, changes: int) -> Tape:
    """What headgate sends, in a network of its own; only what changes something."""
    frames = [*cluster.replacements(of, changes)], [*cluster.resizings(of, changes)]
    descriptor = feed.write(cluster.lists(of))
    with os.fdopen(descriptor, "rb") as file, sandbox.own_network():
        program = Program("nftables")
        assert program.mode.socket is not None
        tape: list[bytes] = []
        program.mode.socket.tape = tape
        program.load(feed.read(file))
        parts = [_transactions(tape)]
        for lines in frames:
            tape.clear()
            for line in lines:
                program.change(lines_of(line))
            parts.append(_transactions(tape))
        program.mode.close()
    return Tape(*parts)


def _transactions(tape: Sequence[bytes]) -> list[bytes]:
    """Without questions."""
    begin = nl.NFNL_MSG_BATCH_BEGIN.to_bytes(2, sys.byteorder)
    return [data for data in tape if data[4:6] == begin]


def measured(of: Size, changes: int) -> Floor:
    """Record, and replay in another network. Raises OSError if the kernel refuses."""
    tape = recorded(of, changes)
    with sandbox.own_network(), closing(opened()) as kernel:
        load = [*replayed(kernel, tape.load)]
        slots = [*replayed(kernel, tape.replaced)]
        verdicts = [*replayed(kernel, tape.resized)]
    return Floor(
        *of,
        load=Took(sum(one.seconds for one in load), sum(one.cpu for one in load)),
        longest=max(load, key=lambda one: one.cpu),
        transactions=len(load),
        bytes_sent=sum(map(len, tape.load)),
        slot=_middle(slots),
        verdict=_middle(verdicts),
    )


def _middle(took: Sequence[Took]) -> Took:
    return Took(median(one.seconds for one in took), median(one.cpu for one in took))


def opened() -> socket.socket:
    """A socket to nf_tables with room for a transaction."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    kernel.bind((0, 0))
    kernel.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
    return kernel


def replayed(kernel: socket.socket, transactions: Sequence[bytes]) -> Iterator[Took]:
    """Send one after the other, each when the one before is answered. Raises OSError."""
    for data in transactions:
        cpu, began = time.thread_time(), time.perf_counter()
        kernel.sendall(data)
        answer = kernel.recv(_DATAGRAM)
        took = Took(time.perf_counter() - began, time.thread_time() - cpu)
        for reply in nl.replies(answer):
            if reply.error:
                name = errno.errorcode.get(reply.error, "unknown")
                raise OSError(reply.error, f"a recorded transaction is refused: {name}")
        yield took


def main(size: str, changes: str) -> None:
    """Measure, and print what it came to."""
    sandbox.require_sandbox()
    print(msgspec.json.encode(measured(cluster.size(size), int(changes))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
