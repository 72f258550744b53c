"""What does the kernel hold, or what did it hold when a snapshot was taken?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from modes import registry
from modes.base import EnvironmentFault, ModeSettings
from modes.held import EVERYTHING, Held, Only
from modes.registry import DEFAULTS, MODES
from proxy.desired.snapshot import recall
from proxy.settings.refusal import ConfigError


class Kernel(NamedTuple):
    """Whom to ask."""

    modes: tuple[str, ...]
    """Those that can be asked for."""
    look: Callable[[str], Held]
    """What it holds of a mode. Raises EnvironmentFault and KernelFault."""


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
        except (ValueError, msgspec.ValidationError) as error:
            raise ConfigError("--snapshot", snapshot, f"{mode}: {error}") from error

    return Kernel(tuple(found.held), look)
