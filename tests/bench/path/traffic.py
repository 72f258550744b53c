"""How long does the first packet of a flow take, and how many flows a second are there?

Only the system calls are timed in which a client sends and waits. The kernel carries a packet from
veth to veth within the system call that sends it, so that with everything on one processor nothing
is in a figure of TCP but the way itself; a datagram is answered by a process, and the time to wake
it is in the figure.
"""

from __future__ import annotations

import socket
import struct
import time
from itertools import cycle, islice

from tests.bench.path.world import World

_NO_LINGER = struct.pack("ii", 1, 0)
"""close(2) resets the connection: it leaves no port behind that waits."""
_PATIENCE = struct.pack("ll", 5, 0)
"""Of one system call, as struct timeval."""


class Astray(RuntimeError):
    """Something else answered than the pods."""


def datagrams(world: World, count: int) -> list[int]:
    """Ask so many times from a fresh port, and wait for the answer; nanoseconds of each.

    Raises BlockingIOError if there is no answer.
    """
    now = time.perf_counter_ns
    taken = []
    with world.on_client():
        for target in islice(cycle(world.targets), count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
                client.connect(target)
                began = now()
                client.send(b"?")
                pod = client.recv(64)
                taken.append(now() - began)
                world.answers[socket.inet_ntoa(pod)] += 1
    return taken


def connects(world: World, count: int) -> list[int]:
    """Connect so many times, each time from a fresh port; nanoseconds of each connect(2).

    Raises BlockingIOError if there is no answer.
    """
    now = time.perf_counter_ns
    taken = []
    with world.on_client():
        for target in islice(cycle(world.targets), count):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                began = now()
                client.connect(target)
                taken.append(now() - began)
                _accept(world)
    return taken


def connections(world: World, count: int) -> int:
    """Make and reset so many connections one after the other; nanoseconds of all together.

    They wait in the server's queue meanwhile: no more than fit in there.
    """
    now = time.perf_counter_ns
    with world.on_client():
        targets = list(islice(cycle(world.targets), count))
        began = now()
        for target in targets:
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            client.connect(target)
            client.close()
        taken = now() - began
    for _ in range(count):
        _accept(world)
    return taken


def _accept(world: World) -> None:
    """Take a connection that is there from the queue, and note who was asked."""
    connection, _ = world.listener.accept()
    world.answers[connection.getsockname()[0]] += 1
    connection.close()
