"""Is this the only headgate in its network namespace?

Two that write the same rules take each other's for somebody else's. A socket with an abstract name
(unix(7)) belongs to the namespace and goes with its process, however that ends.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress

from modes.base import EnvironmentFault
from proxy import log

_NAME = "\0headgate-run"
_PEER = struct.Struct("iII")  # struct ucred: process, user, group


def alone(*, patient: bool) -> socket.socket:
    """The socket that says so, to be kept open for as long as it shall be true.

    While another one is there: with `patient` waits until it has ended, as in a rolling update,
    and says for whom. Raises EnvironmentFault if another one is there and `patient` is not, or if
    the kernel gives no such socket.
    """
    told: int | None = None
    while True:
        mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            mine.bind(_NAME)
        except OSError as fault:
            mine.close()
            if fault.errno != errno.EADDRINUSE:
                reason = f"no socket says that this headgate runs: {fault.strerror}"
                raise EnvironmentFault(reason) from fault
        else:
            mine.listen()
            return mine
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with other, suppress(ConnectionError):  # it may have ended since
            other.connect(_NAME)
            process = _process(other)
            if not patient:
                reason = f"a headgate runs in this network namespace already (pid {process})"
                raise EnvironmentFault(f"{reason}: end it first")
            if process != told:
                told = process
                log.warning("Waiting for another headgate to end", pid=process)
            other.recv(1)  # nothing comes: it ends with its owner


def _process(of: socket.socket) -> int:
    """Its process ID; 0 if it is in a PID namespace that we do not see, as other containers are."""
    credentials = of.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    process: int = _PEER.unpack(credentials)[0]
    return process
