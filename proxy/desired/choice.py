"""Who says what this node's kernel should hold, of those whom the operator names?

A snapshot, manifests, the API server, or, if nobody is named, the headgate that runs here.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from endpoints.events import Problem, Replace
from endpoints.objects import KIND_OF, Kind
from endpoints.state import ClusterState
from modes import registry
from modes.base import EnvironmentFault, ModeSettings
from proxy.config import mode_settings, node_ports, node_settings, on_mode, settings_of
from proxy.desired.desired import Desired
from proxy.desired.live import live
from proxy.desired.recorded import plans
from proxy.desired.snapshot import recall
from proxy.every import aside
from proxy.node import local_addresses
from proxy.settings import checks
from proxy.settings.refusal import ConfigError
from proxy.settings.settings import Settings
from proxy.sources.kubeconfig import ApiConfig
from proxy.sources.manifests import load

_KUBECONFIG = "clientConnection.kubeconfig"


class Gathered(NamedTuple):
    """A cluster that was read for this command, and how much of it was refused."""

    mode: str
    of_modes: ModeSettings
    state: ClusterState
    origin: str
    problems: int


def desired(
    flags: argparse.Namespace, *, only: str = "", otherwise: str = "", here: bool = False
) -> Desired:
    """All Services as the node should hold them; refusals go to standard error.

    `only`: at least those of this Service, `namespace/name`. `otherwise` is the mode of manifests
    if neither flags nor a file say one; empty: it must be said. `here`: this machine's addresses
    are the node's, whatever its Node says. Raises ConfigError and EnvironmentFault.
    """
    if flags.snapshot:
        if is_named(flags):
            reason = "is asked alone: leave out manifests, API server and configuration"
            raise ConfigError("--snapshot", flags.snapshot, reason)
        return _as_asked(recall(Path(flags.snapshot)).desired(only), flags)
    if is_named(flags):
        found = gathered(flags, otherwise=otherwise, here=here)
        return Desired(
            found.mode,
            found.of_modes,
            found.state.node,
            plans(found.state, only),
            found.origin,
            found.problems,
        )
    running = live(only)
    if running is None:
        raise EnvironmentFault(NOBODY)
    return _as_asked(running, flags)


NOBODY = (
    "no headgate runs in this network namespace, so nobody says what its kernel should hold: name"
    " --snapshot FILE, or --manifests PATH or --kubeconfig FILE, with --node NAME"
)


def is_named(flags: argparse.Namespace) -> bool:
    """Whether flags name manifests or an API server."""
    return bool(flags.manifests or flags.config or flags.kubeconfig or flags.master)


def _as_asked(found: Desired, flags: argparse.Namespace) -> Desired:
    """The same; who was asked has a mode and a Node, and cannot answer for others."""
    if flags.mode not in (None, registry.AUTO, found.mode):
        reason = f"{found.origin}: its mode is {found.mode}"
        raise ConfigError("--mode", flags.mode, reason)
    if flags.node not in ("", found.node.name):
        reason = f"{found.origin} is of Node {found.node.name}"
        raise ConfigError("--node", flags.node, reason)
    return found


def gathered(flags: argparse.Namespace, *, otherwise: str, here: bool) -> Gathered:
    """Manifests, or the API server's objects. As `desired`."""
    said = settings_of(flags)
    for warning in said.warnings():
        aside(warning)
    mode = _mode(said, otherwise, here=here)
    name = flags.node or said.text("hostnameOverride")
    if not name and flags.manifests:
        raise ConfigError("--node", '""', "must name the Node from which the manifests are seen")
    origin = "--node" if flags.node else said.origin("hostnameOverride")
    settings = node_settings(said, mode, origin, name or socket.gethostname())
    settings = on_mode(settings, node_ports(said), mode)
    of_modes = mode_settings(said)
    state = ClusterState(settings, local_addresses() if here else frozenset())
    if flags.manifests:
        told, where = _manifests(flags.manifests), ", ".join(flags.manifests)
    else:
        config = ApiConfig(
            settings.name,
            said.text(_KUBECONFIG),
            checks.url(said, "--master"),
            origin=said.origin(_KUBECONFIG),
        )
        told, where = _api(config), "the API server"
    problems = list(_folded(state, told))
    for problem in problems:
        aside(str(problem))
    return Gathered(mode, of_modes, state, where, len(problems))


def _mode(said: Settings, otherwise: str, *, here: bool) -> str:
    """The mode that was said; else the other one, or the one that works here."""
    name = checks.mode(said.text("mode"), said.origin("mode"))
    if name != registry.AUTO:
        return name
    if here:
        return registry.choose(name)
    if otherwise and not said.is_typed("mode"):
        return otherwise
    reason = "must name a mode: no kernel is asked which one works"
    raise ConfigError(said.origin("mode"), said.text("mode"), reason)


def _manifests(paths: list[str]) -> Iterator[Replace | Problem]:
    try:
        objects, problems = load(checks.paths(paths))
    except FileNotFoundError as error:
        raise ConfigError("--manifests", str(error), "does not exist") from error
    yield from problems
    for kind in Kind:
        yield Replace(kind, tuple(obj for obj in objects if KIND_OF[type(obj)] is kind))


def _api(config: ApiConfig) -> Iterator[Replace | Problem]:
    # The Kubernetes client costs 0.2 s and 35 MB: only who talks to an API server pays for it.
    from proxy.desired.api import listed  # noqa: PLC0415

    yield from listed(config)


def _folded(state: ClusterState, told: Iterable[Replace | Problem]) -> Iterator[Problem]:
    """Take in what is told; what of it cannot be used."""
    for message in told:
        if isinstance(message, Problem):
            yield message
            continue
        yield from state.fold(message).problems
        if message.kind is Kind.NODE and state.own_node is None:
            reason = (
                "is not among the objects that were read: its zone and its addresses are not known"
            )
            yield Problem(f"Node {state.settings.name}", "", "", reason)
