"""When is it time to work?

As soon as something is queued, and then for all that is queued: a burst of events becomes one
transaction, a single event waits for nothing. What failed is tried again, later each time.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress

from proxy.sources.base import Message

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0


class Schedule:
    """The waiting of the main loop. `clock` is a monotonic clock in seconds."""

    def __init__(self, messages: queue.SimpleQueue[Message], clock: Callable[[], float]) -> None:
        self._messages = messages
        self._clock = clock
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._retry_at: float | None = None

    def wait(self) -> tuple[list[Message], bool]:
        """Everything that is queued, and whether it is time to try again what failed.

        Sleeps until there is either.
        """
        batch: list[Message] = []
        with suppress(queue.Empty):
            batch.append(self._messages.get(timeout=self._patience()))
        batch.extend(self._messages.get_nowait() for _ in range(self._messages.qsize()))
        due = self._retry_at is not None and self._clock() >= self._retry_at
        if due:
            self._retry_at = None
        return batch, due

    def retry(self) -> None:
        """Something failed: make a later `wait` say so, twice as late as the time before."""
        if self._retry_at is None:
            self._retry_at = self._clock() + self._delay_seconds
            self._delay_seconds = min(2 * self._delay_seconds, LONGEST_DELAY_SECONDS)

    def settle(self) -> None:
        """Everything is as it should be: there is nothing to try again."""
        self._retry_at = None
        self._delay_seconds = FIRST_DELAY_SECONDS

    def _patience(self) -> float | None:
        return None if self._retry_at is None else max(0.0, self._retry_at - self._clock())
