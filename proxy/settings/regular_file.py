"""What are the bytes of a file that somebody else chose?

Whoever puts the file there may put anything there: opening a FIFO waits for a writer, opening a
device may do what the device is for (a watchdog begins to count), and `/dev/zero` has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1 << 20
"""As much as a ConfigMap may hold (MaxSecretSize of Kubernetes' validation: 1 MiB)."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def bytes_of(path: Path) -> bytes:
    """All that a regular file of at most MOST_BYTES holds, links followed; never waits.

    Raises OSError; its `strerror` is the reason, whatever it is.
    """
    _require_regular(path.stat())
    # What is there may be another file by now.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(number))
        return _all(number)
    finally:
        os.close(number)


def _require_regular(found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"must be a regular file, is {_KINDS.get(kind, 'another one')}")


def _all(number: int) -> bytes:
    data = bytearray()
    while piece := os.read(number, MOST_BYTES + 1 - len(data)):
        data += piece
        if len(data) > MOST_BYTES:
            raise OSError(errno.EFBIG, f"must have at most {MOST_BYTES} bytes")
    return bytes(data)
