"""What do packets meet that only the iptables mode has, or has otherwise? In both variants."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from endpoints.names import Protocol
from tests.lab import namespaces, topology
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import Answer, Outcome
from tests.packets.chance import chi_square, is_uniform
from tests.packets.figures import metric
from tests.packets.telling import REFUSED_WITHIN_SECONDS

TCP, UDP = Protocol.TCP, Protocol.UDP
FAMILIES = (0, 1)
NODE = topology.node_named("node-a")
CLIENT = topology.CLIENT
NODE_PORT, HEALTH_PORT, OWN_PORT = 30080, 32000, 9000
VIPS = {
    "pay": ("10.96.7.7", "fd00:10:96::7"),
    "web": ("10.96.7.8", "fd00:10:96::8"),
    "gone": ("10.96.7.9", "fd00:10:96::9"),
    "many": ("10.96.7.10", "fd00:10:96::a"),
}
BALANCER = ("198.51.100.20", "2001:db8:198::20")
COMMANDS = ("iptables", "ip6tables")
DROPPED = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total"
LOCALNET = "net.ipv4.conf.all.route_localnet"
MANY = 60
"""That one of three endpoints is never chosen: 3 in 100,000,000,000."""

BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])


@pytest.fixture(params=["nft", "legacy"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lab(variant: str) -> Iterator[Lab]:
    """One in which nothing was started, with `pay` on pods of every node, and `web` Local."""
    del variant  # a lab for each
    with Lab() as built:
        built.apply(*nodes())
        ports = [Port(80, "tcp", TCP, NODE_PORT), Port(80, "udp", UDP, NODE_PORT)]
        publish(built, "pay", ports, ["pod-a1", "pod-b1", "pod-c1"])
        local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH_PORT}
        web = service("shop/web", VIPS["web"], [Port(80)], spec=local, ingress=BALANCER)
        built.apply(web, *slices("shop/web", [Port(80)], [Endpoint.of(built.pods["pod-a2"])]))
        yield built


def publish(lab: Lab, name: str, ports: list[Port], pods: list[str]) -> None:
    endpoints = [Endpoint.of(lab.pods[pod]) for pod in pods]
    lab.apply(service(f"shop/{name}", VIPS[name], ports), *slices(f"shop/{name}", ports, endpoints))


def start(lab: Lab, variant: str, *arguments: str) -> None:
    lab.start_headgate(NODE.name, *arguments, mode=f"iptables-{variant}")
    lab.wait_synced()


def by_and_saw(answers: list[Answer]) -> set[tuple[str | None, str | None]]:
    return {(answer.by, answer.saw) for answer in answers}


def masqueraded(family: int) -> set[tuple[str | None, str | None]]:
    """What the pods of `pay` answer who see the node."""
    bridge, uplink = NODE.pod_gateways[family], NODE.addresses[family]
    return {("pod-a1", bridge), ("pod-b1", uplink), ("pod-c1", uplink)}


def sysctl(lab: Lab, machine: str, name: str) -> str:
    return lab.exec(machine, ["sysctl", "-n", name]).strip()


# Localhost.


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_node_ports_answer_on_localhost(lab: Lab, variant: str, protocol: Protocol) -> None:
    start(lab, variant)
    answers = lab.connect_many(NODE.name, "127.0.0.1", NODE_PORT, protocol, count=MANY)
    assert by_and_saw(answers) == masqueraded(0)
    # There is no such thing in IPv6: the kernel never lets ::1 leave the host.
    assert lab.connect(NODE.name, "::1", NODE_PORT, protocol).kind is Outcome.REFUSED


def test_localhost_is_left_alone_if_asked(lab: Lab, variant: str) -> None:
    start(lab, variant, "--iptables-localhost-nodeports=false")
    assert lab.connect(NODE.name, "127.0.0.1", NODE_PORT).kind is Outcome.REFUSED
    assert sysctl(lab, NODE.name, LOCALNET) == "0"
    answers = lab.connect_many(CLIENT, NODE.addresses[0], NODE_PORT, count=MANY)
    assert by_and_saw(answers) == masqueraded(0)


def test_nobody_else_reaches_localhost(lab: Lab, variant: str) -> None:
    """CVE-2020-8558: a neighbour routes 127.0.0.1 to a node that lets localhost be routed."""
    neighbour = "node-b"
    lab.serve(NODE.name, [OWN_PORT])
    start(lab, variant)
    assert sysctl(lab, NODE.name, LOCALNET) == "1"
    lab.exec(neighbour, ["sysctl", "-qw", f"{LOCALNET}=1"])
    lab.network.configure(
        neighbour,
        [
            "address del 127.0.0.1/8 dev lo",
            f"route add 127.0.0.0/8 via {NODE.addresses[0]}",
        ],
    )
    for port in (OWN_PORT, NODE_PORT):
        answer = lab.connect(neighbour, "127.0.0.1", port)
        assert answer.kind is Outcome.TIMEOUT, f"port {port}: {answer}"
    assert lab.connect(NODE.name, "127.0.0.1", OWN_PORT).by == NODE.name
    # The rule it is that stands between: without it the neighbour is served.
    lab.exec(NODE.name, [f"iptables-{variant}", "-F", "KUBE-FIREWALL"])
    assert lab.connect(neighbour, "127.0.0.1", OWN_PORT).by == NODE.name


# Hosts that drop what nobody accepts.


@BOTH
def test_a_node_whose_policy_is_drop_serves(lab: Lab, variant: str, family: int) -> None:
    lab.serve(NODE.name, [HEALTH_PORT, OWN_PORT])
    start(lab, variant)
    command = f"{COMMANDS[family]}-{variant}"
    # Neighbours are found by ICMPv6.
    lab.exec(
        NODE.name, [command, "-A", "INPUT", "-p", "icmpv6" if family else "icmp", "-j", "ACCEPT"]
    )
    for chain in ("FORWARD", "INPUT"):
        lab.exec(NODE.name, [command, "-P", chain, "DROP"])
    address = NODE.addresses[family]
    for protocol in (TCP, UDP):
        answers = lab.connect_many(CLIENT, address, NODE_PORT, protocol, count=MANY)
        assert by_and_saw(answers) == masqueraded(family)
    assert lab.connect(CLIENT, address, HEALTH_PORT).by == NODE.name
    # Nothing else gets through.
    assert lab.connect(CLIENT, address, OWN_PORT).kind is Outcome.TIMEOUT
    pod = lab.pods["pod-a1"].addresses[family]
    assert lab.connect(CLIENT, pod, 8080).kind is Outcome.TIMEOUT


@BOTH
@pytest.mark.parametrize("liberal", [False, True])
def test_packets_of_no_connection(lab: Lab, variant: str, family: int, *, liberal: bool) -> None:
    """They are dropped, but not where the operator told conntrack to be liberal."""
    flag = f"net.netfilter.nf_conntrack_tcp_be_liberal={int(liberal)}"
    lab.exec(NODE.name, ["sysctl", "-qw", flag])
    start(lab, variant)
    command = f"{COMMANDS[family]}-{variant}"
    pod = lab.pods["pod-a1"].addresses[family]
    with namespaces.inside(lab.network[CLIENT]), raw_socket(family) as raw:
        raw.sendto(syn_ack(topology.CLIENT_ADDRESSES[family], pod), (pod, 0))
        rules = lab.exec(NODE.name, [command, "-S", "KUBE-FORWARD", "-v"])
        if liberal:
            assert "INVALID" not in rules
            assert tcp_flags(raw.recv(128), family) & RST, "the pod knows of no connection"
        else:
            assert re.search(r"--ctstate INVALID .*-c 1 \d+ -j DROP", rules), rules
            assert lab.connect(CLIENT, pod, 8080).by == "pod-a1"
            assert metric(lab, NODE.name, DROPPED) >= 1


RST, SYN_ACK = 0x04, 0x12
_TCP = struct.Struct("!HHIIBBHHH")


def raw_socket(family: int) -> socket.socket:
    """One that sends and receives TCP segments."""
    made = socket.socket(
        (socket.AF_INET, socket.AF_INET6)[family], socket.SOCK_RAW, socket.IPPROTO_TCP
    )
    made.settimeout(2)
    return made


def syn_ack(source: str, destination: str) -> bytes:
    """The second segment of a handshake that had no first, from port 4242 to 8080."""
    pseudo = b"".join(
        socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
        for a in (source, destination)
    )
    fields = [4242, 8080, 1, 1, 5 << 4, SYN_ACK, 1024, 0, 0]
    words = pseudo + struct.pack("!HH", socket.IPPROTO_TCP, _TCP.size) + _TCP.pack(*fields)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    fields[7] = ~total & 0xFFFF
    return _TCP.pack(*fields)


def tcp_flags(packet: bytes, family: int) -> int:
    """Of a received packet; only those of IPv4 come with their IP header."""
    header = 0 if family else (packet[0] & 15) * 4
    return int(_TCP.unpack_from(packet, header)[5])


# The mark.

WATCH = """
table inet watch {
    chain before {
        type filter hook prerouting priority -150
        meta mark set meta mark or 0x4000
    }
    chain after {
        type filter hook postrouting priority 150
        ct status dnat meta mark and 0xffff == 0x4000 counter
        ct status dnat meta mark and 0xffff != 0x4000 counter
    }
}
"""


@BOTH
def test_another_bit_of_the_mark(lab: Lab, variant: str, family: int) -> None:
    """Bit 14 is somebody else's then: it means nothing to us, and nobody takes it away."""
    start(lab, variant, "--iptables-masquerade-bit=10")
    lab.exec(NODE.name, ["nft", "-f", "-"], WATCH)
    answers = lab.connect_many(CLIENT, NODE.addresses[family], NODE_PORT, count=MANY)
    assert by_and_saw(answers) == masqueraded(family)
    answer = lab.connect(CLIENT, BALANCER[family], 80)
    assert (answer.by, answer.saw) == ("pod-a2", topology.CLIENT_ADDRESSES[family])
    listed = lab.exec(NODE.name, ["nft", "list", "chain", "inet", "watch", "after"])
    kept, lost = (int(count) for count in re.findall(r"packets (\d+)", listed))
    assert kept > MANY
    assert lost == 0


