"""How does a test hear what a mode hears?"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modes.base import Foreign, ForeignWatch, Mode

PATIENCE_SECONDS = 5.0


class Ear:
    """A thread that waits for news, as the program has one."""

    def __init__(self, watch: ForeignWatch) -> None:
        self._watch = watch
        self._heard: queue.SimpleQueue[tuple[Foreign, ...]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while news := self._watch.wait():
            self._heard.put(news)

    def next(self) -> tuple[Foreign, ...]:
        """The next news. Raises queue.Empty if there is none for PATIENCE_SECONDS."""
        return self._heard.get(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """End the thread."""
        self._watch.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


@contextmanager
def listening(mode: Mode) -> Iterator[Ear]:
    """From now on, what a mode hears."""
    watch = mode.watch()
    assert watch is not None
    ear = Ear(watch)
    try:
        yield ear
    finally:
        ear.close()
