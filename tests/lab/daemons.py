"""What does the headgate of a node say, and has it said it yet?

A real `headgate run` in a node's network namespace. A thread reads its standard error, so that
whoever waits for a line waits for nothing else.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import namespaces

PATIENCE_SECONDS = 60.0

_SYNCED = re.compile(r'\] "Synced" ')


@dataclass(frozen=True)
class Line:
    """A line of the log and when it was read, by time.monotonic()."""

    text: str
    seconds: float

    @property
    def is_synced(self) -> bool:
        """Whether it says that the kernel holds what the objects say."""
        return _SYNCED.search(self.text) is not None


class Daemon:
    """A running headgate.

    The kernel kills it together with the thread that started it, so start it from a thread that
    lives as long as it should.
    """

    def __init__(self, node: str, network: int, arguments: Sequence[str]) -> None:
        """Start `headgate run ARGUMENTS` on a node, whose namespace is an open descriptor."""
        self.node = node
        program = Path(sys.executable).with_name("headgate")
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(program), "run", *arguments]
        with namespaces.inside(network):
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        self._lines: list[Line] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name=f"log of {node}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def lines(self) -> tuple[Line, ...]:
        """Everything that it said so far."""
        with self._news:
            return tuple(self._lines)

    def wait_for(
        self, wanted: Callable[[Line], bool], since: int = 0, timeout: float = PATIENCE_SECONDS
    ) -> Line:
        """Wait for the first line like this, among those from number `since` on.

        Raises:
            TimeoutError: there was none in time, or headgate ended; the message holds its log.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self._lines[since:]:
                    if wanted(line):
                        return line
                since = len(self._lines)
                if self._ended or not self._news.wait(deadline - time.monotonic()):
                    raise TimeoutError(self.complaint("did not say what was waited for"))

    def wait_for_news(self, known: int, timeout: float) -> None:
        """Wait until there are more lines than these, or for some seconds.

        Raises:
            TimeoutError: headgate ended.
        """
        with self._news:
            self._news.wait_for(lambda: len(self._lines) > known or self._ended, timeout)
            if self._ended:
                raise TimeoutError(self.complaint("ended"))

    def wait_for_end(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait until it ends by itself; its exit status. Raises TimeoutError if it does not."""
        with self._news:
            if not self._news.wait_for(lambda: self._ended, timeout):
                raise TimeoutError(self.complaint("did not end"))
        return self._process.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal and return its exit status, minus the signal if that ended it.

        Raises:
            TimeoutError: it does not end; it is killed then.
        """
        self._process.send_signal(number)
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            raise TimeoutError(self.complaint(f"ignored {number.name}")) from error
        finally:
            self._reader.join()
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for text in stderr:
                with self._news:
                    self._lines.append(Line(text.rstrip("\n"), time.monotonic()))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def complaint(self, what: str) -> str:
        """A sentence about it, with the end of its log."""
        log = "\n".join(f"  {line.text}" for line in self._lines[-30:])
        return f"headgate on {self.node} {what}; its log ends:\n{log}"
