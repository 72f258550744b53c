"""What are the bytes of a file that somebody else chose?

Whoever puts the file there may put anything there: opening a FIFO waits for a writer, opening a
device may do what the device is for (a watchdog begins to count), and `/dev/zero` has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

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
    with opened(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"must have at most {MOST_BYTES} bytes")
    return data


def opened(path: Path) -> BinaryIO:
    """A regular file to be read, links followed; never waits. Raises as `bytes_of`."""
    _require_regular(path.stat())
    # What is there may be another file by now.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(number))
    except OSError:
        os.close(number)
        raise
    return os.fdopen(number, "rb")


def _require_regular(found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"must be a regular file, is {_KINDS.get(kind, 'another one')}")
