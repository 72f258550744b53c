"""What would a node make of these manifests? For commands that ask no kernel and no API server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

import msgspec

from endpoints.events import Problem, Replace
from endpoints.objects import KIND_OF, Kind
from endpoints.plan import ServicePlan
from endpoints.state import ClusterState
from modes import registry
from modes.base import ModeSettings
from proxy.config import mode_settings, node_ports, node_settings, on_mode, settings_of
from proxy.every import aside
from proxy.settings import checks
from proxy.settings.refusal import ConfigError
from proxy.settings.settings import Settings
from proxy.sources.manifests import load


class Offline(msgspec.Struct, frozen=True):
    """A cluster as a node sees it, and how many refusals there were."""

    mode: str
    of_modes: ModeSettings
    state: ClusterState
    problems: int

    def plans(self) -> tuple[ServicePlan, ...]:
        """The plans of all Services, by name."""
        services = sorted(self.state.services())
        return tuple(plan for service in services for plan in self.state.plans(service))


def _named_mode(said: Settings, otherwise: str) -> str:
    """The mode that was said, the other one if a file left it open. Raises ConfigError."""
    name = checks.mode(said.text("mode"), said.origin("mode"))
    if name != registry.AUTO:
        return name
    if otherwise and not said.is_typed("mode"):
        return otherwise
    reason = "must name a mode: no kernel is asked which one works"
    raise ConfigError(said.origin("mode"), said.text("mode"), reason)


def offline(flags: argparse.Namespace, otherwise: str = "") -> Offline:
    """Read `--manifests` as `--node` sees them in a mode; refusals go to standard error.

    Flags beat the file of `--config`, and `otherwise` is the mode if neither says one. The node's
    addresses are those of its Node object, and loopback. Raises ConfigError.
    """
    said = settings_of(flags)
    for warning in said.warnings():
        aside(warning)
    mode = _named_mode(said, otherwise)
    settings = node_settings(said, mode, "--node", flags.node)
    settings = on_mode(settings, node_ports(said), mode)
    of_modes = mode_settings(said)
    try:
        objects, problems = load(checks.paths(flags.manifests))
    except FileNotFoundError as error:
        raise ConfigError("--manifests", str(error), "does not exist") from error
    state = ClusterState(settings)
    told = list(problems)
    for kind in Kind:
        of_kind = tuple(obj for obj in objects if KIND_OF[type(obj)] is kind)
        told += state.fold(Replace(kind, of_kind)).problems
        if kind is Kind.NODE and not any(obj.metadata.name == settings.name for obj in of_kind):
            reason = (
                "is not among the objects that were read: its zone and its addresses are not known"
            )
            told.append(Problem(f"Node {settings.name}", "", "", reason))
    _tell(told)
    return Offline(mode, of_modes, state, len(told))


def _tell(problems: Iterable[Problem]) -> None:
    for problem in problems:
        print(f"headgate: {problem}", file=sys.stderr)
