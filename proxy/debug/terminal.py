"""How is a table refreshed in place on a terminal, and how does who looks at it say enough?

By control sequences of ECMA-48, as every terminal knows them that is not dumb.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum, auto
from types import TracebackType
from typing import Self

_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_BEGIN = "\x1b[?25l\x1b[?7l" + _HOME + _REST
"""No cursor; a line that is too long is cut, where otherwise it would take another one."""
_END = "\x1b[?7h\x1b[?25h\n"
_ENDING = (signal.SIGINT, signal.SIGTERM)
_ENOUGH = b"q"


class Wish(Enum):
    """What was asked for meanwhile."""

    NOTHING = auto()
    END = auto()
    """By Ctrl-C, by `q`, or by SIGTERM."""
    REDRAW = auto()
    """The terminal has another size."""


def is_refreshed() -> bool:
    """Whether standard output is a terminal on which text can be written over."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Attention:
    """Waits, and hears signals and keys meanwhile. To be made by the main thread."""

    def __init__(self) -> None:
        self._left = ExitStack()
        self._poll = select.poll()
        self._keys = -1

    def __enter__(self) -> Self:
        """From now on SIGINT and SIGTERM end nothing by themselves, until this is left."""
        self._heard, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in (self._heard, told):
            self._left.callback(os.close, descriptor)
        before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._left.callback(signal.set_wakeup_fd, before)
        for number in (*_ENDING, signal.SIGWINCH):
            # The number comes by the descriptor, and that is all that is wanted.
            self._left.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        self._poll.register(self._heard, select.POLLIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Signals mean what they meant before, and keys do."""
        self._left.close()

    def hear_keys(self) -> None:
        """Hear each key by itself, unless standard input is no terminal."""
        if not sys.stdin.isatty():
            return
        self._keys = sys.stdin.fileno()
        self._left.callback(
            termios.tcsetattr, self._keys, termios.TCSADRAIN, termios.tcgetattr(self._keys)
        )
        tty.setcbreak(self._keys)
        self._poll.register(self._keys, select.POLLIN)

    def wait(self, seconds: float) -> Wish:
        """Return what is asked for first, or after so many seconds that nothing was."""
        ready = [descriptor for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000)]
        if self._heard in ready:
            numbers = os.read(self._heard, 64)
            return Wish.END if any(number in numbers for number in _ENDING) else Wish.REDRAW
        if self._keys in ready:
            return Wish.END if self._is_enough() else Wish.NOTHING
        return Wish.NOTHING

    def _is_enough(self) -> bool:
        """Whether a key says so, or the terminal has hung up: then a read fails or finds an end."""
        try:
            keys = os.read(self._keys, 64)
        except OSError:
            return True
        return not keys or _ENOUGH in keys.lower()


class Refreshed:
    """The terminal at standard output, with one text that stands where the last one stood."""

    def __enter__(self) -> Self:
        """Clear it."""
        self._write(_BEGIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last text, and the cursor below it."""
        self._write(_END)

    @property
    def height(self) -> int | None:
        """Lines; None: the terminal does not know."""
        return os.get_terminal_size(sys.stdout.fileno()).lines or None

    def draw(self, lines: Sequence[str]) -> None:
        """Show this and nothing else; what is below the last line of the terminal is lost."""
        seen = lines[: self.height]
        self._write(_HOME + "\n".join(line + _REST_OF_LINE for line in seen) + _REST)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
