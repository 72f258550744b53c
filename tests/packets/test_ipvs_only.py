"""What do packets meet that only the IPVS mode has, or has otherwise?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.modes import NO_IPVS, offered
from tests.lab.objects import Endpoint, Port, nodes, service, session_affinity, slices
from tests.lab.probes import DROP_SECONDS, Answer, Outcome
from tests.packets import ipvs

if "ipvs" not in offered():
    pytest.skip(NO_IPVS, allow_module_level=True)

TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
NODE = topology.node_named("node-a")
CLIENT, POD, NEIGHBOUR = topology.CLIENT, "pod-a2", "node-b"
NODE_PORTS = {"pay": 30080, "gone": 30081}
UNKNOWN_PORT = 81
STICKY_SECONDS = 7
VIPS = {
    "pay": ("10.96.7.7", "fd00:10:96::7"),
    "gone": ("10.96.7.9", "fd00:10:96::9"),
    "cart": ("10.96.7.10", "fd00:10:96::a"),
}
BALANCERS = {
    "pay": ("198.51.100.20", "2001:db8:198::20"),
    "gone": ("198.51.100.21", "2001:db8:198::21"),
}
BACK_ENDS = {"pay": ("pod-a1", "pod-b1"), "gone": (), "cart": ("pod-a1", "pod-b1", "pod-c1")}

BOTH = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
EACH_PROTOCOL = pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Services with and without endpoints, and a node on which everything listens that they use."""
    with Lab() as built:
        built.apply(*nodes())
        for name, vips in VIPS.items():
            node_port = NODE_PORTS.get(name)
            ports = [Port(80, one.lower(), one, node_port) for one in (TCP, UDP, SCTP)]
            spec = session_affinity(STICKY_SECONDS) if name == "cart" else None
            endpoints = [Endpoint.of(built.pods[pod]) for pod in BACK_ENDS[name]]
            balancer = BALANCERS.get(name, ())
            built.apply(
                service(f"shop/{name}", vips, ports, spec=spec, ingress=balancer),
                *slices(f"shop/{name}", ports, endpoints),
            )
        built.serve(NODE.name, [80, UNKNOWN_PORT, *NODE_PORTS.values()])
        built.start_headgate(NODE.name, mode="ipvs")
        built.wait_synced()
        yield built


def kinds(answers: list[Answer]) -> set[Outcome]:
    return {answer.kind for answer in answers}


def reached(lab: Lab, source: str, address: str, port: int, protocol: Protocol) -> set[str]:
    """Who answers, or what happens instead."""
    answers = lab.connect_many(source, address, port, protocol, count=8)
    return {answer.by or answer.kind for answer in answers}


# A process of the node that listens on every address.


@BOTH
@EACH_PROTOCOL
@pytest.mark.parametrize("source", [CLIENT, POD, NODE.name])
def test_no_process_of_the_node_answers_for_a_service(
    lab: Lab, source: str, protocol: Protocol, family: int
) -> None:
    if protocol is not SCTP:
        # An association offers the peer all addresses of the node that have the scope of the peer's:
        # for a client outside of private networks, those held for Services, and no others.
        assert reached(lab, source, NODE.addresses[family], 80, protocol) == {NODE.name}
    pods = set(BACK_ENDS["pay"])
    places = [BALANCERS["pay"][family]] + ([VIPS["pay"][family]] if source != CLIENT else [])
    for address in places:
        assert reached(lab, source, address, 80, protocol) == pods
        answers = lab.connect_many(source, address, UNKNOWN_PORT, protocol, count=2)
        assert kinds(answers) == {Outcome.REFUSED}
        answers = lab.connect_many(source, address, NODE_PORTS["pay"], protocol, count=2)
        assert kinds(answers) == {Outcome.REFUSED}
    assert reached(lab, source, NODE.addresses[family], NODE_PORTS["pay"], protocol) == pods


@BOTH
@EACH_PROTOCOL
@pytest.mark.parametrize("source", [CLIENT, POD, NODE.name])
def test_nor_for_one_without_endpoints(
    lab: Lab, source: str, protocol: Protocol, family: int
) -> None:
    for address, port in (
        (BALANCERS["gone"][family], 80),
        (BALANCERS["gone"][family], UNKNOWN_PORT),
        (VIPS["gone"][family] if source != CLIENT else BALANCERS["gone"][family], 80),
        (NODE.addresses[family], NODE_PORTS["gone"]),
    ):
        answers = lab.connect_many(source, address, port, protocol, count=2)
        assert kinds(answers) == {Outcome.REFUSED}, f"{address} {port}"


# Session affinity is what IPVS calls persistence.


@BOTH
def test_a_client_stays_with_its_endpoint(lab: Lab, family: int) -> None:
    held = ipvs.servers(lab, NODE.name)
    place = ("{}:80", "[{}]:80")[family].format(VIPS["cart"][family])
    for kind in ("-t", "-u", "--sctp-service"):
        assert held[f"{kind} {place}"].options.startswith(f"-s rr -p {STICKY_SECONDS}")
    by = {
        source: [lab.connect(source, VIPS["cart"][family], 80).by for _ in range(6)]
        for source in ("pod-a1", "pod-a2", NODE.name)
    }
    assert all(len(set(answers)) == 1 for answers in by.values()), by
    # Round robin has sent the next client to another one.
    assert len({answers[0] for answers in by.values()}) > 1


# Who answers for the address of a load balancer on the network of the nodes.


def _asks_the_network(lab: Lab) -> Answer:
    """The router looks for the address among its neighbours, and not behind node-a."""
    address = BALANCERS["pay"][0]
    lab.network.configure(
        topology.ROUTER, [f"route replace {address}/32 dev lan", "neighbour flush dev lan"]
    )
    lab.exec(topology.ROUTER, ["sysctl", "-qw", "net.ipv4.neigh.lan.retrans_time_ms=50"])
    try:
        return lab.connect(topology.ROUTER, address, 80, timeout=4 * DROP_SECONDS)
    finally:
        lab.network.configure(topology.ROUTER, [f"route del {address}/32 dev lan"])


def test_a_node_answers_arp_for_what_it_holds_but_not_if_it_is_strict(lab: Lab) -> None:
    names = ("net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce")
    read = ["sysctl", "-n", *names]
    assert _asks_the_network(lab).kind is Outcome.ANSWERED
    assert lab.exec(NODE.name, read).split() == ["0", "0"]
    lab.stop_headgate(NODE.name)
    lab.start_headgate(NODE.name, "--ipvs-strict-arp", mode="ipvs")
    lab.wait_synced()
    assert lab.exec(NODE.name, read).split() == ["1", "2"]
    assert _asks_the_network(lab).kind is Outcome.UNREACHABLE
    # Who is routed to the node is served all the same.
    assert lab.connect(CLIENT, BALANCERS["pay"][0], 80).kind is Outcome.ANSWERED


# Timeouts.


def test_timeouts_are_those_that_were_asked_for(lab: Lab) -> None:
    lab.stop_headgate(NODE.name)
    before = lab.exec(NODE.name, ["ipvsadm", "-L", "--timeout"]).split()[-3:]
    flags = ("--ipvs-tcp-timeout=7m", "--ipvs-udp-timeout=90s")
    lab.start_headgate(NODE.name, *flags, mode="ipvs")
    lab.wait_synced()
    now = lab.exec(NODE.name, ["ipvsadm", "-L", "--timeout"]).split()[-3:]
    assert now == ["420", before[1], "90"]
