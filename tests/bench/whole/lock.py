"""When do programs write to legacy iptables? Told by the file that they lock meanwhile."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

PATH = Path("/run/xtables.lock")
_CLOSE_WRITE, _CLOSE_NOWRITE, _OPEN = 0x8, 0x10, 0x20
_HEADER = struct.Struct("=iIII")
"""Watch, mask, cookie, size of the name that follows: the file itself has none."""
_ROOM = 1 << 12


class Lock:
    """Hears of who opens and closes the xtables lock, in the mount namespace of who makes it.

    Programs open it before they write a table, and close it when the kernel has taken that.
    """

    def __init__(self, path: Path = PATH) -> None:
        """The file is made if there is none. Raises OSError."""
        path.touch(mode=0o600)
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        mask = _OPEN | _CLOSE_WRITE | _CLOSE_NOWRITE
        if libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask) < 0:
            self.close()
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
        self._is_open = False

    def close(self) -> None:
        """Hear no more."""
        os.close(self._descriptor)

    def turns(self) -> tuple[bool, int]:
        """Whether the last that was heard is that it was opened, and how often it was closed since.

        The kernel merges equal events that follow each other.
        """
        closed = 0
        while True:
            try:
                told = os.read(self._descriptor, _ROOM)
            except BlockingIOError:
                return self._is_open, closed
            for at in range(0, len(told), _HEADER.size):
                _, mask, _, _ = _HEADER.unpack_from(told, at)
                self._is_open = bool(mask & _OPEN)
                closed += not self._is_open
