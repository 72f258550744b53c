"""Are the kernel's settings of connection tracking as they should be?

Timeouts belong to the network namespace; the size of the table is that of the whole machine, and
only its first network namespace may set it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from conntrack.limits import MAX, Wish, buckets, wishes
from conntrack.settings import ConntrackSettings

HASH_SIZE = Path("/sys/module/nf_conntrack/parameters/hashsize")
ACCOUNTING = "net.netfilter.nf_conntrack_acct"
EVENTS = "net.netfilter.nf_conntrack_events"


class Settled(msgspec.Struct, frozen=True):
    """What was set, and what could not be."""

    written: Mapping[str, str]
    """By the name of the sysctl, or the path of the parameter."""
    kept: Mapping[str, str] = {}
    """What the kernel has more of than a default of ours, which nobody asked to lower."""
    warnings: tuple[str, ...] = ()
    """One sentence at the most: it names everything that stays as it is."""


def is_on(sysctl: str, root: Path = Path("/proc/sys")) -> bool:
    """Whether it is there and not 0, in the network namespace of the calling thread."""
    try:
        return int((root / sysctl.replace(".", "/")).read_text()) != 0
    except FileNotFoundError:
        return False


def settle(
    settings: ConntrackSettings,
    cpus: int,
    root: Path = Path("/proc/sys"),
    hash_size: Path = HASH_SIZE,
) -> Settled:
    """Set what differs from what is wanted, in the network namespace of the calling thread.

    Args:
        settings: what is wanted.
        cpus: how many processors this machine has.
        root: where sysctls are files.
        hash_size: the parameter that holds the number of buckets of the table.

    Never raises for a file that is missing or read-only: `warnings` tell.
    """
    written: dict[str, str] = {}
    kept: dict[str, str] = {}
    complaints: list[str] = []
    for wish in wishes(settings, cpus):
        path = root / wish.sysctl.replace(".", "/")
        complaint = _fulfil(path, wish, written, kept)
        if not complaint and wish.sysctl == MAX:
            # Raised only: nobody asks for fewer buckets.
            least = Wish(str(hash_size), buckets(wish.value), exactly=False)
            complaint = _fulfil(hash_size, least, written, {})
        if complaint:
            complaints.append(complaint)
    warning = f"settings of conntrack stay as they are: {'; '.join(complaints)}"
    return Settled(written, kept, (warning,) if complaints else ())


def _fulfil(path: Path, wish: Wish, written: dict[str, str], kept: dict[str, str]) -> str:
    """Write it if it must be, and note that. Returns why it cannot be; empty: it is as it should.

    What is higher than wanted, and stays so, is noted in `kept`.
    """
    try:
        found = int(path.read_text())
        value = wish.to_write(found)
        if value is None:
            if found > wish.value:
                kept[wish.sysctl] = str(found)
            return ""
        path.write_text(str(value))
    except OSError as fault:
        return f"{wish.sysctl} is not set to {wish.value} ({fault.strerror})"
    written[wish.sysctl] = str(value)
    return ""
