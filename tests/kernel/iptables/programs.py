"""Which programs are started?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_watched: list[list[str]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event == "subprocess.Popen":
        _watched[-1].append(str(arguments[0]))


sys.addaudithook(_audit)  # stays for good; it does nothing unless somebody watches


@contextmanager
def started() -> Iterator[list[str]]:
    """The programs that are started meanwhile, by any thread."""
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()
