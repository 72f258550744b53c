"""What would answer debug commands here? A main loop over a mode in memory, with its own socket."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import ModeSettings
from proxy.desired.live import live
from proxy.loop import follow
from proxy.schedule import Schedule
from proxy.serving.debugging import Debugging
from proxy.sources.base import Message, Stop, Together
from proxy.sources.files import Files, contents
from proxy.sync import Sync
from tests.unit.proxy.build import MemoryMode

SETTINGS = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",))


class Running:
    """A headgate that answers; `begin` lets its main loop turn."""

    def __init__(self, min_sync_seconds: float = 0.0) -> None:
        self.mode = MemoryMode()
        self.queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        state = ClusterState(SETTINGS, frozenset({"192.168.0.11", "127.0.0.1"}))
        self.sync = Sync(state, self.mode, Kind, time.monotonic)
        self.debugging = Debugging("nftables", ModeSettings())
        self._files = Files()
        self._schedule = Schedule(self.queue, time.monotonic, min_sync_seconds)
        self._loop = threading.Thread(target=self._turn, daemon=True)

    def begin(self) -> None:
        self._loop.start()

    def say(self, *texts: str) -> None:
        """Save files a.yaml, b.yaml...; the first time this is the list of everything."""
        is_first = not self._files.replacements()[0].objects
        events: list[Message] = []
        for name, text in zip("abc", texts, strict=False):
            found = contents(text.encode(), f"{name}.yaml")
            assert not found.problems
            events.append(Together(tuple(self._files.put(f"{name}.yaml", found)[0])))
        for event in [Together(self._files.replacements())] if is_first else events:
            self.queue.put(event)

    def end(self) -> None:
        self.queue.put(Stop("the test is over"))
        if self._loop.is_alive():
            self._loop.join()
        self.debugging.stop()

    def _turn(self) -> None:
        follow(self._schedule, self.sync, {}, once=False)


@contextmanager
def running(*texts: str, min_sync_seconds: float = 0.0) -> Iterator[Running]:
    """One that knows these files, and has told them to its mode."""
    made = Running(min_sync_seconds)
    made.say(*texts)
    made.debugging.start(made.queue, made.sync.known)
    made.begin()
    try:
        live()
        yield made
    finally:
        made.end()
