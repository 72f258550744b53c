"""How do the bytes of a cluster reach a process that is measured, without counting as its memory?

They are in an anonymous file (memfd): pages of that belong to nobody's resident set, and the
process reads them one by one, as it would read the API server's answers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

_HEADER = struct.Struct("=16sI")


def write(frames: Iterable[tuple[str, bytes]]) -> int:
    """Put labelled frames into a new anonymous file and return its inheritable descriptor."""
    descriptor = os.memfd_create("feed", 0)
    with open(descriptor, "wb", closefd=False) as file:
        for label, payload in frames:
            file.write(_HEADER.pack(label.encode(), len(payload)))
            file.write(payload)
    return descriptor


def read(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The frames, each read when it is asked for."""
    file.seek(0)
    while header := file.read(_HEADER.size):
        label, length = _HEADER.unpack(header)
        yield label.rstrip(b"\0").decode(), file.read(length)
