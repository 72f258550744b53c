"""Is this the only headgate in its network namespace?

Two that write the same rules take each other's for somebody else's. A socket with an abstract name
(unix(7)) belongs to the namespace and goes with its process, however that ends. Any process in the
namespace may take such a name, so that its holder counts as a headgate only if it is root's or of
our own user: nobody else shall keep a node from being served.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import AbstractContextManager, nullcontext, suppress

from modes.base import EnvironmentFault
from proxy import log
from proxy.peer import peer

PAUSE_SECONDS = 0.2
_TRIES = 10
"""A headgate listens as soon as it has the name: who is still silent after so many is none."""
_NAME = "\0headgate-run"


def alone(*, patient: bool) -> AbstractContextManager[object]:
    """What says so, to be kept open for as long as it shall be true.

    While another one is there: with `patient` waits until it has ended, as in a rolling update,
    and says for whom. If somebody who can be none holds the name, that is told as an error, and
    nothing says so. Raises EnvironmentFault if another one is there and `patient` is not, or if
    the kernel gives no such socket.
    """
    told: int | None = None
    silent = 0
    while (mine := _named()) is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as other:
            if not _reached(other):  # it may have ended since
                silent += 1
                if silent == _TRIES:
                    return _without("somebody holds the name and does not answer")
            else:
                silent = 0
                holder = peer(other)
                process = holder.process
                if not holder.is_trusted:
                    return _without(f"process {process} of user {holder.user} holds the name")
                if not patient:
                    reason = f"a headgate runs in this network namespace already (pid {process})"
                    raise EnvironmentFault(f"{reason}: end it first")
                if process != told:
                    told = process
                    log.warning("Waiting for another headgate to end", pid=process)
                _await_end(other)
        time.sleep(PAUSE_SECONDS)  # of one that answers and hangs up there is no other news
    return mine


def _named() -> socket.socket | None:
    """A socket with the name; None if another one has it. Raises EnvironmentFault."""
    mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mine.bind(_NAME)
        mine.listen()
    except OSError as fault:
        mine.close()
        if fault.errno == errno.EADDRINUSE:
            return None
        reason = f"no socket says that this headgate runs: {fault.strerror}"
        raise EnvironmentFault(reason) from fault
    return mine


def _reached(other: socket.socket) -> bool:
    """Whether the holder can be asked: it listens, and its queue has room."""
    try:
        other.connect(_NAME)
    except (ConnectionError, BlockingIOError):
        return False
    return True


def _await_end(other: socket.socket) -> None:
    """Nothing comes from a headgate: what is waited for ends with its process."""
    other.setblocking(True)  # noqa: FBT003 (the socket's own signature)
    with suppress(ConnectionError):
        other.recv(1)


def _without(reason: str) -> AbstractContextManager[object]:
    log.error("It is not known whether another headgate runs", reason=reason, name=_NAME[1:])
    return nullcontext()
