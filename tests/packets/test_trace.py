"""Does `headgate trace` tell what became of a real packet, whoever translates it?"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from modes.tracing.outcome import Outcome
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.packets.tracing import HEADGATE, Said, place, started, trace

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = topology.node_named("node-a")
CLIENT, CLIENT_POD, REMOTE, LOCAL = topology.CLIENT, "pod-a2", "pod-b1", "pod-a1"
STRANGER = "pod-c1"
NODE_PORT = 30080
VIPS = {
    "pay": ("10.96.7.7", "fd00:10:96::7"),
    "own": ("10.96.7.8", "fd00:10:96::8"),
    "gone": ("10.96.7.9", "fd00:10:96::9"),
    "shut": ("10.96.7.10", "fd00:10:96::a"),
    "far": ("10.96.7.11", "fd00:10:96::b"),
    "mute": ("10.96.7.12", "fd00:10:96::c"),
    "web": ("10.96.7.13", "fd00:10:96::d"),
}
BALANCER = ("198.51.100.20", "2001:db8:198::20")
FAR = Endpoint(("10.250.0.9", "fd00:250::9"))
MUTE = Endpoint(("192.168.0.99", "fd00:192:168::99"))
"""An address of the nodes' network that nobody has."""
BOTH = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
TABLES = "headgate-trace-"


@pytest.fixture(scope="module")
def world(lab: Lab, mode: str) -> Iterator[Lab]:
    """One endpoint to a Service, so that nothing is left to chance."""
    lab.apply(*nodes())
    ports = [Port(80, "tcp", TCP, NODE_PORT), Port(80, "udp", UDP, NODE_PORT)]
    publish(lab, "pay", ports, [Endpoint.of(lab.pods[REMOTE])])
    publish(lab, "own", [Port(80)], [Endpoint.of(lab.pods[LOCAL])])
    publish(lab, "gone", [Port(80)], [])
    publish(lab, "shut", [Port(80, target=9999)], [Endpoint.of(lab.pods[REMOTE])])
    publish(lab, "far", [Port(80)], [FAR])
    publish(lab, "mute", [Port(80, "udp", UDP)], [MUTE])
    narrow = {"loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8:2::/64"]}
    web = service("shop/web", VIPS["web"], [Port(80)], spec=narrow, ingress=BALANCER)
    lab.apply(web, *slices("shop/web", [Port(80)], [Endpoint.of(lab.pods[LOCAL])]))
    lab.start_headgate(NODE.name, mode=mode)
    lab.wait_synced()
    yield lab
    lab.stop_headgate(NODE.name)
    lab.exec(NODE.name, [str(HEADGATE), "cleanup"])


def publish(lab: Lab, name: str, ports: list[Port], endpoints: list[Endpoint]) -> None:
    lab.apply(service(f"shop/{name}", VIPS[name], ports), *slices(f"shop/{name}", ports, endpoints))


def traced(lab: Lab, sender: str, address: str, port: int = 80, protocol: Protocol = TCP) -> Said:
    """What is said of one connection by this sender."""
    return trace(
        lab,
        NODE.name,
        [place(address, port, protocol), "--timeout=20s"],
        lambda: lab.connect(sender, address, port, protocol),
    )


def endpoint(lab: Lab, pod: str, family: int, port: int = 8080) -> str:
    return place(lab.pods[pod].addresses[family], port).removesuffix("/tcp")


def rules(said: Said) -> str:
    return "\n".join(f"{hop.place}: {hop.text}" for hop in said.flow.forth)


@BOTH
def test_a_pod_reaches_another_node(world: Lab, mode: str, family: int) -> None:
    said = traced(world, CLIENT_POD, VIPS["pay"][family])
    assert (said.status, said.flow.outcome) == (0, Outcome.REACHED)
    assert said.flow.endpoint == endpoint(world, REMOTE, family)
    assert said.flow.source == said.flow.client
    assert not said.flow.is_masqueraded
    assert said.answer.service == "shop/pay:tcp"
    assert said.flow.summary.startswith("shop/pay:tcp ")
    assert [hop.place for hop in said.flow.forth if "by cni0" in hop.text] == ["prerouting"]
    assert "leaves by eth0" in said.flow.forth[-1].text
    assert "arrives by eth0" in said.flow.back[0].text
    assert said.flow.back[-1].text.endswith("leaves by cni0")
    matched = {
        "nftables": "services: ",
        "iptables-nft": "chain KUBE-SERVICES of table",
        "iptables-legacy": "becomes",
    }
    assert matched[mode] in rules(said)


@BOTH
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_client_outside_is_masqueraded(world: Lab, family: int, protocol: Protocol) -> None:
    said = traced(world, CLIENT, NODE.addresses[family], NODE_PORT, protocol)
    assert said.flow.outcome is Outcome.REACHED
    assert said.flow.is_masqueraded
    assert NODE.addresses[family] in said.flow.source
    assert topology.CLIENT_ADDRESSES[family] in said.flow.client
    assert said.answer.service == f"shop/pay:{protocol.lower()}"


