"""What does the demo show of a Service, and what must be true of it?

Each function does one thing in a lab and returns what it found. The Services: shop/pay, three pods
that are replaced later; shop/web, with externalTrafficPolicy Local; shop/cart, with affinity;
shop/gone, without endpoints. The pods of shop/pay are pod-a1, pod-b1, pod-c1; the others are
pod-a2, pod-b2, pod-c2, who also ask.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.lab import objects, topology
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port
from tests.lab.probes import Outcome, Target
from tests.lab.topology import NODES, Pod

PAY = ("10.96.7.7", "fd00:10:96::7:7")
WEB = ("10.96.7.8", "fd00:10:96::7:8")
CART = ("10.96.7.9", "fd00:10:96::7:9")
GONE = ("10.96.7.10", "fd00:10:96::7:a")
WEB_LOAD_BALANCER = ("198.51.100.20", "2001:db8:198::20")
NODE_PORT = 30080

SPREAD_CONNECTIONS = 600
_CHI_SQUARE_LIMIT = 27.6  # two degrees of freedom: exceeded once in a million runs
_MANY = 60  # that one of three endpoints is never chosen: 3 in 100,000,000,000
_ROUNDS = 4
_CONNECTIONS_EACH_CHANGE = 60

_HTTP = (Port(80, "http"),)
_PAY_PORTS = (Port(80, "http", node_port=NODE_PORT),)


@dataclass(frozen=True)
class Found:
    """Whether a step is what it should be, and what was seen."""

    ok: bool
    text: str


def furnish(lab: Lab) -> None:
    """Save the Services and Nodes of the demo."""
    web = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    lab.apply(
        *objects.nodes(),
        objects.service("shop/pay", PAY, _PAY_PORTS),
        *objects.slices("shop/pay", _PAY_PORTS, map(Endpoint.of, _pods(lab, 1))),
        objects.service("shop/web", WEB, _HTTP, spec=web, ingress=WEB_LOAD_BALANCER),
        *objects.slices("shop/web", _HTTP, map(Endpoint.of, _pods(lab, 2))),
        objects.service("shop/cart", CART, _HTTP, spec=objects.session_affinity(10800)),
        *objects.slices("shop/cart", _HTTP, map(Endpoint.of, _pods(lab, 2))),
        objects.service("shop/gone", GONE, _HTTP),
        *objects.slices("shop/gone", _HTTP, []),
    )


def _pods(lab: Lab, number: int) -> list[Pod]:
    return [lab.pods[f"pod-{node.name[-1]}{number}"] for node in NODES]


@dataclass(frozen=True)
class Spread:
    """How often each pod of shop/pay was chosen."""

    counts: dict[Pod, int]
    failed: int

    @property
    def ok(self) -> bool:
        """Whether nothing failed and the counts are those of a uniform choice."""
        expected = SPREAD_CONNECTIONS / len(self.counts)
        chi_square = sum((count - expected) ** 2 / expected for count in self.counts.values())
        return self.failed == 0 and chi_square < _CHI_SQUARE_LIMIT


def spread(lab: Lab, family: int) -> Spread:
    """Connect to shop/pay from a pod."""
    answers = lab.connect_many("pod-a2", PAY[family], 80, count=SPREAD_CONNECTIONS)
    by = Counter(answer.by for answer in answers)
    counts = {pod: by.pop(pod.name, 0) for pod in _pods(lab, 1)}
    return Spread(counts, sum(by.values()))


def node_port(lab: Lab, family: int) -> Found:
    """From outside through node-a: any pod, and the node's address hides the client's."""
    node = NODES[0]
    answers = lab.connect_many("client", node.addresses[family], NODE_PORT, count=_MANY)
    by, saw = {answer.by for answer in answers}, {answer.saw for answer in answers}
    # A pod on the node itself is reached over the bridge, and sees the bridge's address.
    ok = by == {"pod-a1", "pod-b1", "pod-c1"} and saw == {
        node.addresses[family],
        node.pod_gateways[family],
    }
    return Found(ok, f"answered by {_names(by)}; they saw {_names(saw)} (the node)")


def local_policy(lab: Lab, family: int) -> Found:
    """A load balancer address, sent to node-a: only its own pod, which sees the client."""
    answers = lab.connect_many("client", WEB_LOAD_BALANCER[family], 80, count=_MANY)
    by, saw = {answer.by for answer in answers}, {answer.saw for answer in answers}
    ok = by == {"pod-a2"} and saw == {topology.CLIENT_ADDRESSES[family]}
    return Found(ok, f"answered by {_names(by)} only, it saw {_names(saw)} (the client)")


def hairpin(lab: Lab, family: int) -> Found:
    """A pod that is its own endpoint."""
    answers = lab.connect_many("pod-a1", PAY[family], 80, count=_MANY)
    by = {answer.by for answer in answers}
    if "pod-a1" not in by or None in by:
        return Found(ok=False, text=f"pod-a1 reached {_names(by)}")
    saw = {answer.saw for answer in answers if answer.by == "pod-a1"}
    ok = saw == {NODES[0].pod_gateways[family]}
    return Found(ok, f"pod-a1 reached itself through {PAY[family]}, and saw {_names(saw)}")


def affinity(lab: Lab, family: int) -> Found:
    """One client, many connections, one pod."""
    answers = [lab.connect("pod-c1", CART[family], 80) for _ in range(20)]
    by = {answer.by for answer in answers}
    return Found(len(by) == 1 and None not in by, f"all to {_names(by)}")


def no_endpoints(lab: Lab, family: int) -> Found:
    """A client must not wait for nobody."""
    answer = lab.connect("pod-a1", GONE[family], 80)
    text = f"{answer.kind} after {answer.seconds * 1000:.1f} ms"
    return Found(answer.kind is Outcome.REFUSED, text)


def _names(values: Iterable[str | None]) -> str:
    return ", ".join(sorted(value or "nobody" for value in values))


def replacement(lab: Lab) -> Found:
    """Replace every pod of shop/pay, several times, while pods and the client connect to it.

    As a Deployment does: a new pod comes up and into the slice; an old one is marked terminating,
    leaves the slice, and stops a moment later.
    """
    a, b, _ = NODES
    flows = [
        ("pod-a2", Target(PAY[0], 80)),
        ("pod-b2", Target(PAY[0], 80)),
        ("pod-c2", Target(PAY[1], 80)),
        ("client", Target(a.addresses[0], NODE_PORT)),
        ("client", Target(b.addresses[1], NODE_PORT)),
    ]
    seconds: list[float] = []
    with lab.load(*flows) as load:
        for endpoints, ended in _generations(lab):
            seconds += _change(lab, endpoints)
            if ended is not None:
                lab.remove_pod(ended.name)
            load.wait_for(_CONNECTIONS_EACH_CHANGE)
    failed = len(load.failures)
    changes = len(seconds) // len(NODES)
    text = (
        f"{len(load.connections):,} connections, {failed} failed, {changes} endpoint changes, "
        f"each in the kernel after {statistics.median(seconds) * 1000:.1f} ms (median)"
    )
    if load.failures:
        text += f"; the first: {load.failures[0]}"
    replaced = len(load.answered_by) == len(NODES) * (_ROUNDS + 1)
    return Found(failed == 0 and replaced, text)


def _generations(lab: Lab) -> Iterator[tuple[Sequence[Endpoint], Pod | None]]:
    """The endpoints of shop/pay step by step, each with the pod that may end after it."""
    serving = _pods(lab, 1)
    left: Pod | None = None
    for number in range(_ROUNDS):
        for old in tuple(serving):
            new = lab.add_pod(old.node, f"pod-{old.node[-1]}{number + 3}")
            serving.append(new)
            yield [Endpoint.of(pod) for pod in serving], left
            serving.remove(old)
            left = old
            yield [*map(Endpoint.of, serving), Endpoint.leaving(old)], None


def _change(lab: Lab, endpoints: Sequence[Endpoint]) -> list[float]:
    """Save other endpoints of shop/pay; the seconds until each node's kernel had them."""
    known = {node.name: len(lab.headgate(node.name).lines) for node in NODES}
    saved = time.monotonic()
    lab.apply(*objects.slices("shop/pay", _PAY_PORTS, endpoints))
    return [
        lab.headgate(node).wait_for(lambda line: line.is_synced, since).seconds - saved
        for node, since in known.items()
    ]
