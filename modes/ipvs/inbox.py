"""How is an answer of many datagrams read at once, and held against the last one unread?

The kernel tells each set in a datagram of its own. recvmmsg(2) takes them all in one system call,
into room that is made once, so that two equal answers are equal bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import NamedTuple

MOST = 256
"""So many datagrams are read at once."""
_ROOM = 1 << 9
"""For each: the header of a set is 160 bytes."""


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vectors_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


class Letters(NamedTuple):
    """What was received, as it lies in memory."""

    headers: bytes
    room: bytes

    def datagrams(self) -> list[bytes] | None:
        """One after the other; None if one was larger than its room."""
        count = len(self.headers) // ctypes.sizeof(_Message)
        said = (_Message * count).from_buffer_copy(self.headers)
        if any(one.header.flags & socket.MSG_TRUNC for one in said):
            return None
        starts = range(0, len(self.room), _ROOM)
        return [self.room[at : at + one.size] for at, one in zip(starts, said, strict=True)]


NOTHING = Letters(b"", b"")


class Inbox:
    """Room for MOST datagrams of one socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Nothing is received yet."""
        self._descriptor = sock.fileno()
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._room = ctypes.create_string_buffer(MOST * _ROOM)
        self._messages = (_Message * MOST)()
        start = ctypes.addressof(self._room)
        self._vectors = [_Vector(start + at * _ROOM, _ROOM) for at in range(MOST)]
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vectors = ctypes.pointer(vector)
            message.header.vectors_count = 1

    def empty(self) -> None:
        """Throw away what has come. Raises OSError."""
        while self.receive().headers:
            pass

    def receive(self) -> Letters:
        """What has come; nothing waits. Raises OSError."""
        count = self._receive(self._descriptor, self._messages, MOST, socket.MSG_DONTWAIT, None)
        if count < 0:
            fault = ctypes.get_errno()
            if fault != errno.EAGAIN:
                raise OSError(fault, os.strerror(fault))
            count = 0
        headers = ctypes.string_at(self._messages, count * ctypes.sizeof(_Message))
        return Letters(headers, ctypes.string_at(self._room, count * _ROOM))