@BOTH
def test_a_pod_reaches_itself(world: Lab, family: int) -> None:
    said = traced(world, LOCAL, VIPS["own"][family])
    assert said.flow.outcome is Outcome.REACHED
    assert said.flow.endpoint == endpoint(world, LOCAL, family)
    assert said.flow.is_masqueraded
    assert NODE.pod_gateways[family] in said.flow.source


@BOTH
def test_the_node_itself_sends(world: Lab, family: int) -> None:
    said = traced(world, NODE.name, VIPS["own"][family])
    assert said.flow.outcome is Outcome.REACHED
    assert "is sent by this node" in said.flow.forth[0].text
    assert said.flow.forth[0].place == "output"
    assert said.flow.back[-1].text.endswith("reaches its process")


@BOTH
def test_no_endpoints_is_a_refusal_by_a_rule(world: Lab, mode: str, family: int) -> None:
    said = traced(world, CLIENT_POD, VIPS["gone"][family])
    assert (said.status, said.flow.outcome) == (1, Outcome.REFUSED)
    assert not said.flow.endpoint
    by = {
        "nftables": "refused by chain no-endpoints of table ip",
        "iptables-nft": "refused by chain KUBE-SERVICES of table ip",
        "iptables-legacy": "refused by iptables-legacy: `-t filter -A KUBE-SERVICES",
    }
    assert by[mode] in said.flow.summary


@BOTH
def test_an_endpoint_that_does_not_listen(world: Lab, family: int) -> None:
    said = traced(world, CLIENT_POD, VIPS["shut"][family])
    assert (said.status, said.flow.outcome) == (1, Outcome.REFUSED)
    assert said.flow.endpoint == endpoint(world, REMOTE, family, 9999)
    assert "answers with a reset" in said.flow.summary


@BOTH
def test_source_ranges_drop(world: Lab, mode: str, family: int) -> None:
    said = traced(world, CLIENT, BALANCER[family])
    assert (said.status, said.flow.outcome) == (1, Outcome.LOST)
    by = {
        "nftables": "at prerouting: dropped by chain lb-check of table ip",
        "iptables-nft": "at forward: dropped by chain KUBE-PROXY-FIREWALL of table ip",
        "iptables-legacy": "at forward: dropped by iptables-legacy: `-t filter -A KUBE-PROXY-FIREWALL",
    }
    assert by[mode] in said.flow.summary


@BOTH
def test_routing_refuses(world: Lab, family: int) -> None:
    network = ("10.250.0.0/16", "fd00:250::/64")[family]
    world.network.configure(NODE.name, [f"route add blackhole {network}"])
    said = traced(world, CLIENT_POD, VIPS["far"][family])
    world.network.configure(NODE.name, [f"route del blackhole {network}"])
    assert (said.status, said.flow.outcome) == (1, Outcome.LOST)
    assert "between prerouting and forward: routing refused it" in said.flow.summary
    assert "blackhole" in said.flow.summary
    assert FAR.addresses[family] in said.flow.forth[-1].text


def test_reverse_path_filter(world: Lab) -> None:
    """A pod that uses an address of another network: the node takes it for forged."""
    names = ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.cni0.rp_filter")
    vip, forged = VIPS["pay"][0], "10.77.0.5"
    route = f"{vip} via {NODE.pod_gateways[0]} src {forged}"
    world.exec(NODE.name, ["sysctl", "-qw", *(f"{name}=1" for name in names)])
    world.network.configure(CLIENT_POD, [f"address add {forged}/32 dev eth0", f"route add {route}"])
    said = trace(
        world,
        NODE.name,
        [place(vip, 80, UDP), f"--from={forged}", "--timeout=20s"],
        lambda: world.connect(CLIENT_POD, vip, 80, UDP),
    )
    world.network.configure(CLIENT_POD, [f"route del {route}", f"address del {forged}/32 dev eth0"])
    world.exec(NODE.name, ["sysctl", "-qw", *(f"{name}=0" for name in names)])
    assert (said.status, said.flow.outcome) == (1, Outcome.LOST)
    assert "between prerouting and forward: routing refused it" in said.flow.summary
    assert "rp_filter" in said.flow.summary


@BOTH
def test_nobody_answers(world: Lab, family: int) -> None:
    said = traced(world, CLIENT_POD, VIPS["mute"][family], protocol=UDP)
    assert (said.status, said.flow.outcome) == (1, Outcome.UNANSWERED)
    assert said.flow.endpoint == place(MUTE.addresses[family], 8080).removesuffix("/tcp")
    assert "no reply within 3 s" in said.flow.summary


