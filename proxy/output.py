"""What if an answer cannot be written to where it should go: a full disk, nowhere at all?"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from modes.base import EnvironmentFault

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputFault(EnvironmentFault):
    """Standard output takes no more."""


class _Output(io.FileIO):
    """A file descriptor that says so in our words; a reader that went is told apart."""

    def write(self, data: ReadableBuffer, /) -> int:
        """As of FileIO. Raises OutputFault and BrokenPipeError."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as fault:
            raise OutputFault(f"standard output: {fault.strerror}") from fault


def attend() -> None:
    """Give this process a standard output that raises OutputFault, also if it has none.

    Python takes a descriptor that was closed for no file at all, and the next socket for it.
    """
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    before = sys.stdout
    if before is None:
        # Opened for reading only: the answer is refused as by a full disk, a silent daemon is not.
        before = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(before.fileno(), "wb", closefd=False)),
        before.encoding,
        before.errors,
        line_buffering=bool(before.line_buffering or getattr(before, "write_through", False)),
    )


def abandon() -> None:
    """Leave what was not written: at exit it would be tried again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
