"""Who is at the other end of a Unix socket?

Any process in a network namespace may take an abstract name (unix(7)): whom to believe is decided
by the user that the kernel says it runs as.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_CREDENTIALS = struct.Struct("iII")  # struct ucred: process, user, group


class Peer(NamedTuple):
    """The process at the other end: of a listening socket, the one that listens."""

    process: int
    """0: one in a PID namespace that we do not see, as other containers are."""
    user: int

    @property
    def is_trusted(self) -> bool:
        """Whether it is root's or of our own user."""
        return self.user in (0, os.geteuid())

    @property
    def trusts_us(self) -> bool:
        """Whether we are root or of its user."""
        return os.geteuid() in (0, self.user)


def peer(connected: socket.socket) -> Peer:
    """The other end of a connected socket of AF_UNIX."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(credentials)
    return Peer(process, user)
