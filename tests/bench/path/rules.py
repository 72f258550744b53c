"""Which rules does the node of a world have, and who writes them?"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from tests.bench import cluster
from tests.bench.cluster import PORT, SETTINGS, TARGET_PORT, Json, Size
from tests.bench.path.world import PODS, Address, World
from tests.bench.whole import content
from tests.bench.whole.content import Wanted
from tests.bench.whole.observer import held_at, open_observer
from tests.bench.whole.server import serving
from tests.bench.whole.subject import Subject
from tests.lab import modes

TARGETS = 10
"""So many Services are asked, from the first to the last: some lists are searched in their order.

It is in no order that kube-proxy writes its iptables rules: there, the median of ten is by luck.
"""
_ENDPOINTS = len(PODS)
_PATIENCE_SECONDS = 900.0
"""kube-proxy needs five minutes for 5,000 Services by iptables-nft."""
_DATAGRAMS = "datagrams"
"""The name of the second port of a Service that is asked."""
_TRACKING = """\
table ip tracking {
    chain prerouting {
        type filter hook prerouting priority 0
        ct state invalid drop
    }
}
"""
_ONE_RULE = """\
table ip one-rule {
    chain prerouting {
        type nat hook prerouting priority dstnat
        %s
        %s
    }
}
"""
_RULE = "ip daddr {} {} dport {} dnat ip addr . port to numgen random mod {} map {{ {} }}"


def track(world: World) -> None:
    """Let the node track flows, and nothing else."""
    world.run(["nft", "--file", "-"], _TRACKING)


def write_one_rule(world: World) -> None:
    """Translate by one rule for each protocol. Raises RuntimeError if it is refused."""
    address = cluster.cluster_ip(0)
    pods = ", ".join(f"{slot} : {pod} . {TARGET_PORT}" for slot, pod in enumerate(PODS))
    lines = (_RULE.format(address, one, PORT, _ENDPOINTS, pods) for one in ("tcp", "udp"))
    world.run(["nft", "--file", "-"], _ONE_RULE % tuple(lines))
    world.targets = [(address, PORT)]


def write_by_headgate(world: World, back_end: str, services: int) -> None:
    """Let headgate write what so many Services need. Raises RuntimeError."""
    of = Size(services, _ENDPOINTS)
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        document = {"apiVersion": "v1", "kind": "List", "items": list(_objects(of))}
        (Path(folder) / "cluster.json").write_bytes(msgspec.json.encode(document))
        command = [sys.executable, "-m", "proxy", "run", "--once", *modes.arguments(back_end)]
        command += ["--manifests", folder, "--hostname-override", SETTINGS.name]
        command += ["--cluster-cidr", ",".join(SETTINGS.cluster_cidrs)]
        world.run(command)
    world.targets = _targets(services)


def write_by_peer(
    world: World, executable: str, back_end: str, services: int, tell: Callable[[str], None]
) -> None:
    """Let kube-proxy write what so many Services need, and end it; its rules stay.

    Raises RuntimeError if it ends by itself, TimeoutError if its rules are not there in time.
    """
    of = Size(services, _ENDPOINTS)
    with (
        tempfile.TemporaryDirectory(dir="/run") as folder,
        world.on_node(),
        serving(of, Path(folder), tell) as api,
        closing(open_observer(back_end, "kube-proxy")) as observer,
    ):
        for number in asked(services):
            for document in (service(number), *slices(of, number)):
                api.write("PUT", document)
        subject = Subject("kube-proxy", executable, back_end, api, Path(folder))
        wanted = [Wanted(number, frozenset(PODS)) for number in asked(services)]
        try:
            deadline = subject.start() + _PATIENCE_SECONDS
            held_at(observer, wanted, deadline, subject.check)
        finally:
            subject.stop()
    world.targets = _targets(services)


def _targets(services: int) -> list[Address]:
    return [(cluster.cluster_ip(number), PORT) for number in asked(services)]


def asked(services: int) -> list[int]:
    """The numbers of the Services that clients ask, evenly over all; the last is one of them."""
    last = services - 1
    return sorted({round(last * part / (TARGETS - 1)) for part in range(TARGETS)} | {last})


def service(number: int) -> Json:
    """A Service that is asked: it has a port of UDP besides, and no hints."""
    document = cluster.service(number)
    port = {"name": _DATAGRAMS, "protocol": "UDP", "port": PORT, "targetPort": TARGET_PORT}
    document["spec"]["ports"].append(port)  # type: ignore[index]
    return document


def slices(of: Size, number: int) -> list[Json]:
    """Its EndpointSlices: the pods that there are, whichever Service it is."""
    documents = cluster.slices(of, number)
    pods = iter(PODS)
    for document in documents:
        document["ports"].append({"name": _DATAGRAMS, "protocol": "UDP", "port": TARGET_PORT})  # type: ignore[attr-defined]
        for endpoint in document["endpoints"]:  # type: ignore[attr-defined]
            endpoint["addresses"] = [next(pods)]
    return documents


def _objects(of: Size) -> Iterator[Json]:
    special = set(asked(of.services))
    for number in range(of.services):
        if number in special:
            yield service(number)
            yield from slices(of, number)
        else:
            yield content.service(of, number)
            yield from content.slices(of, number)
