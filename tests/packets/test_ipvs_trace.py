"""What does `headgate trace` tell where IPVS translates, and nf_tables has no tables for IP?

Debian's user-mode Linux is such a kernel: conntrack is all that can be asked, and the counters of
iptables-legacy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from modes.tracing.outcome import Outcome
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.packets.tracing import Said, place, trace

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = topology.node_named("node-a")
CLIENT, CLIENT_POD, REMOTE, STRANGER = topology.CLIENT, "pod-a2", "pod-b1", "pod-c1"
PAY, SHUT, WEB = (
    ("10.96.7.7", "fd00:10:96::7"),
    ("10.96.7.8", "fd00:10:96::8"),
    ("10.96.7.9", "fd00:10:96::9"),
)
BALANCER = ("198.51.100.20", "2001:db8:198::20")
NODE_PORT = 30080
BOTH = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def world(lab: Lab) -> Iterator[Lab]:
    lab.apply(*nodes())
    there = [Endpoint.of(lab.pods[REMOTE])]
    ports = [Port(80, "tcp", TCP, NODE_PORT), Port(80, "udp", UDP, NODE_PORT)]
    shut = [Port(80, target=9999)]
    lab.apply(service("shop/pay", PAY, ports), *slices("shop/pay", ports, there))
    lab.apply(service("shop/shut", SHUT, shut), *slices("shop/shut", shut, there))
    narrow = {"loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8:2::/64"]}
    lab.apply(service("shop/web", WEB, [Port(80)], spec=narrow, ingress=BALANCER))
    lab.apply(*slices("shop/web", [Port(80)], there))
    lab.start_headgate(NODE.name, mode="ipvs")
    lab.wait_synced()
    yield lab
    lab.stop_headgate(NODE.name)


def traced(
    lab: Lab, sender: str, to: tuple[str, int], protocol: Protocol = TCP, timeout: str = "20s"
) -> Said:
    return trace(
        lab,
        NODE.name,
        [place(*to, protocol), f"--timeout={timeout}"],
        lambda: lab.connect(sender, *to, protocol),
    )


@BOTH
def test_a_pod_is_answered(world: Lab, family: int) -> None:
    said = traced(world, CLIENT_POD, (PAY[family], 80))
    assert (said.status, said.flow.outcome, said.answer.by) == (0, Outcome.REACHED, "conntrack")
    assert said.flow.endpoint == place(world.pods[REMOTE].addresses[family], 8080)[:-4]
    assert not said.flow.is_masqueraded
    assert said.answer.service == "shop/pay:tcp"


@BOTH
def test_a_client_outside_is_masqueraded(world: Lab, family: int) -> None:
    said = traced(world, CLIENT, (NODE.addresses[family], NODE_PORT), UDP)
    assert said.flow.outcome is Outcome.REACHED
    assert said.flow.is_masqueraded
    assert NODE.addresses[family] in said.flow.source


def test_somebody_else_answers(world: Lab) -> None:
    """A rule of others leads the packet to a pod that is no endpoint of the Service."""
    other = f"{world.pods[STRANGER].ipv4}:8080"
    rule = f"PREROUTING -d {PAY[0]} -p tcp --dport 80 -j DNAT --to-destination {other}"
    world.exec(NODE.name, ["sh", "-c", f"iptables-legacy -t nat -I {rule}"])
    said = traced(world, CLIENT_POD, (PAY[0], 80))
    world.exec(NODE.name, ["sh", "-c", f"iptables-legacy -t nat -D {rule}"])
    assert (said.status, said.flow.outcome) == (1, Outcome.REACHED)
    assert f"-> {other}, which is no endpoint of shop/pay:tcp; source" in said.flow.summary


@BOTH
def test_a_reset(world: Lab, family: int) -> None:
    said = traced(world, CLIENT_POD, (SHUT[family], 80))
    assert (said.status, said.flow.outcome) == (1, Outcome.REFUSED)


@BOTH
def test_what_a_rule_dropped_is_no_flow(world: Lab, family: int) -> None:
    said = traced(world, CLIENT, (BALANCER[family], 80), timeout="5s")
    assert said.status == 1
    assert not said.answer.flows
    dropping = [line for line in said.answer.advice if line.startswith("Meanwhile")]
    assert any("KUBE-LOCAL-POLICY" in line for line in dropping), said.answer.advice
