"""Is the virtual cluster what it says it is, before any headgate runs in it?

Where a Service is needed, a plain rule of nft in a node's namespace stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

import pytest

from endpoints.names import Protocol
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.probes import DROP_SECONDS, Answer, Outcome, Target
from tests.lab.topology import NODES

TCP, UDP = Protocol.TCP, Protocol.UDP
VIPS = ("10.96.0.1", "fd00:10:96::1")
FAMILIES = (0, 1)
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])
TRANSPORTS = pytest.mark.parametrize("protocol", [TCP, UDP])


@pytest.fixture(autouse=True)
def rules(lab: Lab) -> Iterator[None]:
    """Each test begins and ends without a rule anywhere."""
    yield
    for machine in lab.network:
        lab.exec(machine, ["nft", "flush", "ruleset"])


def send_to(lab: Lab, node: str, pod: str, family: int, verb: str = "") -> None:
    """Let a node send the virtual address, port 80, to a pod."""
    ip, brackets = (("ip", "{}"), ("ip6", "[{}]"))[family]
    destination = brackets.format(lab.pods[pod].addresses[family])
    chains = "".join(
        f"chain {hook} {{\n type nat hook {hook} priority -100\n {ip} daddr {VIPS[family]} "
        f"meta l4proto {{ tcp, udp }} th dport 80 dnat to {destination}:8080\n }}\n"
        for hook in ("prerouting", "output")
    )
    if verb:
        chains += f"chain back {{\n type nat hook postrouting priority srcnat\n {verb}\n }}\n"
    lab.exec(node, ["nft", "-f", "-"], f"table {ip} service {{\n {chains}\n }}\n")


def block(lab: Lab, node: str, hook: str, statement: str) -> None:
    """Apply a statement of nft at a hook of a node."""
    chain = f"chain wall {{\n type filter hook {hook} priority 0\n {statement}\n }}\n"
    lab.exec(node, ["nft", "-f", "-"], f"table inet wall {{\n {chain} }}\n")


def answered(by: str, saw: str) -> Answer:
    return Answer(Outcome.ANSWERED, by, saw)


def test_names_and_addresses_are_those_of_the_contract(lab: Lab) -> None:
    assert {pod.name: pod.addresses for pod in lab.pods.values()} == {
        "pod-a1": ("10.244.1.2", "fd00:10:244:1::2"),
        "pod-a2": ("10.244.1.3", "fd00:10:244:1::3"),
        "pod-b1": ("10.244.2.2", "fd00:10:244:2::2"),
        "pod-b2": ("10.244.2.3", "fd00:10:244:2::3"),
        "pod-c1": ("10.244.3.2", "fd00:10:244:3::2"),
        "pod-c2": ("10.244.3.3", "fd00:10:244:3::3"),
    }
    assert [(node.name, node.zone, node.addresses) for node in NODES] == [
        ("node-a", "eu-1a", ("192.168.0.11", "fd00:192:168::11")),
        ("node-b", "eu-1a", ("192.168.0.12", "fd00:192:168::12")),
        ("node-c", "eu-1b", ("192.168.0.13", "fd00:192:168::13")),
    ]


@BOTH
@TRANSPORTS
def test_every_pod_reaches_every_pod_and_is_seen_as_itself(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    for source, server, port in product(lab.pods.values(), lab.pods.values(), (8080, 8081)):
        answer = lab.connect(source.name, server.addresses[family], port, protocol)
        assert answer == answered(server.name, source.addresses[family])


@BOTH
@TRANSPORTS
def test_client_and_nodes_reach_pods_with_their_own_address(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    pod = lab.pods["pod-b1"].addresses[family]
    client = topology.CLIENT_ADDRESSES[family]
    assert lab.connect("client", pod, 8080, protocol) == answered("pod-b1", client)
    seen = {
        "node-a": NODES[0].addresses[family],
        "node-b": NODES[1].pod_gateways[family],
        "node-c": NODES[2].addresses[family],
    }
    for node, address in seen.items():
        assert lab.connect(node, pod, 8080, protocol) == answered("pod-b1", address)


@BOTH
@TRANSPORTS
def test_a_node_answers_in_its_host_network_from_the_address_that_was_asked(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    lab.serve("node-a", [9000])
    client = topology.CLIENT_ADDRESSES[family]
    for address in (NODES[0].addresses[family], NODES[0].pod_gateways[family]):
        assert lab.connect("client", address, 9000, protocol) == answered("node-a", client)
    lab.stop_serving("node-a")
    refused = lab.connect("client", NODES[0].addresses[family], 9000, protocol)
    assert refused == Answer(Outcome.REFUSED)


@BOTH
@TRANSPORTS
@pytest.mark.parametrize("server", ["pod-b1", "pod-a2"], ids=["another node", "the same bridge"])
def test_a_virtual_address_leads_to_a_pod(
    lab: Lab, family: int, protocol: Protocol, server: str
) -> None:
    """The same bridge: the answer comes back only because the node sees bridged packets."""
    send_to(lab, "node-a", server, family)
    answer = lab.connect("pod-a1", VIPS[family], 80, protocol)
    assert answer == answered(server, lab.pods["pod-a1"].addresses[family])


@BOTH
def test_without_bridge_netfilter_a_neighbour_does_not_answer(lab: Lab, family: int) -> None:
    """The reason for these sysctls, and the proof that the test above can fail."""
    send_to(lab, "node-a", "pod-a2", family)
    name = f"net.bridge.bridge-nf-call-{('iptables', 'ip6tables')[family]}"
    lab.exec("node-a", ["sysctl", "-qw", f"{name}=0"])
    try:
        assert lab.connect("pod-a1", VIPS[family], 80).kind is not Outcome.ANSWERED
    finally:
        lab.exec("node-a", ["sysctl", "-qw", f"{name}=1"])


@BOTH
@TRANSPORTS
def test_a_pod_reaches_itself_when_its_address_is_masqueraded(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    send_to(lab, "node-a", "pod-a1", family, "masquerade")
    answer = lab.connect("pod-a1", VIPS[family], 80, protocol)
    assert answer == answered("pod-a1", NODES[0].pod_gateways[family])


@BOTH
def test_load_balancer_addresses_lead_to_the_chosen_node(lab: Lab, family: int) -> None:
    address = ("198.51.100.9", "2001:db8:198::9")[family]
    for node in ("node-b", "node-a"):
        lab.route_load_balancer(node)
        block(lab, node, "forward", f"{('ip', 'ip6')[family]} daddr {address} reject")
        assert lab.connect("client", address, 80) == Answer(Outcome.REFUSED)
        lab.exec(node, ["nft", "flush", "ruleset"])


@BOTH
@TRANSPORTS
def test_a_closed_port_refuses_at_once(lab: Lab, family: int, protocol: Protocol) -> None:
    answer = lab.connect("client", lab.pods["pod-a1"].addresses[family], 9999, protocol)
    assert answer.kind is Outcome.REFUSED


@BOTH
@TRANSPORTS
def test_silence_is_a_drop(lab: Lab, family: int, protocol: Protocol) -> None:
    block(lab, "node-a", "forward", "drop")
    answer = lab.connect("client", lab.pods["pod-a1"].addresses[family], 8080, protocol)
    assert answer.kind is Outcome.TIMEOUT
    assert answer.seconds >= DROP_SECONDS


@BOTH
@TRANSPORTS
def test_a_drop_of_a_sender_on_its_own_machine_is_a_drop(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    block(lab, "node-a", "output", "th dport 8080 drop")
    answer = lab.connect("node-a", lab.pods["pod-b1"].addresses[family], 8080, protocol)
    assert answer.kind is Outcome.TIMEOUT


@BOTH
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("reject with icmpx port-unreachable", Outcome.REFUSED),
        ("reject with icmpx no-route", Outcome.UNREACHABLE),
        ("reject with icmpx admin-prohibited", Outcome.UNREACHABLE),
        ("reject with tcp reset", Outcome.REFUSED),
    ],
)
def test_refusals_are_told_apart(lab: Lab, family: int, statement: str, kind: Outcome) -> None:
    block(lab, "node-a", "forward", f"meta l4proto tcp {statement}")
    answer = lab.connect("client", lab.pods["pod-a1"].addresses[family], 8080)
    assert answer.kind is kind


@TRANSPORTS
def test_an_address_that_nobody_has_is_unreachable(lab: Lab, protocol: Protocol) -> None:
    assert lab.connect("pod-a1", "192.0.2.1", 80, protocol).kind is Outcome.UNREACHABLE


def test_an_established_connection_that_is_reset_is_broken(lab: Lab) -> None:
    pod = lab.add_pod("node-a", "pod-a9")
    held = lab.hold("client", Target(pod.ipv4, 8080))
    assert held.ask() == answered("pod-a9", "203.0.113.7")
    lab.remove_pod("pod-a9")
    assert held.hear().kind is Outcome.BROKEN
    held.close()


@TRANSPORTS
def test_many_connections_at_once_take_milliseconds(lab: Lab, protocol: Protocol) -> None:
    began = time.perf_counter()
    answers = lab.connect_many("client", "10.244.3.2", 8080, protocol, count=1000)
    assert time.perf_counter() - began < 3
    assert answers == [answered("pod-c1", "203.0.113.7")] * 1000


def test_answers_are_in_the_order_of_the_targets(lab: Lab) -> None:
    """Also when one is dropped and one is refused on the way."""
    block(lab, "node-b", "forward", "drop")
    pods = [lab.pods[f"pod-{name}"] for name in ("a1", "b1", "c1")]
    targets = [Target(pod.ipv4, port) for pod in pods for port in (8080, 9999)]
    answers = lab.connect_all("client", targets)
    assert [answer.by for answer in answers] == ["pod-a1", None, None, None, "pod-c1", None]
    kinds = [answer.kind for answer in answers[1:4]]
    assert kinds == [Outcome.REFUSED, Outcome.TIMEOUT, Outcome.TIMEOUT]


def test_pods_come_and_go(lab: Lab) -> None:
    pod = lab.add_pod("node-b", "pod-b3")
    assert pod.node == "node-b"
    assert pod.zone == "eu-1a"
    assert lab.connect("pod-a1", pod.ipv4, 8080) == answered("pod-b3", "10.244.1.2")
    assert lab.connect("pod-a1", pod.ipv6, 8081, UDP) == answered("pod-b3", "fd00:10:244:1::2")

    lab.stop_serving("pod-b3")
    assert lab.connect("pod-a1", pod.ipv4, 8080) == Answer(Outcome.REFUSED)
    lab.serve("pod-b3", [8080])
    assert lab.connect("pod-a1", pod.ipv4, 8080).by == "pod-b3"

    lab.remove_pod("pod-b3")
    assert "pod-b3" not in lab.pods
    assert lab.connect("pod-a1", pod.ipv4, 8080).kind is not Outcome.ANSWERED


def test_a_load_sees_every_failure(lab: Lab) -> None:
    flows = [("pod-a1", Target("10.244.2.2", 8080)), ("client", Target("10.244.3.2", 8081, UDP))]
    with lab.load(*flows) as load:
        load.wait_for(100)
        assert load.failures == []
        # What began before goes on: only the first packet of a connection is refused.
        refuse = "tcp flags & (syn | ack) == syn reject with tcp reset"
        block(lab, "node-b", "forward", refuse)
        load.wait_for(100)
        lab.exec("node-b", ["nft", "flush", "ruleset"])
        load.wait_for(100)
    assert set(load.answered_by) == {"pod-b1", "pod-c1"}
    assert {one.source for one in load.failures} == {"pod-a1"}
    assert {one.answer.kind for one in load.failures} == {Outcome.REFUSED}
    assert load.connections[-1].answer.kind is Outcome.ANSWERED


def test_two_labs_at_once_do_not_meet(lab: Lab) -> None:
    with Lab() as other:
        block(other, "node-b", "forward", "drop")
        assert other.connect("pod-a1", "10.244.2.2", 8080).kind is Outcome.TIMEOUT
        assert lab.connect("pod-a1", "10.244.2.2", 8080).by == "pod-b1"
    assert not other.folder.exists()
    assert lab.connect("pod-a1", "10.244.2.2", 8080).by == "pod-b1"


def test_a_lab_is_built_in_a_moment() -> None:
    began = time.perf_counter()
    Lab().close()
    assert time.perf_counter() - began < 5  # 0.15 s on an idle machine
