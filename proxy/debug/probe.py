"""What can this node's kernel do, and which mode follows from that?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import msgspec

from modes import registry
from modes.base import EnvironmentFault, Feature
from proxy.debug.screen import PLAIN, Screen, Style, screen
from proxy.debug.table import as_json, wants_json


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
    print(as_json(probed) if json else "\n".join(text(probed, screen())))
    return int(not working)


def text(probed: Probed, shown: Screen = PLAIN) -> Sequence[str]:
    """The table, a row for each feature that is as it is for all modes, and the conclusion."""
    alike: dict[tuple[str, str, str], list[Feature]] = {}
    for feature in probed.features:
        alike.setdefault((feature.name, feature.state, feature.hint), []).append(feature)
    rows = [("FEATURE", "STATE", "NEEDED FOR")]
    for (name, state, hint), features in alike.items():
        purposes = _purposes(features)
        painted = shown.painted(state, _style(features))
        rows.append((name, painted, f"{purposes}; {hint}" if hint else purposes))
    if probed.auto is None:
        conclusion = shown.painted("no mode that is built works here", Style.BAD)
    else:
        working = ", ".join(probed.working)
        conclusion = f"modes that work here: {working}; auto chooses {probed.auto}"
    return [*shown.table(rows), *shown.prose(conclusion)]


def _style(features: Iterable[Feature]) -> Style:
    if all(feature.state == "yes" for feature in features):
        return Style.GOOD
    return Style.DOUBT if all(feature.optional for feature in features) else Style.BAD


def _purposes(features: Iterable[Feature]) -> str:
    """`iptables, ipvs mode: names in rules`: each purpose once, with the modes that have it."""
    modes: dict[str, list[str]] = {}
    for feature in features:
        mode, colon, purpose = feature.needed_for.partition(": ")
        modes.setdefault(f" mode{colon}{purpose}", []).append(mode.removesuffix(" mode"))
    return "; ".join(f"{', '.join(of)}{purpose}" for purpose, of in modes.items())
