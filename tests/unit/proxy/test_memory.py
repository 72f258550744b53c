"""Does a headgate that runs for months need more memory than one that has just begun?"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

from endpoints.events import Problem
from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from proxy.sources.watch import Lines, Watch
from proxy.sync import Sync
from tests.unit.endpoints.wire import endpoint, endpoint_slice, node, service
from tests.unit.proxy.build import MemoryMode
from tests.unit.proxy.watching import end, line

EVENTS = 100_000
BATCH = 500
SERVICES = 50
ROOM = 2000
"""Pieces of memory that Python holds: of what comes and goes some is always just there. One piece
that stays of each event would be 100,000."""


def zero() -> float:
    return 0.0


class Cluster:
    """What a server says for a long time: rollouts, and Services that come and go."""

    def __init__(self) -> None:
        self._version = 100
        self._counts = dict.fromkeys(Kind, 0)

    def lines(self, kind: Kind, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self._version += 1
            self._counts[kind] += 1
            yield self._event(kind, self._counts[kind], self._version) + b"\n"

    def _event(self, kind: Kind, number: int, version: int) -> bytes:
        if kind is Kind.SERVICE:
            # Each is of a name of its own, is there for a while and never comes back.
            is_new = number % 2
            number = number if is_new else number - 21
            address = f"10.97.{number // 250 % 250}.{number % 250 + 1}"
            item = service(f"s{number}", clusterIP=address, clusterIPs=[address])
            type_ = "ADDED" if is_new else "DELETED"
        elif number % 97 == 0:
            return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
        else:
            name = f"pay{number % SERVICES}"
            item = slice_of(name, f"10.244.{number % 250}.{number % 249 + 1}")
            type_ = "MODIFIED"
        return line(type_, stamped(item, version))


def stamped(item: dict[str, Any], version: int) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": str(version)}}


def slice_of(name: str, address: str) -> dict[str, Any]:
    item = endpoint_slice(endpoint(address, nodeName=f"node-{address}"))
    labels = {"kubernetes.io/service-name": name}
    return {**item, "metadata": {**item["metadata"], "name": f"{name}-1", "labels": labels}}


def listed(watch: Watch, items: list[dict[str, Any]]) -> list[Any]:
    watch.opened()
    for item in items:
        watch.line(line("ADDED", item))
    return list(watch.line(end(100)))


def test_memory_is_flat_over_a_hundred_thousand_events() -> None:
    mode = MemoryMode()
    sync = Sync(ClusterState(NodeSettings(name="node-a")), mode, frozenset(Kind), zero)
    watches = {kind: (Watch(kind, zero), Lines()) for kind in Kind}
    services = [
        service(f"pay{n}", clusterIP=f"10.96.1.{n}", clusterIPs=[f"10.96.1.{n}"])
        for n in range(SERVICES)
    ]
    slices = [slice_of(f"pay{n}", "10.244.1.2") for n in range(SERVICES)]
    for kind, items in zip(Kind, (services, slices, [node()]), strict=True):
        sync.run(listed(watches[kind][0], items))
    assert len(mode.table) == SERVICES
    cluster = Cluster()

    def run(events: int) -> int:
        told = 0
        for _ in range(events // (2 * BATCH)):
            for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE):
                watch, lines = watches[kind]
                whole = lines.feed(b"".join(cluster.lines(kind, BATCH)))
                messages = [message for each in whole for message in watch.line(each)]
                assert not any(isinstance(message, Problem) for message in messages)
                told += len(messages)
                sync.run(messages)
            mode.calls.clear()  # the only thing that a real mode does not keep
        return told

    run(EVENTS // 10)  # caches fill, and deletions that are remembered for a while
    gc.collect()
    before = sys.getallocatedblocks()
    told = run(EVENTS)
    gc.collect()
    after = sys.getallocatedblocks()
    assert told > 0.9 * EVENTS
    assert after - before < ROOM
