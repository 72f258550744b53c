"""When is it time to work?

As soon as something is queued, and then for all that is queued: a burst of events becomes one
transaction, a single event waits for nothing. What failed is tried again, later each time; and a
mode that wants to be called at some time is called then.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from proxy.sources.base import Message

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0


class Due(NamedTuple):
    """What there is to do now."""

    batch: list[Message]
    retry: bool = False
    """It is time to try again what failed."""
    tend: bool = False
    """It is time that the mode was waiting for."""


class Schedule:
    """The waiting of the main loop. `clock` is a monotonic clock in seconds."""

    def __init__(self, messages: queue.SimpleQueue[Message], clock: Callable[[], float]) -> None:
        self._messages = messages
        self._clock = clock
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._retry_at: float | None = None
        self._tend_at: float | None = None

    def wait(self) -> Due:
        """Everything that is queued, and for what the time has come.

        Sleeps until there is something.
        """
        batch: list[Message] = []
        with suppress(queue.Empty):
            batch.append(self._messages.get(timeout=self._patience()))
        batch.extend(self._messages.get_nowait() for _ in range(self._messages.qsize()))
        now = self._clock()
        retry = self._retry_at is not None and now >= self._retry_at
        if retry:
            self._retry_at = None
        tend = self._tend_at is not None and now >= self._tend_at
        if tend:
            self._tend_at = None
        return Due(batch, retry, tend)

    def retry(self) -> None:
        """Something failed: make a later `wait` say so, twice as late as the time before."""
        if self._retry_at is None:
            self._retry_at = self._clock() + self._delay_seconds
            self._delay_seconds = min(2 * self._delay_seconds, LONGEST_DELAY_SECONDS)

    def settle(self) -> None:
        """Everything is as it should be: there is nothing to try again."""
        self._retry_at = None
        self._delay_seconds = FIRST_DELAY_SECONDS

    def tend_in(self, seconds: float | None) -> None:
        """The mode wants to be called so late; None: not because time passes."""
        self._tend_at = None if seconds is None else self._clock() + seconds

    def _patience(self) -> float | None:
        alarms = [at for at in (self._retry_at, self._tend_at) if at is not None]
        return max(0.0, min(alarms) - self._clock()) if alarms else None
