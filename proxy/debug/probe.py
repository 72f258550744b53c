"""What can this node's kernel do, and which mode follows from that?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec

from modes import registry
from modes.base import EnvironmentFault, Feature
from proxy.debug.table import aligned, as_json, wants_json


class Probed(msgspec.Struct, frozen=True):
    """The answer of `headgate probe -o json`."""

    features: tuple[Feature, ...]
    working: tuple[str, ...]
    auto: str | None
    """None: no mode that is built works here."""


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate probe`; 1 if no mode works. Raises EnvironmentFault if we may not ask."""
    json = wants_json(flags.output)
    found = {mode: registry.probe(mode) for mode in registry.MODES}
    features = tuple(feature for of in found.values() for feature in of)
    for feature in features:
        if feature.state == "unknown":
            raise EnvironmentFault(feature.hint)
    working = tuple(mode for mode, of in found.items() if not registry.lacking(of))
    probed = Probed(features, working, working[0] if working else None)
    print(as_json(probed) if json else "\n".join(text(probed)))
    return int(not working)


def text(probed: Probed) -> Sequence[str]:
    """The table, and the conclusion below it."""
    rows = [("FEATURE", "STATE", "NEEDED FOR")]
    for feature in probed.features:
        hint = f" ({feature.hint})" if feature.hint else ""
        rows.append((feature.name, feature.state, f"{feature.needed_for}{hint}"))
    if probed.auto is None:
        conclusion = "no mode that is built works here"
    else:
        conclusion = (
            f"modes that work here: {', '.join(probed.working)}.  auto chooses: {probed.auto}"
        )
    return [*aligned(rows), conclusion]
