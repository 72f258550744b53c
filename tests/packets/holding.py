"""Do connections that are open stay open, whatever happens to the rules? Asked without pause."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.lab.lab import Lab
from tests.lab.probes import Answer, Connection, Outcome, Target


class Held:
    """Open connections, each asked again and again by a thread; a context manager."""

    def __init__(self, lab: Lab) -> None:
        """None is open yet."""
        self.cut: list[str] = []
        """What became of those that were not answered; they are asked no more."""
        self._lab = lab
        self._open: dict[str, tuple[Connection, str | None]] = {}
        self._rounds = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="held", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all of them, and raise what went wrong in the thread itself."""
        with self._changed:
            self._stopped = True
        self._thread.join()
        for one, _ in self._open.values():
            one.close()
        if self._error is not None:
            raise self._error

    def open(self, when: str, flows: Sequence[tuple[str, Target]]) -> None:
        """Open more, which stay open until the end."""
        for source, target in flows:
            one = self._lab.hold(source, target)
            place = f"{source} to {target.address} {target.port}/{target.protocol}"
            with self._changed:
                self._open[f"{place}, opened {when}"] = (one, one.ask().by)

    def ask_all(self) -> None:
        """Return when each has been asked once more."""
        with self._changed:
            goal = self._rounds + 2
            self._changed.wait_for(lambda: self._rounds >= goal or self._error)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def _run(self) -> None:
        try:
            while not self._stopped:
                for name, (one, by) in tuple(self._open.items()):
                    answer = one.ask()
                    if answer.kind is not Outcome.ANSWERED or answer.by != by:
                        self._lose(name, one, by, answer)
                with self._changed:
                    self._rounds += 1
                    self._changed.notify_all()
                    self._changed.wait(0.01)
        except BaseException as error:  # noqa: BLE001 -- raised again in __exit__
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _lose(self, name: str, one: Connection, by: str | None, answer: Answer) -> None:
        with self._changed:
            del self._open[name]
            self.cut.append(f"{name}, with {by}: {answer}")
        one.close()
