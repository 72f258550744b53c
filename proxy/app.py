"""How do the parts of a running headgate hang together, and when does it end?

One queue, one thread that reads it: this one. It ends when it is told to (SIGTERM, SIGINT), after
the first sync with `--once`, or when a thread that must live has died. The rules always stay.
"""

from __future__ import annotations

import argparse
import gc
import queue
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from types import FrameType

from endpoints.addresses import bracketed
from endpoints.state import ClusterState
from modes import registry
from proxy import log
from proxy.alone import alone
from proxy.config import Config, Listener, NodePorts, asks_for_localhost, config, on_mode
from proxy.node import AddressWatch
from proxy.schedule import Schedule
from proxy.sources.base import Died, Message, Source, Stop
from proxy.sources.manifests import ManifestSource
from proxy.sync import Observer, Outcome, Sync
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
        sync = Sync(state, mode, source.kinds, time.monotonic, observer)
        return follow(Schedule(messages, time.monotonic), sync, once=wanted.once)


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


def follow(schedule: Schedule, sync: Sync, *, once: bool) -> int:
    """Sync whenever there is news or a retry is due, and tend; the exit status."""
    while True:
        batch, retry, tend = schedule.wait()
        status = _end(batch)
        if status is not None:
            return status
        outcome = sync.run(taken(batch), retry=retry)
        if tend or outcome is not None:
            schedule.tend_in(sync.tend())
        if outcome is None:
            continue
        if once:
            return int(_lacks_something(outcome) or outcome.problems > 0)
        if _lacks_something(outcome):
            schedule.retry()
        else:
            schedule.settle()


def _end(batch: Iterable[Message]) -> int | None:
    """The exit status, if one of these messages ends the program."""
    for message in batch:
        match message:
            case Stop(reason):
                log.info("Stopping; the rules stay", reason=reason)
                return 0
            case Died(thread, error):
                log.error("A thread died", thread=thread, exc_info=error)
                return 1
    return None


def taken(batch: list[Message]) -> Iterator[Message]:
    """The messages in their order, each taken out of the batch before it is looked at.

    What the first lists of a large cluster hold, 30 MB for 100,000 endpoints, is free again when
    it is folded, before plans and transactions need room.
    """
    batch.reverse()
    while batch:
        yield batch.pop()


def _lacks_something(outcome: Outcome) -> bool:
    return bool(outcome.fault or outcome.refused)


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
