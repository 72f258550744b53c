"""When is it time to work?

As soon as something is queued, and then for all that is queued: a burst of events becomes one
transaction, a single event waits for nothing, unless the operator wants syncs to keep a distance.
What failed is tried again, later each time; and chores are due at their own times.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from proxy.sources.base import Between, ConfigChanged, Died, ForeignChange, Message, Stop

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
BURST = 2
"""So many syncs may follow each other at once, whatever their distance shall be (REFERENCE A.2)."""


_URGENT = (Stop, Died, ForeignChange, ConfigChanged)
"""What no distance between syncs delays: not what may shorten it, nor what repairs and ends."""


class Due(NamedTuple):
    """What there is to do now."""

    batch: list[Message]
    retry: bool = False
    """It is time to try again what failed."""
    chores: frozenset[str] = frozenset()
    """Names of what wanted to be done at a time that has come."""


class Pace:
    """Keeps syncs apart: `BURST` at once, then one each `seconds`; 0: no distance at all."""

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self._full_at = now

    def wait_seconds(self, now: float) -> float:
        """How long the next sync has to wait."""
        return max(0.0, self._full_at - now - (BURST - 1) * self.seconds)

    def change(self, seconds: float, now: float) -> None:
        """Keep this distance from now on; what a longer one made wait need wait no more."""
        self.seconds = seconds
        self._full_at = min(self._full_at, now + BURST * seconds)

    def take(self, now: float) -> None:
        """A sync begins."""
        self._full_at = max(self._full_at, now) + self.seconds


class Schedule:
    """The waiting of the main loop. `clock` is a monotonic clock in seconds."""

    def __init__(
        self,
        messages: queue.SimpleQueue[Message],
        clock: Callable[[], float],
        min_sync_seconds: float = 0.0,
    ) -> None:
        self._messages = messages
        self._clock = clock
        self._held: list[Message] = []
        self._pace = Pace(min_sync_seconds, clock())
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._retry_at: float | None = None
        self._chores: dict[str, float] = {}

    def wait(self) -> Due:
        """Everything that is queued, and for what the time has come.

        Sleeps until there is something.
        """
        while True:
            with suppress(queue.Empty):
                self._held.append(self._messages.get(timeout=self._patience()))
            self._held.extend(self._messages.get_nowait() for _ in range(self._messages.qsize()))
            due = self._due(self._clock())
            if due.batch or due.retry or due.chores:
                return due

    def pace(self, min_sync_seconds: float) -> None:
        """Syncs shall keep this distance from now on."""
        self._pace.change(min_sync_seconds, self._clock())

    @property
    def holds_news(self) -> bool:
        """Whether something waits for the distance between syncs."""
        return bool(self._held)

    def retry(self) -> None:
        """Something failed: make a later `wait` say so, twice as late as the time before."""
        if self._retry_at is None:
            self._retry_at = self._clock() + self._delay_seconds
            self._delay_seconds = min(2 * self._delay_seconds, LONGEST_DELAY_SECONDS)

    def settle(self) -> None:
        """Everything is as it should be: there is nothing to try again."""
        self._retry_at = None
        self._delay_seconds = FIRST_DELAY_SECONDS

    def call(self, chore: str, seconds: float | None) -> None:
        """A chore wants to be done so late; None: not because time passes."""
        if seconds is None:
            self._chores.pop(chore, None)
        else:
            self._chores[chore] = self._clock() + seconds

    def _due(self, now: float) -> Due:
        looks: list[Message] = [message for message in self._held if isinstance(message, Between)]
        news = len(self._held) > len(looks)
        urgent = any(isinstance(message, _URGENT) for message in self._held)
        if news and (urgent or self._pace.wait_seconds(now) == 0):
            batch, self._held = self._held, []
            self._pace.take(now)
        else:
            # What only looks need not wait for the next sync, and is no reason for one.
            batch = looks
            self._held = [message for message in self._held if not isinstance(message, Between)]
        retry = self._retry_at is not None and now >= self._retry_at
        if retry:
            self._retry_at = None
        chores = frozenset(name for name, at in self._chores.items() if now >= at)
        for name in chores:
            del self._chores[name]
        return Due(batch, retry, chores)

    def _patience(self) -> float | None:
        now = self._clock()
        seconds = [at - now for at in self._chores.values()]
        if self._retry_at is not None:
            seconds.append(self._retry_at - now)
        if self._held:
            seconds.append(self._pace.wait_seconds(now))
        return max(0.0, min(seconds)) if seconds else None
