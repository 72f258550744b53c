"""How large does a program get, and how large what it starts?

Seen from outside, and so often that what lives for some milliseconds is seen too.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from tests.bench import processes
from tests.bench.whole.results import Memory

_PAUSE_SECONDS = 0.006


class Peak:
    """Weighs a process and all its descendants, from now until it is stopped."""

    def __init__(self, pid: int) -> None:
        """Begin with this process, which must live until this is stopped."""
        self._pid = pid
        self._own = 0.0
        self._children = 0.0
        self._heaviest: dict[int, float] = {}
        """Of the descendants that live, the most of each."""
        self._descent = processes.Descent(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"peak of {pid}", daemon=True)
        self._thread.start()

    def memory(self) -> Memory:
        """The most until now, or until it was stopped."""
        if not self._ended.is_set():
            self._weigh_own()
        return Memory(own=self._own, children=self._children)

    def stop(self) -> None:
        """Weigh no longer."""
        if self._ended.is_set():
            return
        self._weigh_own()
        self._ended.set()
        self._thread.join()
        self._descent.close()

    def _weigh_own(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it has ended by itself
            self._own = processes.megabytes(self._pid, "VmHWM")

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            living = self._descent.living()
            if living or self._heaviest:
                self._heaviest = {pid: self._heaviest_of(pid) for pid in living}
                self._children = max(self._children, sum(self._heaviest.values()))

    def _heaviest_of(self, pid: int) -> float:
        """The most that a descendant had, nothing before it executes a program."""
        known = self._heaviest.get(pid, 0.0)
        try:
            if known or processes.is_itself(pid, self._pid):
                return processes.megabytes(pid, "VmHWM")
        except (FileNotFoundError, ProcessLookupError, KeyError):
            self._descent.forget(pid)
        return 0.0
