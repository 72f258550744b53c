"""Does the kernel do with every packet what `explain` says, whatever the cluster is?

Each example programs one random cluster, sends packets, changes it into another by a single
`apply`, and sends packets again: what was there before must not be felt.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from random import Random
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.explain import Hook, Packet, walk
from endpoints.names import Protocol
from endpoints.node import DetectLocalMode, NodeSettings, NodeView
from endpoints.objects import ServicePort
from endpoints.plan import ServicePlan
from tests.lab.probes import Answer, Outcome
from tests.laws.clusters import (
    Cluster,
    Clustered,
    Objects,
    change,
    compiled,
    node_settings,
    objects,
)
from tests.laws.effort import effort
from tests.laws.packets import disagreement, packets
from tests.laws.places import HERE, NODE_ADDRESSES
from tests.laws.world import World
from tests.unit.endpoints import build

PACKETS = 60


class Spec(TypedDict, total=False):
    """What of a Service differs."""

    type: str
    balancers: list[str]
    ranges: list[str]
    external: str


_BALANCED = Spec(type="LoadBalancer", balancers=[NODE_ADDRESSES[0]])
_REFUSING = {
    "no endpoints": _BALANCED,
    "policy Local": Spec(**_BALANCED, external="Local"),
    "source ranges": Spec(**_BALANCED, ranges=["198.51.100.0/24"]),
}


@pytest.fixture(scope="module")
def world(mode: str) -> Iterator[World]:
    made = World(mode)
    yield made
    made.close()


@effort(25)
@given(node_settings, objects(), objects(), st.integers(0, 1 << 32))
def test_the_kernel_does_what_explain_says(
    world: World, settings: NodeSettings, first: Objects, then: Objects, seed: int
) -> None:
    settings = world.settings(settings)
    node, before = compiled(Cluster(settings, first))
    _, after = compiled(Cluster(settings, then))
    world.on_node(lambda: world.mode.start(node))
    assert not world.on_node(lambda: world.mode.replace(before)).failed
    random = Random(seed)
    ask_and_compare(world, before, node, random, PACKETS // 3)
    assert not world.on_node(lambda: world.mode.apply(change(before, after))).failed
    plans, sent, seen = ask_and_compare(world, after, node, random, PACKETS)
    again = world.ask(sent)
    assert_agreement(plans, node, sent, again)
    # A flow that goes where it was sent is not translated, and nftables mode does not learn it.
    forgets = {*NODE_ADDRESSES} if world.mode.name == "nftables" else set()
    assert_loyalty(plans, node, sent, seen, again, forgets)


def test_an_external_ip_that_is_the_cluster_ip_of_another(world: World) -> None:
    """Found by the law above: the address alone does not tell how a packet is masqueraded."""
    both = [ServicePort(port=80, name="http")], [ServicePort(port=81, name="http")]
    other, claims = (
        build.service(name, cluster_ips=[ip], ports=ports, external_ips=external, external="Local")
        for name, ip, ports, external in (
            ("other", "10.96.0.1", both[0], []),
            ("claims", "10.96.0.2", both[1], ["10.96.0.1"]),
        )
    )
    slices = [
        build.endpoint_slice(build.endpoint("10.244.1.2", HERE), name=of, of=of)
        for of in ("other", "claims")
    ]
    settings = NodeSettings(HERE, DetectLocalMode.BRIDGE_INTERFACE, pod_bridge_interface="cali1")
    settings = world.settings(settings)
    node, clustered = compiled(Cluster(settings, (other, claims, *slices)))
    world.on_node(lambda: world.mode.start(node))
    world.on_node(lambda: world.mode.replace(clustered))
    sent = [Packet("203.0.113.7", "10.96.0.1", p, Protocol.TCP, interface="out") for p in (80, 81)]
    seen = world.ask(sent)
    assert [one.saw for one in seen] == [NODE_ADDRESSES[0], "203.0.113.7"]
    assert_agreement([p for listed in clustered.values() for p in listed], node, sent, seen)


def test_such_an_external_ip_without_endpoints_here(world: World) -> None:
    """It drops, as policy Local says: the other Service's address refuses other ports only."""
    other, claims = (
        build.service(
            name,
            cluster_ips=[ip],
            ports=[ServicePort(port=port, name="http")],
            external_ips=external,
            external="Local",
        )
        for name, ip, port, external in (
            ("other", "10.96.0.1", 80, []),
            ("claims", "10.96.0.2", 81, ["10.96.0.1"]),
        )
    )
    slices = [
        build.endpoint_slice(build.endpoint("10.244.2.2", "node-b"), name=of, of=of)
        for of in ("other", "claims")
    ]
    node, clustered = compiled(
        Cluster(world.settings(NodeSettings(HERE)), (other, claims, *slices))
    )
    world.on_node(lambda: world.mode.start(node))
    world.on_node(lambda: world.mode.replace(clustered))
    sent = [
        Packet("203.0.113.7", "10.96.0.1", p, Protocol.TCP, interface="out") for p in (80, 81, 82)
    ]
    seen = world.ask(sent)
    kinds = [Outcome.ANSWERED, Outcome.TIMEOUT, Outcome.REFUSED]
    assert [one.kind for one in seen] == kinds
    assert_agreement([p for listed in clustered.values() for p in listed], node, sent, seen)


