"""What happened in these folders? The kernel's inotify(7), without polling.

The standard library has no binding; the three functions are called through ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from enum import IntFlag

import msgspec

_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_READ_SIZE = 1 << 16


class Mask(IntFlag):
    """The bits of inotify(7) that are used here."""

    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLY_FOLDER = 0x0100_0000
    IS_FOLDER = 0x4000_0000


_WATCHED = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.CREATE
    | Mask.DELETE
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
    | Mask.ONLY_FOLDER
)


class Change(msgspec.Struct, frozen=True):
    """One event; `name` is empty when the folder itself is meant, `watch` is -1 on overflow."""

    watch: int
    mask: Mask
    name: str


class Inotify:
    """One inotify instance. `add` and `read` belong to one thread, `wake` may come from any."""

    def __init__(self) -> None:
        """Raises OSError (EMFILE: `fs.inotify.max_user_instances` is reached)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def add(self, folder: str) -> int:
        """Watch a folder and return its watch, the same one when it is watched already.

        Raises OSError: FileNotFoundError, NotADirectoryError, or ENOSPC when
        `fs.inotify.max_user_watches` is reached.
        """
        path = os.fsencode(folder)
        return self._checked(
            self._libc.inotify_add_watch(self._fd, path, ctypes.c_uint32(_WATCHED)), folder
        )

    def remove(self, watch: int) -> None:
        """Stop watching; a watch that the kernel dropped with its folder is gone already."""
        with contextlib.suppress(OSError):
            self._checked(self._libc.inotify_rm_watch(self._fd, watch), str(watch))

    def read(self) -> tuple[Change, ...]:
        """Wait for changes and return all that are queued; nothing at all after `wake`."""
        ready = {fd for fd, _ in self._poll.poll()}
        return () if self._wakeup in ready else tuple(self._drain())

    def wake(self) -> None:
        """Make the waiting `read`, and every later one, return nothing."""
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """Give back the descriptors."""
        os.close(self._fd)
        os.close(self._wakeup)

    def _drain(self) -> Iterator[Change]:
        while True:
            try:
                buffer = os.read(self._fd, _READ_SIZE)
            except BlockingIOError:
                return
            yield from parse(buffer)

    @staticmethod
    def _checked(result: int, subject: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, _explained(number), subject)
        return result


def parse(buffer: bytes) -> Iterator[Change]:
    """The events in what the kernel wrote: whole ones, names padded with zeros."""
    position = 0
    while position < len(buffer):
        watch, mask, _, length = _EVENT.unpack_from(buffer, position)
        position += _EVENT.size
        name = buffer[position : position + length].rstrip(b"\0")
        position += length
        yield Change(watch, Mask(mask), os.fsdecode(name))


def _explained(number: int) -> str:
    """The kernel says "no space left on device" and means a limit."""
    if number == errno.ENOSPC:
        return "the limit fs.inotify.max_user_watches is reached"
    if number == errno.EMFILE:
        return "the limit fs.inotify.max_user_instances is reached"
    return os.strerror(number)
