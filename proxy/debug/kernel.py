"""What does the kernel hold, or what did it hold when a snapshot was taken?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from modes import registry
from modes.base import EnvironmentFault, KernelFault, Missing, ModeSettings
from modes.held import EVERYTHING, Difference, Held, Only
from modes.registry import DEFAULTS, MODES
from proxy.desired.desired import Desired
from proxy.desired.snapshot import recall
from proxy.settings.refusal import ConfigError


class Kernel(NamedTuple):
    """Whom to ask."""

    modes: tuple[str, ...]
    """Those that can be asked for."""
    look: Callable[[str], Held]
    """What it holds of a mode. Raises EnvironmentFault and KernelFault."""


class Looked(NamedTuple):
    """What a kernel holds, as far as it can be told."""

    held: Mapping[str, Held]
    """By mode."""
    unread: Mapping[str, str]
    """Why a mode could not be read, of which there may be something."""

    @property
    def doubt(self) -> str:
        """What keeps anybody from knowing more, in words; empty: nothing does."""
        return "; ".join(f"{mode} could not be read: {why}" for mode, why in self.unread.items())


def look_at(asked: Kernel, modes: Iterable[str]) -> Looked:
    """What is held of these modes, those left out that the kernel does not have at all.

    Raises EnvironmentFault or KernelFault if none of them can be read.
    """
    held: dict[str, Held] = {}
    faults: dict[str, EnvironmentFault | KernelFault] = {}
    for mode in modes:
        try:
            held[mode] = asked.look(mode)
        except (EnvironmentFault, KernelFault) as fault:
            faults[mode] = fault
    unread = {mode: why for mode, why in faults.items() if not isinstance(why, Missing)}
    if faults and not held:
        raise next(iter((unread or faults).values()))
    return Looked(held, {mode: str(why) for mode, why in unread.items()})


_LOOKS = 3
"""What a running headgate is just about to write is no drift: it is not seen so often."""


def lasting(
    want: Callable[[], Desired], snapshot: str, only: Only
) -> tuple[Desired, tuple[Difference, ...]]:
    """What should be held, and what is not held as it should be, sorted.

    Where a headgate runs, only what each of several looks sees. Raises as `want` and `kernel`,
    EnvironmentFault and KernelFault.
    """
    wanted, found = want(), frozenset[Difference]()
    for look in range(_LOOKS):
        if look:
            wanted = want()
        held = kernel(snapshot, only, wanted.of_modes).look(wanted.mode)
        seen = frozenset(held.differences(wanted.node, wanted.by_service()))
        found = found & seen if look else seen
        if not found or wanted.running is None or snapshot:
            break
    return wanted, tuple(sorted(found))


def kernel(snapshot: str, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Kernel:
    """This machine's, or if a file is named, the one whose snapshot it is.

    Raises ConfigError if that is none.
    """
    if not snapshot:
        return Kernel(MODES, lambda mode: registry.look(mode, only, settings))
    found = recall(Path(snapshot))

    def look(mode: str) -> Held:
        document = found.held.get(mode)
        if document is None:
            why = found.missing.get(mode, "it was not looked at")
            raise EnvironmentFault(f"{snapshot} tells nothing of {mode}: {why}")
        try:
            value = msgspec.json.decode(document)
            return registry.recalled(mode, value, only, found.cluster.of_modes)
        except (ValueError, RecursionError) as error:
            raise ConfigError("--snapshot", snapshot, f"{mode}: {error}") from error

    return Kernel(tuple(mode for mode in MODES if mode in {*found.held, *found.missing}), look)
