"""Does every connection succeed while something changes? New connections without pause."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.lab import probes
from tests.lab.probes import Answer, Outcome, Target

_AT_ONCE = 8
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Connected:
    """One connection of a load."""

    source: str
    target: Target
    answer: Answer

    def __str__(self) -> str:
        """Where from, where to, and what happened."""
        target = self.target
        return f"{self.source} to {target.address} {target.port}/{target.protocol}: {self.answer}"


class Load:
    """A thread that connects all the time; a context manager, the results count when it ended."""

    def __init__(
        self, flows: Sequence[tuple[str, int, Target]], settle: Callable[[], None]
    ) -> None:
        """Take sources (name and open namespace) with their targets; begin in __enter__."""
        self.connections: list[Connected] = []
        self._flows = flows
        self._settle = settle
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        """Begin, and return when the first connections have succeeded or failed."""
        self._thread.start()
        self.wait_for(1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, and raise what went wrong in the thread itself."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def failures(self) -> list[Connected]:
        """The connections that were not answered."""
        return [one for one in self.connections if one.answer.kind is not Outcome.ANSWERED]

    @property
    def answered_by(self) -> Counter[str]:
        """How many connections each machine answered."""
        return Counter(one.answer.by for one in self.connections if one.answer.by is not None)

    def wait_for(self, count: int) -> None:
        """Wait until so many more connections were made."""
        with self._progress:
            goal = len(self.connections) + count
            self._progress.wait_for(lambda: len(self.connections) >= goal or self._error)

    def go_on(self, seconds: float) -> None:
        """Return when connections were made for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._error is None:
            self.wait_for(1)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for source, network, target in self._flows:
                    self._connect(source, network, target)
        except BaseException as error:  # noqa: BLE001 -- raised again in __exit__
            with self._progress:
                self._error = error
                self._progress.notify_all()

    def _connect(self, source: str, network: int, target: Target) -> None:
        targets = [target] * _AT_ONCE
        answers = probes.connect(network, targets, _PATIENCE_SECONDS, self._settle)
        with self._progress:
            self.connections += [Connected(source, target, answer) for answer in answers]
            self._progress.notify_all()
