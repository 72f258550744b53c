"""Where in the program is the processor's time spent?

An alarm asks again and again where the program is, and gives that place the time that the
processor has worked since it asked last. Python answers between two of its instructions: what one
call of C takes, however long, is thus its caller's. The alarm is the clock's and not the
processor's (ITIMER_PROF), which ticks no more than 100 to 250 times a second.
"""

from __future__ import annotations

import resource
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import NamedTuple, Self

PERIOD_SECONDS = 0.0001
"""Less than anything that is looked at takes: what was before a call of C is put to its account.

Counted from no sample: alarms that are would keep step with a program that does the same again and
again.
"""

_SHORTEST_SECONDS = 1e-5
"""Less than a microsecond would be no alarm at all, a few would be one that is heard in a sample."""

_AGAIN_SECONDS = 0.001
"""An alarm that is not answered is repeated.

Each sets the next, so that one lost would be the last. Python 3.11.7, in a process with threads,
was seen not to answer a signal that had arrived until something else made it look: in 31 of 623
looks inside of pytest-xdist's workers, nearly always at one of the first four alarms.
"""


class Place(NamedTuple):
    """A function."""

    module: str
    name: str
    """With that of its class."""

    def __str__(self) -> str:
        """`endpoints.state.ClusterState.fold`."""
        return f"{self.module}.{self.name}"


Stack = tuple[Place, ...]
"""From the outermost call to the innermost."""
Stacks = Mapping[Stack, float]
"""Seconds of the processor."""


PROGRAMS = Place("programs", "started and waited for")
"""What they take is told when they have ended, whatever is being done then."""


class Sampler:
    """Takes samples inside of a `with`; of the main thread, which alone hears alarms."""

    def __init__(self) -> None:
        self.samples = 0
        self._programs = 0.0
        self._seconds: defaultdict[tuple[CodeType, ...], float] = defaultdict(float)
        self._modules: dict[CodeType, str] = {}
        self._before = 0.0
        self._looks = False
        self._takes = False

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGALRM, self._take)
        self._programs -= _programs()
        self._before = time.process_time()
        self._looks = True
        _set_alarm()
        return self

    def __exit__(self, *_: object) -> None:
        self._looks = False  # first: an alarm that has gone off, and is heard later, sets no other
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)
        self._programs += _programs()

    def _take(self, _: int, frame: FrameType | None) -> None:
        if not self._looks:
            return
        if self._takes:
            _set_alarm()  # somebody else had the processor: this is the end of a sample
            return
        self._takes = True
        worked = time.process_time()
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            self._modules[frame.f_code] = frame.f_globals.get("__name__", "?")
            frame = frame.f_back
        self._seconds[tuple(codes)] += worked - self._before
        self.samples += 1
        _set_alarm()  # not before: no sample of a sample
        self._before = time.process_time()
        self._takes = False

    @property
    def stacks(self) -> Stacks:
        """What was found."""
        found: defaultdict[Stack, float] = defaultdict(float)
        for codes, seconds in self._seconds.items():
            places = [Place(self._modules[code], code.co_qualname) for code in codes]
            found[tuple(reversed(places))] += seconds
        if self._programs:
            found[PROGRAMS,] = self._programs
        return found


def _set_alarm() -> None:
    """For a multiple of the period: the next, or the one after that if that is too near."""
    seconds = PERIOD_SECONDS - time.perf_counter() % PERIOD_SECONDS
    if seconds < _SHORTEST_SECONDS:
        seconds += PERIOD_SECONDS
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)


def _programs() -> float:
    """Seconds of the processor, of the children that this process waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def collapsed(root: str, stacks: Stacks) -> str:
    """The format that tools for flame graphs read: `root;a;b 12`, in microseconds."""
    lines = [
        f"{';'.join([root, *map(str, stack)])} {microseconds}\n"
        for stack, seconds in sorted(stacks.items())
        if (microseconds := round(seconds * 1e6))
    ]
    return "".join(lines)
