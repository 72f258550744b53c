"""Does each finding come exactly when a real packet is lost for its cause?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from proxy.facts.finding import Cause, Finding
from tests.kernel.facts.world import (
    CLIENT,
    NODE,
    NODE_PORT,
    PEER,
    POD,
    POD6,
    POD_1,
    POD_2,
    VIP,
    VIP6,
    World,
    service,
)
from tests.lab import sandbox
from tests.lab.probes import Outcome, Target

TO_VIP = Target(VIP, 80)
UDP_TO_VIP = Target(VIP, 80, Protocol.UDP)
FROM_CLIENT = Target(VIP, 80, source=CLIENT)


@pytest.fixture
def world() -> Iterator[World]:
    sandbox.require_sandbox()
    with World() as built:
        yield built


def causes(found: tuple[Finding, ...]) -> list[tuple[Cause, bool]]:
    return [(finding.cause, finding.breaks) for finding in found]


def follow(world: World, remedy: str) -> None:
    """Do on the node what a remedy says, as far as it is a command."""
    world.network.run(NODE, shlex.split(remedy.partition(",")[0]))


def test_a_healthy_node_has_no_findings(world: World) -> None:
    for plan, source, to in (
        (service(POD_1, POD_2, PEER), POD[POD_1], VIP),
        (service(POD_1, POD_2, PEER), CLIENT, VIP),
        (service(POD_1, POD_2, PEER, ipv6=True), POD6[POD_1], VIP6),
        (service(PEER, protocol=Protocol.UDP), POD[POD_2], VIP),
    ):
        world.serve(plan)
        machine = PEER if source == CLIENT else POD_1 if source.endswith("2") else POD_2
        target = Target(to, 80, plan.name.protocol, source)
        assert world.reach(machine, target).kind is Outcome.ANSWERED
        assert world.findings(source, to) == ()


def test_rp_filter_drops_what_comes_by_another_link(world: World) -> None:
    world.serve(service(POD_1))
    world.configure(NODE, "link add ptp0 type veth peer name ptp1\nlink set ptp0 up")
    world.configure(NODE, "link set ptp1 up\naddress add 10.244.1.1/32 dev ptp0")  # as to one pod
    world.sysctl("ipv4/conf/ptp0/rp_filter", 1)
    assert world.reach(PEER, FROM_CLIENT).kind is Outcome.ANSWERED
    assert world.findings(CLIENT, interface="eth1") == ()

    world.sysctl("ipv4/conf/eth1/rp_filter", 1)
    assert world.findings(CLIENT) == ()  # nothing was dropped, and nobody said where it arrives
    assert world.reach(PEER, FROM_CLIENT).kind is Outcome.TIMEOUT
    (found,) = world.findings(CLIENT, interface="eth1")
    assert (found.cause, found.breaks) == (Cause.REVERSE_PATH, True)
    assert found.text == (
        "rp_filter=1 drops what arrives on eth1 from 203.0.113.7 and goes to 10.244.1.2: "
        "the way back is by eth0"
    )
    (suspected,) = world.findings(CLIENT)
    assert (suspected.cause, suspected.breaks) == (Cause.REVERSE_PATH, False)
    assert "if they arrive on eth1:" in suspected.text
    assert world.findings(CLIENT, interface="eth0") == ()
    assert world.findings(POD[POD_2], interface="veth2") == ()

    follow(world, found.remedy)
    assert world.reach(PEER, FROM_CLIENT).kind is Outcome.ANSWERED
    assert world.findings(CLIENT, interface="eth1") == ()


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_no_route_to_the_pod(world: World, *, ipv6: bool) -> None:
    world.serve(service(PEER, ipv6=ipv6))
    vip, pods = (VIP6, POD6) if ipv6 else (VIP, POD)
    network = "fd00:10:244:2::/64" if ipv6 else "10.244.2.0/24"
    assert world.reach(POD_1, Target(vip, 80)).kind is Outcome.ANSWERED
    assert world.findings(pods[POD_1], vip) == ()

    world.configure(NODE, f"route del {network}")
    assert world.reach(POD_1, Target(vip, 80)).kind is not Outcome.ANSWERED
    (found,) = world.findings(pods[POD_1], vip)
    assert (found.cause, found.breaks) == (Cause.NO_ROUTE, True)
    assert found.text == f"packets to {pods[PEER]} on node-b go nowhere: there is no route to it"

    world.configure(NODE, f"route add blackhole {network}")
    assert world.reach(POD_1, Target(vip, 80)).kind is not Outcome.ANSWERED
    (found,) = world.findings(pods[POD_1], vip)
    assert f"the route `blackhole {network}` takes it" in found.text


def test_a_default_route_leads_to_pods_in_some_networks_only(world: World) -> None:
    world.serve(service(PEER))
    world.configure(NODE, "route replace default via 192.168.0.12")
    world.configure(NODE, "route del 10.244.2.0/24")
    assert world.reach(POD_1, TO_VIP).kind is Outcome.ANSWERED
    assert world.findings(POD[POD_1]) == ()  # as in a cloud

    world.configure(NODE, "route add 10.244.3.0/24 via 192.168.0.13")
    (found,) = world.findings(POD[POD_1])
    assert (found.cause, found.breaks) == (Cause.NO_ROUTE, False)
    assert "10.244.3.0/24 by 192.168.0.13" in found.text


def test_no_route_back_to_the_client(world: World) -> None:
    world.serve(service(POD_1))
    world.configure(NODE, "route del 203.0.113.0/24")
    assert world.reach(PEER, FROM_CLIENT).kind is not Outcome.ANSWERED
    assert causes(world.findings(CLIENT, interface="eth1")) == [(Cause.NO_ROUTE, True)]
    assert causes(world.findings(CLIENT)) == [(Cause.NO_ROUTE, True)]


def test_what_the_node_itself_asks_for_needs_a_route_of_its_own(world: World) -> None:
    world.serve(service(POD_1))
    assert world.reach(NODE, TO_VIP).kind is not Outcome.ANSWERED
    (found,) = world.findings("192.168.0.11")
    assert (found.cause, found.breaks) == (Cause.NO_ROUTE, True)
    assert "this node sends nothing to 10.96.7.7" in found.text

    world.configure(NODE, "route add default via 192.168.0.12")
    assert world.reach(NODE, TO_VIP).kind is Outcome.ANSWERED
    assert world.findings("192.168.0.11") == ()


def test_a_bridge_that_is_down_and_a_link_without_carrier(world: World) -> None:
    world.serve(service(PEER))
    world.configure(PEER, "link set eth0 down")
    assert world.reach(POD_1, TO_VIP).kind is not Outcome.ANSWERED
    (found,) = world.findings(POD[POD_1])
    assert (found.cause, found.breaks) == (Cause.LINK_DOWN, True)
    assert found.text == "interface eth0, which leads to 10.244.2.2, has no carrier"

    world.configure(PEER, "link set eth0 up")
    world.serve(service(POD_1))
    world.configure(NODE, "link set cni0 down")
    (found,) = world.findings(CLIENT)
    assert found.text == "interface cni0, whose network holds 10.244.1.2, is down"
    follow(world, found.remedy)
    assert world.findings(CLIENT) == ()


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_forwarding_is_off(world: World, *, ipv6: bool) -> None:
    sysctl = "net.ipv6.conf.all.forwarding" if ipv6 else "net.ipv4.ip_forward"
    vip, pods = (VIP6, POD6) if ipv6 else (VIP, POD)
    world.serve(service(PEER, ipv6=ipv6))
    world.sysctl(sysctl.removeprefix("net.").replace(".", "/"), 0)
    assert world.reach(POD_1, Target(vip, 80)).kind is not Outcome.ANSWERED
    (found,) = world.findings(pods[POD_1], vip)
    assert (found.cause, found.breaks) == (Cause.NOT_FORWARDING, True)
    assert found.text.startswith(f"{sysctl} is 0")

    follow(world, found.remedy)
    assert world.reach(POD_1, Target(vip, 80)).kind is Outcome.ANSWERED
    assert world.findings(pods[POD_1], vip) == ()


def test_forwarding_is_off_on_the_link_of_the_answers(world: World) -> None:
    world.serve(service(PEER))
    world.sysctl("ipv4/conf/eth0/forwarding", 0)
    assert world.reach(POD_1, TO_VIP).kind is not Outcome.ANSWERED
    (found,) = world.findings(POD[POD_1])
    assert (found.cause, found.breaks) == (Cause.NOT_FORWARDING, True)
    assert found.text.startswith("net.ipv4.conf.eth0.forwarding is 0")


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_answers_within_a_bridge(world: World, *, ipv6: bool) -> None:
    name = f"bridge/bridge-nf-call-{'ip6tables' if ipv6 else 'iptables'}"
    vip, pods = (VIP6, POD6) if ipv6 else (VIP, POD)
    world.serve(service(POD_2, ipv6=ipv6))
    assert world.reach(POD_1, Target(vip, 80)).kind is Outcome.ANSWERED
    assert world.findings(pods[POD_1], vip) == ()

    world.sysctl(name, 0)
    assert world.reach(POD_1, Target(vip, 80)).kind is Outcome.TIMEOUT
    (found,) = world.findings(pods[POD_1], vip)
    assert (found.cause, found.breaks) == (Cause.BRIDGE_BYPASS, True)
    assert f"{pods[POD_2]} answers {pods[POD_1]} within bridge cni0" in found.text
    assert world.findings(CLIENT) == () or ipv6  # masqueraded, and not of this bridge

    follow(world, found.remedy)
    assert world.reach(POD_1, Target(vip, 80)).kind is Outcome.ANSWERED


def test_a_pod_reaches_itself_only_by_a_port_with_hairpin_mode(world: World) -> None:
    world.serve(service(POD_1))
    assert world.reach(POD_1, TO_VIP).kind is Outcome.ANSWERED
    assert world.findings(POD[POD_1]) == ()

    for port in ("veth1", "veth2"):
        world.configure(NODE, f"link set {port} type bridge_slave hairpin off")
    assert world.reach(POD_1, TO_VIP).kind is Outcome.TIMEOUT
    assert causes(world.findings(POD[POD_1])) == [(Cause.HAIRPIN, True)]
    assert world.findings(POD[POD_2]) == ()

    world.sysctl("bridge/bridge-nf-call-iptables", 0)  # then it is routed, and comes by the bridge
    assert world.reach(POD_1, TO_VIP).kind is Outcome.ANSWERED
    assert world.findings(POD[POD_1]) == ()


def test_localhost_needs_route_localnet(world: World) -> None:
    world.configure(NODE, "route add default via 192.168.0.12")
    world.serve(service(POD_1), localhost="127.0.0.1")
    target = Target("127.0.0.1", NODE_PORT)
    world.sysctl("ipv4/conf/all/route_localnet", 0)
    assert world.reach(NODE, target).kind is not Outcome.ANSWERED
    (found,) = world.findings("127.0.0.1", "127.0.0.1", port=NODE_PORT)
    assert (found.cause, found.breaks) == (Cause.LOCALHOST, True)

    follow(world, found.remedy)
    assert world.reach(NODE, target).kind is Outcome.ANSWERED
    assert world.findings("127.0.0.1", "127.0.0.1", port=NODE_PORT) == ()


def test_a_udp_flow_that_outlived_its_endpoint(world: World) -> None:
    world.serve(service(PEER, protocol=Protocol.UDP))
    held = world.hold(POD_1, UDP_TO_VIP)
    assert held.hear().by == PEER
    assert world.findings(POD[POD_1]) == ()

    world.serve(service(POD_2, protocol=Protocol.UDP))
    assert held.ask().by == PEER  # which is no endpoint now
    (found,) = world.findings(POD[POD_1])
    assert (found.cause, found.breaks) == (Cause.STALE_FLOW, True)
    assert "to 10.244.2.2:8080, which is no endpoint that serves it" in found.text
    assert world.findings(POD[POD_2]) == ()  # another client's flows are not its own

    follow(world, found.remedy)
    assert held.ask().by == POD_2
    assert world.findings(POD[POD_1]) == ()
    held.close()


def test_a_udp_flow_from_before_the_rules(world: World) -> None:
    world.configure(NODE, "route add default via 192.168.0.12")
    world.serve()
    held = world.hold(POD_1, UDP_TO_VIP)
    assert held.hear().kind is not Outcome.ANSWERED
    world.serve(service(POD_2, protocol=Protocol.UDP))
    assert held.ask().kind is not Outcome.ANSWERED
    (found,) = world.findings(POD[POD_1])
    assert (found.cause, found.breaks) == (Cause.STALE_FLOW, True)
    assert "they began before the rules" in found.text

    follow(world, found.remedy)
    assert held.ask().by == POD_2
    held.close()
