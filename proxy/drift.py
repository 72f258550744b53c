"""Who changed our rules, are they still what they should be, and is it a fight?

A mode hears of foreign changes, or looks for them; here is decided what follows. A foreign change
is a suspicion only: others change much that is theirs, next to ours. What `Mode.verify` finds is
drift, and is repaired at once; unless it comes back again and again, for then two programs fight
over the kernel, and repairing without a pause would only make the node busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from modes.base import (
    ApplyReport,
    Drift,
    EnvironmentFault,
    Foreign,
    ForeignWatch,
    KernelFault,
    Mode,
)
from proxy import log
from proxy.observer import Observer, Repair
from proxy.sources.base import Died, ForeignChange, Sink

WINDOW_SECONDS = 60.0
PEACE = 5
"""So many repairs in a window are nobody's fight: a firewall that is reloaded, and reloaded.

A fight is over when there is nothing to repair for a whole window."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
REST = 10
"""After a look that found nothing, others may change what is theirs for so many times as long as
the look took: their being busy shall not make us so."""
COMPARE_REST = 200
"""The same for looks that nobody is the reason of."""
_UNKNOWN = "unknown"
_LONGEST = 300
_TOLD = 3
"""How many of the things that were lost are named."""


class Fights:
    """Counts repairs. Pure; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._repairs: list[float] = []
        self._pause_seconds = 0.0
        self._until = 0.0

    def pausing(self, now: float) -> bool:
        """Whether a repair would have to wait."""
        return now < self._until

    def repaired(self, now: float) -> float:
        """There was a repair; for how many seconds the next one shall wait: 0 in peace."""
        fighting = self._pause_seconds > 0 and now - self._repairs[-1] < WINDOW_SECONDS
        self._repairs = [at for at in self._repairs if now - at < WINDOW_SECONDS] + [now]
        if fighting or len(self._repairs) > PEACE:
            longer = max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds)
            self._pause_seconds = min(longer, LONGEST_PAUSE_SECONDS)
        else:
            self._pause_seconds = 0.0
        self._until = now + self._pause_seconds
        return self._pause_seconds


class Drifts:
    """What is suspected, what was found, and when it may be repaired. The thread that syncs."""

    def __init__(self, mode: Mode, clock: Callable[[], float], observer: Observer) -> None:
        self._mode = mode
        self._clock = clock
        self._observer = observer
        self._fights = Fights()
        self._suspects: list[Foreign] = []
        self._noticed_at = 0.0
        self._not_before = 0.0
        self._found = Drift()

    def suspect(self, foreign: Iterable[Foreign]) -> None:
        """Somebody else changed our rules, or may have."""
        for change in foreign:
            if not self._suspects:
                self._noticed_at = self._clock()
            self._suspects.append(change)
            log.info(
                "Foreign change",
                v=2,
                what=change.what,
                author=_author(change),
                pid=change.pid or _UNKNOWN,
            )
        if self._suspects and self._fights.pausing(self._clock()):
            self._observer.drifted(_worst(self._suspects))

    def due_in(self) -> float | None:
        """In how many seconds what is suspected may be looked into; None: nothing is."""
        return max(0.0, self._not_before - self._clock()) if self._suspects else None

    def drift(self) -> bool:
        """Whether the kernel is found changed, as far as it is time to look.

        A look that fails finds everything changed.
        """
        if self.due_in() != 0:
            return False
        began = self._clock()
        self._found = self._look(self._mode.verify)
        if self._found:
            self._observer.drifted(_worst(self._suspects))
        else:
            log.info("Foreign changes left our rules as they were", v=2, mode=self._mode.name)
            self._suspects = []
            self._not_before = (1 + REST) * self._clock() - REST * began
            self._observer.settled()
        return bool(self._found)

    def compare(self) -> float:
        """Look at what was read ahead, though nobody is suspected; in how many seconds again."""
        began = self._clock()
        if self._look(partial(self._mode.verify, from_ahead=True)):
            self.suspect([Foreign("found by comparing everything")])
        elif not self._suspects:
            self._observer.compared()
        return COMPARE_REST * (self._clock() - began)

    def _look(self, verify: Callable[[], Drift]) -> Drift:
        try:
            return verify()
        except (KernelFault, EnvironmentFault, OSError) as fault:
            return Drift(missing=(f"nothing can be read: {fault}",))

    def replaced(self, report: ApplyReport) -> None:
        """Everything was compared with the kernel: what had been changed is right again."""
        if not self._suspects:
            return
        cause, found = _worst(self._suspects), self._found
        self._suspects, self._found = [], Drift()
        self._observer.settled()
        if not (found or report.added or report.deleted or report.messages):
            return
        now = self._clock()
        # What a fight made it wait for says nothing of the repair.
        repair = Repair(cause, now - max(self._noticed_at, self._not_before), report)
        log.warning(
            "Drift repaired",
            mode=self._mode.name,
            author=_author(cause),
            pid=cause.pid or _UNKNOWN,
            what=_brief(cause.what),
            **_differences(found),
            took=f"{repair.seconds * 1000:.0f}ms",
        )
        self._observer.repaired(repair)
        if pause := self._fights.repaired(now):
            self._not_before = now + pause
            log.error(
                "Another program fights over the rules: find it and stop it",
                mode=self._mode.name,
                author=_author(cause),
                pid=cause.pid or _UNKNOWN,
                next_repair_in=f"{pause:.0f}s",
            )
            self._observer.fought(cause, pause)


class Listening:
    """A thread that waits for foreign changes and puts them on the queue."""

    def __init__(self, watch: ForeignWatch, sink: Sink) -> None:
        self._watch = watch
        self._sink = sink
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._watch.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            while foreign := self._watch.wait():
                self._sink.put(ForeignChange(foreign))
        except Exception as error:  # noqa: BLE001 (the main thread reports it, and ends the program)
            self._sink.put(Died("drift", error))


def _worst(suspects: list[Foreign]) -> Foreign:
    """The one to blame: the last one whose author the kernel named, or else the last."""
    return next((change for change in reversed(suspects) if change.author), suspects[-1])


def _author(change: Foreign) -> str:
    return change.author or _UNKNOWN


def _brief(what: str) -> str:
    """A part of it that fits a line of the log."""
    return what if len(what) <= _LONGEST else f"{what[:_LONGEST]}…"


def _differences(found: Drift) -> dict[str, str]:
    """What was not as it should be, for the log."""
    things = {"lost": found.missing, "changed": found.different, "extra": found.extra}
    return {name: _told(of) for name, of in things.items() if of}


def _told(things: tuple[str, ...]) -> str:
    """The first of them, and how many there are besides."""
    rest = len(things) - _TOLD
    named = "; ".join(things[:_TOLD])
    return f"{named}; and {rest} more" if rest > 0 else named
