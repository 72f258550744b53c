"""Who holds the xtables lock?

A file of the machine, which programs of iptables-legacy lock while they write.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock; a lock file that we may not open the program will report."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(lock: Path) -> str:
    """Who holds the lock: `iptables (pid 123)`. The kernel hides other PID namespaces' locks."""
    try:
        file = lock.stat()
    except OSError:
        return "unknown"
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and device in fields:
            pid = fields[4]
            try:
                name = Path("/proc", pid, "comm").read_text().strip()
            except OSError:
                return f"pid {pid}"
            return f"{name} (pid {pid})"
    return "unknown"
