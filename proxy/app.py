"""How do the parts of a running headgate hang together?

Each is made here, told whom to talk to, and ended in the opposite order; `proxy.loop` runs.
"""

from __future__ import annotations

import argparse
import queue
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from conntrack.tracker import DATAGRAMS, Conntrack
from endpoints import names
from endpoints.state import ClusterState, view
from modes import registry
from modes.base import Mode
from proxy import log, open_files
from proxy.alone import alone
from proxy.cleaning import Cleaning
from proxy.config import Config, NodePorts, asks_for_localhost, config, on_mode
from proxy.drift import Listening
from proxy.garbage import collect_hardly, leave_out_what_is_there
from proxy.live import Live, say, set_sysctls
from proxy.loop import COMPARE, Chore, chores, follow
from proxy.node import AddressWatch, local_addresses
from proxy.observer import Observer
from proxy.retiring import Retiring
from proxy.schedule import Schedule
from proxy.signals import Signals, end_at_once
from proxy.sources.base import Message, Sink, Source
from proxy.sources.config_file import ConfigWatch
from proxy.sources.kubeconfig import ApiConfig
from proxy.sources.manifests import ManifestSource
from proxy.sync import Sync
from proxy.version import version

if TYPE_CHECKING:
    from proxy.observation import Observation