# Refusals.


@BOTH
def test_a_plain_client_is_refused_by_a_reset(lab: Lab, variant: str, family: int) -> None:
    """An ICMPv6 error would leave it waiting for a second: connect(2) holds the socket then."""
    publish(lab, "gone", [Port(80, node_port=30081)], [])
    start(lab, variant)
    vip, address = VIPS["gone"][family], NODE.addresses[family]
    places = [(vip, 80), (vip, 81), (VIPS["pay"][family], 81), (address, 30081)]
    for sender, place in [*product(("pod-a2", NODE.name), places), (CLIENT, places[-1])]:
        with namespaces.inside(lab.network[sender]):
            best = min(refused_after(family, place) for _ in range(3))
        assert best < REFUSED_WITHIN_SECONDS, f"{sender} to {place}"


def refused_after(family: int, place: tuple[str, int]) -> float:
    """Seconds until a client that knows nothing of error queues is refused."""
    kind = (socket.AF_INET, socket.AF_INET6)[family]
    with socket.socket(kind, socket.SOCK_STREAM) as client:
        client.settimeout(3)
        began = time.perf_counter()
        with pytest.raises(ConnectionRefusedError):
            client.connect(place)
        return time.perf_counter() - began


# More than 1,000 endpoints.


@BOTH
def test_a_large_cluster(lab: Lab, variant: str, family: int) -> None:
    """Short rules (decision 0008): a remote endpoint has no chain of its own."""
    crowd = [(f"10.244.{n >> 8}.{n & 255}", f"fd00:10:244:ff::{n:x}") for n in range(9000, 10050)]
    listed = [Endpoint(pair, "node-c") for pair in crowd]
    lab.apply(service("shop/many", VIPS["many"], [Port(80)]))
    for part in range(0, len(listed), 100):
        lab.apply(*slices("shop/many", [Port(80)], listed[part : part + 100], part=part))
    start(lab, variant)
    saved = lab.exec(NODE.name, [f"{COMMANDS[family]}-{variant}-save", "-t", "nat"])
    remote, here = (lab.pods[pod].addresses[family] for pod in ("pod-b1", "pod-a1"))
    at = "[{}]" if family else "{}"
    assert re.search(rf"-A KUBE-SVC-.* --to-destination {re.escape(at.format(remote))}:8080", saved)
    assert re.search(rf"-A KUBE-SEP-.* --to-destination {re.escape(at.format(here))}:8080", saved)
    answers = lab.connect_many("pod-a2", VIPS["pay"][family], 80, count=600)
    seen = Counter(answer.by for answer in answers)
    assert seen.keys() == {"pod-a1", "pod-b1", "pod-c1"}
    assert is_uniform(seen.values()), f"{seen}, chi-square {chi_square(seen.values()):.1f}"
    assert {answer.saw for answer in answers} == {lab.pods["pod-a2"].addresses[family]}
    hairpin = lab.connect_many("pod-a1", VIPS["pay"][family], 80, count=MANY)
    own = lab.pods["pod-a1"].addresses[family]
    bridge = NODE.pod_gateways[family]
    assert by_and_saw(hairpin) == {("pod-a1", bridge), ("pod-b1", own), ("pod-c1", own)}
    for sender, address, port in [
        (CLIENT, NODE.addresses[family], NODE_PORT),
        (NODE.name, VIPS["pay"][family], 80),
    ]:
        answers = lab.connect_many(sender, address, port, count=MANY)
        assert by_and_saw(answers) == masqueraded(family)
