"""What do processes use of this machine, seen from outside?

A process is given by its ID in the caller's PID namespace, whose /proc is mounted. Of a process
that has ended and was waited for there is nothing to read: FileNotFoundError, ProcessLookupError or
OSError (ESRCH, EINVAL).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing

_TICKS = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2
_ENOUGH = 1 << 14
"""Bytes: more than the kernel has to say."""
_LOOKS = 4
"""fork(2) gives the ID a moment before the process can be seen."""
_PPID, _CUTIME, _CSTIME, _STARTSTACK = 1, 13, 14, 25
"""proc(5): fields 4, 16, 17 and 28 of stat; the third is the first after the name."""


def processor_seconds(pid: int) -> float:
    """What a process used of the processors, with its children that ended and were waited for.

    Its own part is exact, that of the children is in whole ticks (10 ms) all together.
    """
    # CPUCLOCK of a thread group (linux/posix-timers_types.h): what clock_getcpuclockid(3) makes.
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED) + child_seconds(pid)


def child_seconds(pid: int) -> float:
    """The part of it that its children used."""
    fields = _stat(pid)
    return (int(fields[_CUTIME]) + int(fields[_CSTIME])) / _TICKS


def family_seconds(pid: int) -> float:
    """What a process and all its descendants used, the living and those that were waited for."""
    while True:
        ended = child_seconds(pid)
        used = processor_seconds(pid)
        for descendant in descendants(pid):
            try:
                used += processor_seconds(descendant)
            except OSError:  # it has ended, and counts as soon as it is waited for
                continue
        # Who is waited for meanwhile would count twice, or not at all.
        if child_seconds(pid) == ended:
            return used


def megabytes(pid: int, name: str) -> float:
    """A size that /proc/PID/status tells, such as VmRSS or VmHWM. Raises KeyError without it."""
    return megabytes_of(_read(pid, "status"), name)


def megabytes_of(text: str, name: str) -> float:
    """A size in a text like /proc/PID/status. Raises KeyError if it is not there."""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise KeyError(name)
    return int(found[1]) / 1024


def descendants(pid: int) -> frozenset[int]:
    """All living descendants of a process."""
    with closing(Descent(pid)) as descent:
        return descent.living()


class Descent:
    """The living descendants of one process, told again and again at little cost."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: frozenset[int] = frozenset()
        self._living: frozenset[int] = frozenset()
        self._loadavg = os.open("/proc/loadavg", os.O_RDONLY)
        self._latest = b""
        self._looks = 0

    def close(self) -> None:
        """Tell no more."""
        os.close(self._loadavg)

    def living(self) -> frozenset[int]:
        """All that live now, and those that have ended since the last process came.

        Who is not seen before its parent has ended is nobody's child.
        """
        # The last number is the ID that was given last: while it stays, nobody comes.
        latest = os.pread(self._loadavg, 256, 0).rpartition(b" ")[2]
        if latest != self._latest:
            self._latest, self._looks = latest, _LOOKS
        if self._looks:
            self._looks -= 1
            names = os.listdir("/proc")  # noqa: PTH208 (a Path for each costs more)
            present = frozenset(int(name) for name in names if name.isdecimal())
            self._living = self._living & present | self._born(present - self._known)
            self._known = present
        return self._living

    def forget(self, pid: int) -> None:
        """One of them has ended."""
        self._living -= {pid}

    def _born(self, strangers: frozenset[int]) -> frozenset[int]:
        """Those of the processes that are descendants."""
        parents = dict(_parents(strangers))
        found: set[int] = set()
        ours = {self._pid, *self._living}
        while ours:
            ours = {child for child, parent in parents.items() if parent in ours}
            found |= ours
        return frozenset(found)


def is_itself(pid: int, parent: int) -> bool:
    """Tell whether a process executes a program of its own, and not still what its parent does.

    Until execve(2) its memory is its parent's.
    """
    return _stat(pid)[_STARTSTACK] != _stat(parent)[_STARTSTACK]


def _parents(pids: frozenset[int]) -> Iterator[tuple[int, int]]:
    for pid in pids:
        try:
            yield pid, int(_stat(pid)[_PPID])
        except (FileNotFoundError, ProcessLookupError):
            continue


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    """A small file of a process, three times as fast as Path.read_text."""
    file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    try:
        return os.read(file, _ENOUGH).decode(errors="replace")
    finally:
        os.close(file)
