"""Which back ends are there to be tested? The modes, and each variant of iptables by itself."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from modes import registry
from modes.base import Mode, ModeSettings

BACK_ENDS: Mapping[str, tuple[str, str]] = {
    "nftables": ("nftables", ""),
    "iptables-nft": ("iptables", "nft"),
    "iptables-legacy": ("iptables", "legacy"),
    "ipvs": ("ipvs", ""),
}
"""The mode, and the variant of iptables if that is a choice."""

NO_IPVS = "this kernel has no IPVS: tests/uml runs these tests in one that has"

_KERNEL_HAS_IPVS = Path("/proc/net/ip_vs")


@functools.cache
def offered() -> tuple[str, ...]:
    """The back ends that are tested on this machine: all, but for IPVS where the kernel has none."""
    return tuple(name for name in BACK_ENDS if name != "ipvs" or _KERNEL_HAS_IPVS.exists())


def create(back_end: str) -> Mode:
    """The mode, in this process; it has nothing to say."""
    mode, variant = BACK_ENDS[back_end]
    if variant:
        return registry.create(mode, ModeSettings(iptables_variant=variant))
    return registry.create(mode)


def arguments(back_end: str) -> list[str]:
    """What chooses it on the command line of `headgate run`; also for a mode's own name."""
    mode, variant = BACK_ENDS.get(back_end, (back_end, ""))
    return [f"--mode={mode}", *([f"--iptables-variant={variant}"] if variant else ())]