@BOTH
def test_answers_pass_netfilter_by(world: Lab, family: int) -> None:
    """The pod answers its neighbour on the bridge, who knows nothing of it."""
    name = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")[family]
    world.exec(NODE.name, ["sysctl", "-qw", f"net.bridge.{name}=0"])
    said = traced(world, CLIENT_POD, VIPS["own"][family])
    world.exec(NODE.name, ["sysctl", "-qw", f"net.bridge.{name}=1"])
    assert said.flow.outcome in (Outcome.UNANSWERED, Outcome.REFUSED)
    assert said.flow.endpoint == endpoint(world, LOCAL, family)
    assert name in said.flow.summary


def test_a_foreign_rule_drops(world: Lab) -> None:
    table = (
        "table ip guard { chain gate { type filter hook forward priority 10; ip daddr %s drop; }; }"
    )
    world.exec(NODE.name, ["nft", table % world.pods[REMOTE].ipv4])
    said = traced(world, CLIENT_POD, VIPS["pay"][0])
    world.exec(NODE.name, ["nft", "delete table ip guard"])
    assert said.flow.outcome is Outcome.LOST
    if said.answer.advice:  # iptables-legacy would have filled the log
        assert "in forward" in said.flow.summary
    else:
        wanted = f"chain gate of table ip guard: ip daddr {world.pods[REMOTE].ipv4} drop"
        assert wanted in said.flow.summary


@BOTH
def test_somebody_else_answers(world: Lab, family: int) -> None:
    """A rule of others leads the packet to a pod that is no endpoint of the Service."""
    of, other = ("ip", "ip6")[family], endpoint(world, STRANGER, family)
    rule = f"{of} daddr {VIPS['pay'][family]} tcp dport 80 dnat to {other}"
    chain = f"chain first {{ type nat hook prerouting priority -150; {rule}; }}"
    world.exec(NODE.name, ["nft", f"table {of} mesh {{ {chain}; }}"])
    said = traced(world, CLIENT_POD, VIPS["pay"][family])
    world.exec(NODE.name, ["nft", f"delete table {of} mesh"])
    assert (said.status, said.flow.outcome) == (1, Outcome.REACHED)
    assert f"-> {other}, which is no endpoint of shop/pay:tcp; source stays" in said.flow.summary
    assert "after -" not in said.flow.summary
    texts = [hop.text for hop in said.flow.forth]
    assert "open already" not in texts[0]
    assert len(set(texts)) == len(texts)


def test_nothing_comes(world: Lab) -> None:
    said = trace(world, NODE.name, [place(VIPS["pay"][0], 81), "--timeout=500ms"])
    assert said.status == 1
    assert not said.answer.flows
    assert "no packet to 10.96.7.7:81/TCP" in said.answer.advice[0]


def test_others_are_left_out(world: Lab) -> None:
    other = world.pods[LOCAL].ipv4
    address = VIPS["pay"][0]
    said = trace(
        world,
        NODE.name,
        [place(address, 80), f"--from={other}", "--timeout=20s"],
        lambda: [world.connect(sender, address, 80) for sender in (CLIENT_POD, LOCAL)],
    )
    assert other in said.flow.client


def test_several_connections(world: Lab) -> None:
    address = VIPS["pay"][0]
    said = trace(
        world,
        NODE.name,
        [place(address, 80), "--count=3", "--timeout=20s"],
        lambda: world.connect_many(CLIENT_POD, address, 80, count=3),
    )
    assert said.status == 0
    assert len({flow.client for flow in said.answer.flows}) == 3


def test_fewer_connections_than_asked_for(world: Lab) -> None:
    address = VIPS["pay"][0]
    said = trace(
        world,
        NODE.name,
        [place(address, 80), "--count=2", "--timeout=4s"],
        lambda: world.connect(CLIENT_POD, address, 80),
    )
    assert (said.status, said.flow.outcome) == (1, Outcome.REACHED)
    assert said.answer.advice[0] == "1 of 2 connections came within 4 s."


def tables(lab: Lab) -> list[str]:
    listed = lab.exec(NODE.name, ["nft", "list", "tables"]).splitlines()
    return [line for line in listed if TABLES in line]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_it_nothing_is_left(world: Lab, number: signal.Signals) -> None:
    with started(world, NODE.name, [place(VIPS["pay"][1], 80)]) as process:
        assert len(tables(world)) == 1
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert tables(world) == []
    assert (out, err) == ("", "")


def test_a_running_headgate_sees_no_drift(world: Lab) -> None:
    daemon = world.headgate(NODE.name)
    known = len(daemon.lines)
    for address in VIPS["pay"]:
        traced(world, CLIENT_POD, address)
    world.wait_synced()
    said = [line.text for line in daemon.lines[known:] if '"Synced"' not in line.text]
    assert not [text for text in said if "rift" in text or "oreign" in text]
