"""Whom does the kernel remember in the lists of xt_recent, and for how long has it not seen them?

In the network namespace of the calling thread. Nothing is written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from endpoints.addresses import canonical
from modes.xtables.remembered import Remembered

_LISTS = Path("/proc/thread-self/net/xt_recent")
_TIMERS = Path("/proc/timer_list")
_MONOTONIC_COARSE = 6
"""A clock of Linux whose resolution is one jiffy."""
_JIFFIES = re.compile(r"^jiffies: (\d+)$", re.MULTILINE)
_ENTRY = re.compile(r"^src=(\S+) .*last_seen: (\d+)", re.MULTILINE)
_BITS = 1 << 32
"""`unsigned long` has so many values where it has the fewest; no client is kept for half of it."""


def is_there() -> bool:
    """Whether the kernel has xt_recent. It comes with the first rule that asks for it."""
    return _LISTS.is_dir()


def remembered(names: Iterable[str]) -> dict[str, tuple[Remembered, ...]]:
    """What is in these lists; one that does not exist is left out. Raises PermissionError."""
    lists: dict[str, str] = {}
    for name in names:
        try:
            lists[name] = (_LISTS / name).read_text()
        except FileNotFoundError:
            continue
    now = _now() if any(lists.values()) else None
    return {name: _read(text, now) for name, text in lists.items()}


def _now() -> int | None:
    """The jiffies of the kernel; only root may know them, and a container may hide them."""
    try:
        told = _JIFFIES.search(_TIMERS.read_text())
    except OSError:
        return None
    return int(told[1]) if told else None


def _read(text: str, now: int | None) -> tuple[Remembered, ...]:
    jiffy = time.clock_getres(_MONOTONIC_COARSE)
    return tuple(
        sorted(
            Remembered(
                canonical(entry[1]),
                None if now is None else ((now - int(entry[2])) % _BITS) * jiffy,
            )
            for entry in _ENTRY.finditer(text)
        )
    )