_OOM_SCORE = Path("/proc/self/oom_score_adj")


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate run`. Raises ConfigError and EnvironmentFault."""
    return run(config(flags), lambda: config(flags))


def run(wanted: Config, read: Callable[[], Config]) -> int:
    """Keep the kernel equal to the cluster until told to end; the exit status.

    `read` reads the configuration again when its file has changed.
    """
    log.setup(wanted.verbosity, style=wanted.log_format, vmodule=wanted.vmodule)
    say(wanted)
    end_at_once()
    if wanted.init_only:
        return prepare(wanted)
    with alone(patient=not wanted.once), ExitStack() as stack:
        collect_hardly()
        return _run(wanted, read, stack)


def prepare(wanted: Config) -> int:
    """Answer `--init-only`: what an init container may do and the proxy's own may not.

    Sysctls are set, and modules are loaded by being asked for. Raises EnvironmentFault.
    """
    chosen = _chosen(wanted)
    set_sysctls(wanted.conntrack)
    settings = on_mode(wanted.node, wanted.node_ports, chosen)
    node = view(settings, None, local_addresses())
    for refusal in registry.prepare(chosen, node, wanted.of_modes):
        log.warning("Degraded", mode=chosen, reason=refusal)
    log.info("Prepared", mode=chosen)
    return 0


def _run(wanted: Config, read: Callable[[], Config], stack: ExitStack) -> int:
    """The same, where there is no other headgate."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    begin(Signals(), messages, stack)
    chosen = _chosen(wanted)
    create = partial(registry.create, settings=wanted.of_modes, tell=log.told)
    mode = create(chosen)
    stack.callback(mode.close)
    mode.read_ahead()
    api = None if wanted.manifests else _api(wanted)
    observation = None if wanted.once else _observed(wanted, mode, api, messages, stack)
    addresses = AddressWatch()
    settings = on_mode(wanted.node, wanted.node_ports, chosen)
    warn_of_localhost(chosen, wanted.node_ports)
    state = ClusterState(settings, addresses.addresses)
    begin(addresses, messages, stack)
    source = _source(wanted, api, observation)
    begin(source, messages, stack)
    log.info("Starting", version=version(), mode=chosen, node=wanted.node.name)
    complaints = set_sysctls(wanted.conntrack).warnings
    flows = Conntrack(time.monotonic, _forgotten(chosen))
    stack.callback(flows.close)
    observer = observation.observer if observation else Observer()
    cleaning = Cleaning(flows, observer)
    begin(cleaning, messages, stack)
    sync = Sync(state, mode, source.kinds, time.monotonic, observer, cleaning)
    schedule = Schedule(messages, time.monotonic, wanted.min_sync_seconds)
    retiring = Retiring(chosen, registry.MODES, create, log.told)
    stack.callback(retiring.close)
    besides = {
        # Rules of others may be all that serves until ours are in.
        "retire": Chore(lambda: retiring.due() if sync.is_served else None),
        "garbage": Chore(lambda: leave_out_what_is_there() if sync.is_served else None),
    }
    if observation is None:
        todo = chores(sync, schedule, messages, lambda: wanted.sync_seconds) | besides
        return follow(schedule, sync, todo, once=True)
    observation.debugging.start(messages, lambda: sync.known(waits=schedule.holds_news))
    stack.callback(observation.debugging.stop)
    observation.reporting.started(chosen)
    for complaint in complaints:
        observation.reporting.degraded(complaint)
    live = Live(wanted, chosen, sync, schedule, observation.configured)
    todo = chores(sync, schedule, messages, lambda: live.config.sync_seconds) | besides
    if wanted.config_file is not None:
        begin(ConfigWatch(wanted.config_file, read, wanted), messages, stack)
    schedule.call(COMPARE, wanted.sync_seconds)
    return follow(schedule, sync, todo, observation.health, live, once=False)


def _observed(
    wanted: Config,
    mode: Mode,
    api: ApiConfig | None,
    messages: queue.SimpleQueue[Message],
    stack: ExitStack,
) -> Observation:
    """Who looks at a run that goes on, and what hears of foreign changes."""
    # What serves costs 50 ms, which `--once` need not wait for.
    from proxy.observation import Observation  # noqa: PLC0415

    _outlive_others(wanted.oom_score_adj)
    open_files.permit_most()
    observation = Observation(wanted, mode.name, api, messages.qsize, stack)
    if (watch := mode.watch()) is not None:
        stack.callback(Listening(watch, messages).stop)
    return observation


class Begun(Protocol):
    """Works in a thread of its own."""

    def start(self, sink: Sink, /) -> None:
        """Begin to work, and tell what comes of it."""

    def stop(self) -> None:
        """End it."""


def begin(part: Begun, messages: queue.SimpleQueue[Message], stack: ExitStack) -> None:
    """Start a part that ends with the stack."""
    part.start(messages)
    stack.callback(part.stop)


def warn_of_localhost(mode: str, said: NodePorts) -> None:
    """Say so if NodePorts on localhost are asked for by name where they cannot be."""
    if mode == "ipvs" and asks_for_localhost(said):
        reason = "localhost is left out: the IPVS mode serves no loopback address"
        log.warning("Check the configuration", flag="--nodeport-addresses", reason=reason)


def _outlive_others(score: int | None) -> None:
    """Tell the kernel how late to kill us when memory runs out, where it lets us."""
    if score is None:
        return
    try:
        _OOM_SCORE.write_text(str(score))
    except OSError as fault:
        log.info("oom_score_adj stays as it is", v=4, wanted=score, reason=fault.strerror)


def _forgotten(mode: str) -> frozenset[names.Protocol]:
    """Whose flows conntrack is told to forget; SCTP's associations IPVS drains itself."""
    return DATAGRAMS - {names.Protocol.SCTP} if mode == "ipvs" else DATAGRAMS


def _chosen(wanted: Config) -> str:
    """The mode to use. Raises EnvironmentFault."""
    ask = partial(registry.probe, settings=wanted.of_modes)
    return registry.choose(wanted.mode, ask, wanted.origins.mode)


def _api(wanted: Config) -> ApiConfig:
    return ApiConfig(
        wanted.node.name,
        wanted.kubeconfig,
        wanted.master,
        wanted.qps,
        wanted.burst,
        wanted.origins.kubeconfig,
    )


def _source(wanted: Config, api: ApiConfig | None, observation: Observation | None) -> Source:
    if api is None:
        return ManifestSource(wanted.manifests, patient=not wanted.once)
    # The Kubernetes client costs 0.2 s and 35 MB: only who talks to an API server pays for it.
    from proxy.sources.api import ApiSource  # noqa: PLC0415

    return ApiSource(api, observer=observation.metrics if observation else None)
