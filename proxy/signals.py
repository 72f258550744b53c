"""How does the program hear that it shall end?

By SIGTERM and SIGINT. Python runs a handler between two steps of the main thread, and one that
waits for a message takes none: a signal that comes in the moment before the wait would be heard
with the next message, which may be never. So its number goes to a socket, which a thread reads.
"""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType

from proxy.sources.base import Sink, Stop

ENDING = (signal.SIGTERM, signal.SIGINT)


def end_at_once() -> None:
    """Let these signals end the program where it is.

    They do so by themselves, but not for the first process of a container.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in ENDING:
        signal.signal(number, end)


class Signals:
    """Puts `Stop` on the queue for each of them. To be made and started by the main thread."""

    def start(self, sink: Sink) -> None:
        """From now on they end nothing by themselves."""
        self._sink = sink
        self._heard, told = socket.socketpair()
        told.settimeout(0)
        self._told = told
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        for number in ENDING:
            signal.signal(number, lambda *_: None)  # the number is all that is wanted
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let them end the program at once again: there is nothing left to tell."""
        end_at_once()
        signal.set_wakeup_fd(-1)
        self._told.close()
        self._thread.join()
        self._heard.close()

    def _run(self) -> None:
        while numbers := self._heard.recv(16):
            for number in numbers:
                self._sink.put(Stop(signal.Signals(number).name))