@pytest.mark.parametrize("refusing", ["no endpoints", "policy Local", "source ranges"])
def test_an_endpoint_where_another_service_is_refused(world: World, refusing: str) -> None:
    """Found by the law above: what was asked for decides, not the endpoint that it leads to.

    The node asks, for a process of its own host network; at that process's address and port
    another Service, whose load balancer has the node's address, answers nobody.
    """
    asked, other = (
        build.service(name, cluster_ips=[ip], ports=[ServicePort(port=8080, name="http")], **spec)
        for name, ip, spec in (
            ("asked", "10.96.0.1", Spec()),
            ("other", "10.96.0.2", _REFUSING[refusing]),
        )
    )
    slices = [build.endpoint_slice(build.endpoint(NODE_ADDRESSES[0], HERE), name="a", of="asked")]
    if refusing != "no endpoints":
        elsewhere = build.endpoint("10.244.2.2", "node-b")
        slices.append(build.endpoint_slice(elsewhere, name="o", of="other"))
    node, clustered = compiled(Cluster(world.settings(NodeSettings(HERE)), (asked, other, *slices)))
    world.on_node(lambda: world.mode.start(node))
    world.on_node(lambda: world.mode.replace(clustered))
    sent = [Packet(NODE_ADDRESSES[0], "10.96.0.1", 8080, Protocol.TCP, Hook.OUTPUT)]
    sent.append(Packet("203.0.113.7", NODE_ADDRESSES[0], 8080, Protocol.TCP, interface="out"))
    seen = world.ask(sent)
    kinds = [Outcome.ANSWERED, Outcome.REFUSED if refusing == "no endpoints" else Outcome.TIMEOUT]
    assert [one.kind for one in seen] == kinds
    assert_agreement([p for listed in clustered.values() for p in listed], node, sent, seen)


def ask_and_compare(
    world: World, clustered: Clustered, node: NodeView, random: Random, number: int
) -> tuple[list[ServicePlan], list[Packet], list[Answer]]:
    """Send so many random packets; what is seen of them must be allowed."""
    world.forget_flows()
    plans = [plan for listed in clustered.values() for plan in listed]
    sent = packets(plans, random, number)
    seen = world.ask(sent)
    assert_agreement(plans, node, sent, seen)
    return plans, sent, seen


def assert_agreement(
    plans: list[ServicePlan], node: NodeView, sent: list[Packet], seen: list[Answer]
) -> None:
    """Everything that was seen is allowed."""
    wrong = [
        disagreement(walk(plans, node, packet), packet, answer)
        for packet, answer in zip(sent, seen, strict=True)
    ]
    assert not any(wrong), "\n".join(filter(None, wrong))


def assert_loyalty(
    plans: list[ServicePlan],
    node: NodeView,
    sent: list[Packet],
    first: list[Answer],
    again: list[Answer],
    forgets: Container[str],
) -> None:
    """With affinity the same packets reach the same endpoint again.

    Unless it was the place that was asked itself, at an address of `forgets`.
    """
    for packet, one, other in zip(sent, first, again, strict=True):
        if packet.destination in forgets and one.by == f"{HERE}:{packet.port}":
            continue
        if walk(plans, node, packet).affinity_seconds and one.kind is Outcome.ANSWERED:
            assert one.by == other.by, f"{packet} was {one}, then {other}"
