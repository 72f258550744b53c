"""What does the main loop do, in which order, and when does it end?

One queue, one thread that reads it: this one. It ends when it is told to (SIGTERM, SIGINT), after
the first sync with `--once`, when a thread that must live has died, or for a configuration that
only a new process can have. The rules always stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from proxy import log
from proxy.schedule import Due, Schedule
from proxy.sources.base import Between, ConfigChanged, Died, Message, Sink, Stop
from proxy.sync import Outcome, Sync

_SUSPICION = "suspicion"


class Chore(NamedTuple):
    """Something that the passing of time asks for."""

    run: Callable[[], float | None]
    """Do it; the seconds until it is wanted again, None: not because time passes."""
    after_sync: bool = True
    """It is wanted after each sync that does something, whatever it said before."""


class Pulse(Protocol):
    """Who looks whether the loop still turns."""

    def busy(self) -> None:
        """It begins to work."""

    def idle(self) -> None:
        """It waits for news."""


class Resting:
    """Nobody looks."""

    def busy(self) -> None:
        """As of a Pulse."""

    def idle(self) -> None:
        """As of a Pulse."""


class Configured(Protocol):
    """Who takes a changed configuration."""

    def take(self, news: ConfigChanged) -> bool:
        """The file has changed; whether the process must end for it."""


COMPARE = "compare"


def chores(
    sync: Sync, schedule: Schedule, sink: Sink, compare_seconds: Callable[[], float]
) -> dict[str, Chore]:
    """What a sync wants to be done as time passes; all rules are compared so seldom, or less.

    While they are read for that, the loop goes on; it comes back to them by way of the queue.
    """

    def compare() -> None:
        schedule.call(COMPARE, max(compare_seconds(), sync.compare()))

    def read() -> None:
        sync.read_ahead(lambda: sink.put(Between(compare)))

    return {
        "tend": Chore(sync.tend),
        "glance": Chore(sync.glance),
        COMPARE: Chore(read, after_sync=False),
        # `run` itself looks into what is suspected.
        _SUSPICION: Chore(lambda: None, after_sync=False),
    }


def follow(
    schedule: Schedule,
    sync: Sync,
    chores: Mapping[str, Chore],
    pulse: Pulse | None = None,
    configured: Configured | None = None,
    *,
    once: bool,
) -> int:
    """Sync whenever there is news or a retry is due, and do the chores; the exit status."""
    pulse = pulse or Resting()
    while True:
        pulse.idle()
        due = schedule.wait()
        pulse.busy()
        status = _end(due.batch, configured)
        if status is not None:
            return status
        for name in sorted(due.chores):
            schedule.call(name, chores[name].run())
        outcome = _synced(sync, due)
        if outcome is not None:
            for name, chore in chores.items():
                if chore.after_sync:
                    schedule.call(name, chore.run())
        schedule.call(_SUSPICION, sync.suspicion_in())
        if outcome is None:
            continue
        if once:
            return int(_lacks_something(outcome) or outcome.problems > 0)
        if _lacks_something(outcome):
            schedule.retry()
        else:
            schedule.settle()


def _synced(sync: Sync, due: Due) -> Outcome | None:
    """Sync, and let those look who want to see what came of it."""
    acts = [message.act for message in due.batch if isinstance(message, Between)]
    outcome = sync.run(taken(due.batch), retry=due.retry)
    for act in acts:
        act()
    return outcome


def _end(batch: Iterable[Message], configured: Configured | None) -> int | None:
    """The exit status, if one of these messages ends the program."""
    for message in batch:
        match message:
            case Stop(reason):
                log.info("Stopping; the rules stay", reason=reason)
                return 0
            case Died(thread, error):
                log.error("A thread died", thread=thread, exc_info=error)
                return 1
            case ConfigChanged() if configured is not None and configured.take(message):
                return 1
    return None


def taken(batch: list[Message]) -> Iterator[Message]:
    """The messages in their order, each taken out of the batch before it is looked at.

    What the first lists of a large cluster hold, 30 MB for 100,000 endpoints, is free again when
    it is folded, before plans and transactions need room.
    """
    batch.reverse()
    while batch:
        yield batch.pop()


def _lacks_something(outcome: Outcome) -> bool:
    return bool(outcome.fault or outcome.refused)
