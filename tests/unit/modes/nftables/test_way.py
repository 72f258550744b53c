"""What do our rules do with the first packet of a flow, and what does that cost it?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.plan import Frontend, ServicePlan, TrafficPolicy
from modes.nftables.elements import Elements, render, render_node, set_of
from modes.nftables.sets import S
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Layout
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import (
    CLUSTER,
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)
from tests.unit.modes.nftables.shapes import shapes
from tests.unit.modes.nftables.way import Packet, walk

V4 = Family.IPV4
POD, PEER, ENDPOINT = "10.244.1.9", "10.244.1.2", "10.244.2.2"
NODE, OUTSIDE, ALLOWED = "192.168.0.11", "198.18.0.1", "203.0.113.7"
HERE_AND_THERE = pods(PEER, ENDPOINT)
LAYOUTS = {name: Layout(shape) for name, shape in shapes(V4).items()}
PLAIN = Layout(Shape(V4, pod_cidrs=("10.244.0.0/16",)))
DNS = ServicePortName("kube-system", "dns", "tcp", Protocol.TCP)
BEHIND_SPECIAL = {
    *(S.LEARN, S.POST_EXT, S.POST_EXTLOCAL, S.LB_RESTRICTED, S.EXTERNAL_LOCAL),
    S.NODEPORT_IPS,
}
"""What is asked only for addresses in `special-ips`."""


def held(*plans: ServicePlan) -> Elements:
    """What a node holds of these."""
    elements = render_node(NODE_A)
    for plan in plans:
        elements |= render([plan], {})
    return elements


def of(*frontends: Frontend, affinity_seconds: int | None = None) -> Elements:
    """What a node holds of one Service with a pod here and one elsewhere."""
    return held(plan_of(*frontends, cluster=HERE_AND_THERE, affinity_seconds=affinity_seconds))


def test_a_pods_packet_to_a_cluster_ip_is_looked_up_five_times() -> None:
    elements = of(cluster_ip("10.96.7.7"), external_ip("192.0.2.1"), node_port(30080))
    chosen = walk(PLAIN, "prerouting", elements, Packet(POD, "10.96.7.7", 80), slot=1)
    assert chosen.verdict == f"{ENDPOINT}:8080"
    assert chosen.lookups == ["special-ips", "services", "endpoints"]
    going = Packet(POD, ENDPOINT, 8080, asked=("10.96.7.7", 80))
    left = walk(PLAIN, "postrouting", elements, going)
    assert left.verdict == "accept"
    assert left.lookups == ["special-ips", "hairpin"]


def test_a_packet_to_no_service_is_not_looked_up_on_its_way_out() -> None:
    elements = of(cluster_ip("10.96.7.7"))
    straight = Packet(POD, ENDPOINT, 8080)
    came = walk(PLAIN, "prerouting", elements, straight)
    assert came.verdict == "accept"
    assert came.lookups == ["special-ips", "services", "cluster-ips", "nodeport-ips"]
    assert walk(PLAIN, "postrouting", elements, straight).lookups == []


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("affinity_seconds", [None, 60])
@pytest.mark.parametrize("policy", [CLUSTER, LOCAL])
def test_what_is_asked_for_special_addresses_only_is_there_for_no_other(
    family: Family, affinity_seconds: int | None, policy: TrafficPolicy
) -> None:
    def address(number: int) -> str:
        return f"192.0.2.{number}" if family is V4 else f"2001:db8::{number}"

    ranges = ["203.0.113.0/24" if family is V4 else "fd00:3::/64"]
    made = plan_of(
        cluster_ip(address(1)),
        external_ip(address(2), policy=policy),
        balancer(address(3), policy=policy, ranges=ranges),
        balancer(address(4), policy=policy),
        node_port(30080, policy),
        cluster=pods(PEER if family is V4 else "fd00:10:244:1::2"),
        affinity_seconds=affinity_seconds,
        family=family,
    )
    elements = held(made)
    special = {key[1:] for key in elements if set_of(key) == (family, S.SPECIAL_IPS)}
    size = 4 if family is V4 else 16
    needed = {
        key[1 : 1 + size]
        for key in elements
        if set_of(key)[0] is family and set_of(key)[1] in BEHIND_SPECIAL
    }
    assert needed == special
    # One external IP, two of load balancers, the node's own; and the cluster IP.
    assert len(special) == 4 + bool(affinity_seconds)


@pytest.mark.parametrize("chain", ["prerouting", "output"])
@pytest.mark.parametrize("policy", [CLUSTER, LOCAL])
@pytest.mark.parametrize("address", ["198.51.100.4", NODE, "10.96.0.10"])
def test_source_ranges_hold_wherever_the_address_is_used_besides(
    chain: str, policy: TrafficPolicy, address: str
) -> None:
    elements = held(
        plan_of(
            balancer(address, policy=policy, ranges=["203.0.113.0/24"]), cluster=HERE_AND_THERE
        ),
        plan_of(cluster_ip("10.96.0.10", 53), node_port(30053), cluster=HERE_AND_THERE, name=DNS),
    )
    verdicts = dict.fromkeys((OUTSIDE, POD, NODE), "drop") | {ALLOWED: f"{PEER}:8080"}
    for name, layout in LAYOUTS.items():
        for source, verdict in verdicts.items():
            packet = Packet(source, address, 80, arrives_by="eth0", own=(NODE,))
            assert walk(layout, chain, elements, packet).verdict == verdict, name


REPLACED = ["lb-restricted", "external-local", "services", "endpoints"]
"""Sets and maps with elements that a commit may replace."""


@pytest.mark.parametrize("missed", REPLACED)
def test_one_lookup_that_misses_changes_nothing_where_lookups_can_miss(missed: str) -> None:
    elements = held(
        plan_of(
            balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24"]),
            cluster=HERE_AND_THERE,
        )
    )
    let_in = Packet(ALLOWED, "198.51.100.4", 80, arrives_by="eth0")
    shut_out = Packet(OUTSIDE, "198.51.100.4", 80, arrives_by="eth0")
    asked: set[str] = set()
    for name, layout in LAYOUTS.items():
        if not layout.shape.lookups_can_miss:
            continue
        for chain in ("prerouting", "output"):
            came = walk(layout, chain, elements, let_in, missed=missed)
            assert came.verdict == f"{PEER}:8080", name
            asked.update(came.lookups)
            assert walk(layout, chain, elements, shut_out, missed=missed).verdict == "drop", name
    assert missed in asked


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [(("10.96.0.10", 80), "accept"), (("10.96.0.10", 81), "masquerade")],
    ids=["policy Local", "policy Cluster"],
)
def test_the_external_ip_that_is_a_cluster_ip_too_is_an_external_ip(
    asked: tuple[str, int], verdict: str
) -> None:
    elements = held(
        plan_of(cluster_ip("10.96.0.10", 53), cluster=HERE_AND_THERE, name=DNS),
        plan_of(
            external_ip("10.96.0.10", 80, LOCAL),
            external_ip("10.96.0.10", 81),
            cluster=HERE_AND_THERE,
        ),
    )
    packet = Packet(OUTSIDE, ENDPOINT, 8080, asked=asked, arrives_by="eth0", own=(NODE,))
    for name, layout in LAYOUTS.items():
        assert walk(layout, "postrouting", elements, packet).verdict == verdict, name


SOURCES = {
    "nobody": {POD: "accept", OUTSIDE: "accept", PEER: "masquerade"},
    "cidr": {POD: "accept", OUTSIDE: "masquerade", PEER: "masquerade"},
    "bridge": {POD: "accept", OUTSIDE: "masquerade", PEER: "masquerade"},
    "prefix": {POD: "accept", OUTSIDE: "masquerade", PEER: "masquerade"},
}
"""Who keeps its address on the way through a cluster IP, by how local pods are told."""


@pytest.mark.parametrize("affinity_seconds", [None, 60])
def test_who_is_masqueraded_behind_a_cluster_ip(affinity_seconds: int | None) -> None:
    elements = of(cluster_ip("10.96.7.7"), affinity_seconds=affinity_seconds)
    asked = ("10.96.7.7", 80)
    for name, layout in LAYOUTS.items():
        detector = name.partition("+")[0]
        interface = {"bridge": "cni0", "prefix": "veth7"}.get(detector, "eth1")
        for source, expected in SOURCES[detector].items():
            by = "eth0" if source == OUTSIDE else interface
            going = Packet(source, PEER, 8080, asked=asked, arrives_by=by, leaves_by="eth0")
            verdict = "masquerade" if layout.shape.masquerade_all else expected
            assert walk(layout, "postrouting", elements, going).verdict == verdict, name


def test_what_others_translated_keeps_its_source() -> None:
    elements = of(cluster_ip("10.96.7.7"), affinity_seconds=60)
    for name, layout in LAYOUTS.items():
        for source in (OUTSIDE, POD, PEER):
            going = Packet(source, PEER, 8080, asked=("192.0.2.99", 80), arrives_by="eth0")
            left = walk(layout, "postrouting", elements, going)
            assert (left.verdict, left.learnt) == ("accept", []), name


@pytest.mark.parametrize("chain", ["input", "postrouting"])
@pytest.mark.parametrize(
    ("asked", "learnt"),
    [
        (("10.96.7.7", 80), ["affinity"]),
        (("192.0.2.1", 80), ["affinity"]),
        ((NODE, 80), ["affinity"]),
        ((NODE, 30080), ["affinity-nodeports"]),
        (("10.96.7.7", 30080), ["affinity"]),
    ],
    ids=["cluster IP", "external IP", "external IP of the node", "NodePort", "port of a NodePort"],
)
def test_a_client_is_remembered_where_it_asked(
    chain: str, asked: tuple[str, int], learnt: Sequence[str]
) -> None:
    elements = of(
        *(cluster_ip("10.96.7.7"), cluster_ip("10.96.7.7", 30080), external_ip("192.0.2.1")),
        *(external_ip(NODE), node_port(30080)),
        affinity_seconds=60,
    )
    going = Packet(OUTSIDE, ENDPOINT, 8080, asked=asked, arrives_by="eth0", own=(NODE,))
    for name, layout in LAYOUTS.items():
        if chain == "input" and layout.shape.node_ports_everywhere:
            continue
        found = walk(layout, chain, elements, going).learnt
        assert [into for into, _, _ in found] == learnt, name
