"""How do the parts of a running headgate hang together?

Each is made here, told whom to talk to, and ended in the opposite order; `proxy.loop` runs.
"""

from __future__ import annotations

import argparse
import gc
import queue
import signal
import time
from contextlib import ExitStack
from functools import partial
from types import FrameType

from conntrack.tracker import Conntrack
from endpoints.addresses import bracketed
from endpoints.state import ClusterState
from modes import registry
from proxy import log
from proxy.alone import alone
from proxy.config import Config, Listener, NodePorts, asks_for_localhost, config, on_mode
from proxy.drift import Listening
from proxy.loop import chores, follow
from proxy.node import AddressWatch
from proxy.observer import Observer
from proxy.schedule import Schedule
from proxy.sources.base import Message, Source, Stop
from proxy.sources.manifests import ManifestSource
from proxy.sync import Sync
from proxy.version import version


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate run`. Raises ConfigError and EnvironmentFault."""
    return run(config(flags))


def run(wanted: Config) -> int:
    """Keep the kernel equal to the cluster until told to end; the exit status."""
    log.setup(wanted.verbosity)
    # Until it is, a signal ends the program as it ends any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with alone(patient=not wanted.once):
        return _run(wanted)


def _run(wanted: Config) -> int:
    """The same, where there is no other headgate."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def stop(number: int, _: FrameType | None) -> None:
        messages.put(Stop(signal.Signals(number).name))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    collect_seldom()
    chosen = registry.choose(wanted.mode, partial(registry.probe, settings=wanted.of_modes))
    with ExitStack() as stack:
        mode = registry.create(chosen, wanted.of_modes, log.warning)
        stack.callback(mode.close)
        if not wanted.once and (watch := mode.watch()) is not None:
            stack.callback(Listening(watch, messages).stop)
        addresses = AddressWatch()
        settings = on_mode(wanted.node, wanted.node_ports, chosen)
        warn_of_localhost(chosen, wanted.node_ports)
        state = ClusterState(settings, addresses.addresses)
        addresses.start(messages)
        stack.callback(addresses.stop)
        source = _source(wanted)
        source.start(messages)
        stack.callback(source.stop)
        log.info("Starting", version=version(), mode=chosen, node=wanted.node.name)
        observer = _metrics(wanted.metrics, chosen, stack) if not wanted.once else None
        flows = Conntrack(time.monotonic)
        stack.callback(flows.close)
        sync = Sync(state, mode, source.kinds, time.monotonic, observer, flows)
        schedule = Schedule(messages, time.monotonic, wanted.min_sync_seconds)
        schedule.call("compare", wanted.sync_seconds)
        todo = chores(sync, wanted.sync_seconds)
        return follow(schedule, sync, todo, once=wanted.once)


def warn_of_localhost(mode: str, said: NodePorts) -> None:
    """Say so if NodePorts on localhost are asked for by name where they cannot be."""
    if mode == "ipvs" and asks_for_localhost(said):
        reason = "localhost is left out: the IPVS mode serves no loopback address"
        log.warning("Check the configuration", flag="--nodeport-addresses", reason=reason)


def collect_seldom() -> None:
    """Let the garbage collector walk the program's memory less often.

    What is kept of a cluster has no cycles. With Python's own thresholds (700, 10, 10) looking for
    some took a sixth of the time of a full load of 10,000 Services.
    """
    gc.set_threshold(20_000, 20, 50)


def _metrics(listener: Listener | None, mode: str, stack: ExitStack) -> Observer | None:
    """Count, and serve the figures for as long as the stack is open, if that is wanted and can be.

    Services matter more than figures of them: an address that is taken does not end the program.
    """
    if listener is None:
        return None
    # What serves and counts costs 50 ms: only who is asked for figures pays for it.
    from proxy.metrics import CONTENT_TYPE, Metrics  # noqa: PLC0415
    from proxy.server import Page, Server  # noqa: PLC0415

    metrics = Metrics(mode, partial(registry.counted, mode))
    try:
        server = Server(
            listener.address, listener.port, {"/metrics": Page(CONTENT_TYPE, metrics.text)}
        )
    except OSError as fault:
        place = f"{bracketed(listener.address)}:{listener.port}"
        log.error("Metrics are not served", address=place, reason=fault.strerror)
        return None
    stack.callback(server.stop)
    return metrics


def _source(wanted: Config) -> Source:
    if wanted.manifests:
        return ManifestSource(wanted.manifests, patient=not wanted.once)
    # The Kubernetes client costs 0.2 s and 35 MB: only who talks to an API server pays for it.
    from proxy.sources.api import ApiSource  # noqa: PLC0415
    from proxy.sources.kubeconfig import ApiConfig  # noqa: PLC0415

    return ApiSource(ApiConfig(wanted.node.name, wanted.kubeconfig, wanted.master))
