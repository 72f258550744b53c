"""What does a look at a machine see, and what does it cost where there is much to see?"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from endpoints.explain import Forward, Hop, Packet, walk
from endpoints.names import Family, Protocol
from endpoints.plan import Endpoint
from proxy.facts.facts import Facts, Link
from proxy.facts.finding import Cause
from proxy.facts.machine import MOST_FLOWS, MOST_ROUTES, facts, flows
from proxy.facts.routing import MOST_ENDPOINTS, ways
from tests.kernel.conntrack.table import Table
from tests.kernel.facts.crowd import crowd
from tests.kernel.facts.world import NODE, PEER, POD, POD_1, VIP, World, service
from tests.lab import namespaces, sandbox
from tests.lab.probes import Outcome, Target
from tests.unit.conntrack.flowing import flow
from tests.unit.endpoints.build import NODE_A

_MOST = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_MANY = 100_000
DNS = Packet("203.0.113.7", "10.96.0.10", 53, Protocol.UDP)


@pytest.fixture
def network() -> Iterator[None]:
    with sandbox.own_network():
        namespaces.loopback_up()
        yield


@pytest.fixture
def table(network: None) -> Iterator[Table]:  # noqa: ARG001
    made = Table()
    yield made
    made.close()


def ip(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def link(found: Facts, name: str) -> Link:
    seen = found.link(name)
    assert seen is not None
    return seen


@pytest.mark.usefixtures("network")
def test_links_and_routes_are_seen_as_they_are() -> None:
    ip(
        "link add cni0 type bridge nf_call_iptables 1",
        "link add veth1 type veth peer name eth9",
        "link set veth1 master cni0 up",
        "link set veth1 type bridge_slave hairpin on",
        "address add 10.244.1.1/24 dev cni0",
        "address add fd00:10:244:1::1/64 dev cni0 nodad",
        "link set cni0 up",
        "route add 10.244.2.0/24 via 10.244.1.9",
        "route add default nexthop via 10.244.1.7 nexthop via 10.244.1.8",
        "route add blackhole 10.244.3.0/24 table 77",
        "route add unreachable fd00:10:244:2::/64",
    )
    Path("/proc/sys/net/ipv4/conf/cni0/rp_filter").write_text("2")
    Path("/proc/sys/net/ipv4/conf/veth1/forwarding").write_text("1")
    found = facts()
    assert (bridge := link(found, "cni0")).kind == "bridge"
    assert bridge.addresses == ("10.244.1.1/24", "fd00:10:244:1::1/64")
    assert (bridge.is_up, bridge.has_carrier, bridge.rp_filter) == (True, False, 2)
    assert bridge.calls == {Family.IPV4}
    assert bridge.forwards[Family.IPV4] is False
    port = link(found, "veth1")
    assert (port.kind, port.master, port.hairpin) == ("veth", "cni0", True)
    assert port.forwards[Family.IPV4] is True
    assert link(found, "eth9").is_up is False
    assert found.receiver("veth1") == found.receiver("cni0") == "cni0"
    assert found.receiver("nosuch") == found.receiver(None) == ""
    assert {(r.network, r.interface, r.gateway, r.kind, r.table) for r in found.routes} >= {
        ("10.244.2.0/24", "cni0", "10.244.1.9", "unicast", 254),
        ("0.0.0.0/0", "cni0", "10.244.1.7", "unicast", 254),
        ("0.0.0.0/0", "cni0", "10.244.1.8", "unicast", 254),
        ("10.244.3.0/24", "", "", "blackhole", 77),
    }
    assert any(r.kind == "unreachable" and r.network == "fd00:10:244:2::/64" for r in found.routes)
    assert found.number("net.ipv4.ip_forward") == 0
    assert msgspec.json.decode(msgspec.json.encode(found), type=Facts) == found


@pytest.mark.usefixtures("network")
def test_addresses_of_services_are_not_the_machines() -> None:
    ip(
        "link add kube-ipvs0 type bridge",
        "address add 10.96.7.7/32 dev kube-ipvs0",
        "address add 127.0.0.9/8 dev lo",
    )
    found = facts()
    assert link(found, "kube-ipvs0").addresses == ()
    assert found.is_own("127.0.0.9")
    assert not found.is_own("10.96.7.7")


@pytest.mark.usefixtures("network")
def test_programs_say_their_versions_if_asked() -> None:
    assert facts().tools == {}
    assert "v" in facts(tools=True).tools["nft"]


def test_the_flows_of_one_client_or_of_all(table: Table) -> None:
    mine = [
        flow("10.96.0.10:53", "10.244.1.2:5353"),
        flow("[fd00:10:96::10]:53", "[fd00:10:244:1::2]:5353"),
    ]
    table.track(
        [
            *mine,
            flow("[fd00:10:96::11]:53", "[fd00:10:96::10]:53"),
            flow("10.96.0.10:54", "10.244.1.2:5353"),
            flow("10.96.0.11:53", "10.244.1.2:53"),
        ]
    )
    (found,) = flows(DNS)
    assert found.flow.original == mine[0].original
    assert found.state == "REPLIED"
    assert 590 < found.seconds_left <= 600
    (found,) = flows(Packet("2001:db8:203::7", "fd00:10:96::10", 53, Protocol.UDP))
    assert found.flow.reply == mine[1].reply
    other = msgspec.structs.replace(DNS, source="203.0.113.8")
    assert flows(other) == ()
    assert len(flows(other, of_client=False)) == 1


@pytest.mark.usefixtures("network")
def test_flows_among_a_hundred_thousand_take_no_time() -> None:
    crowd("10.96.0.10", 53, _MANY)
    began = time.perf_counter()
    mine = flows(DNS)
    of_one = time.perf_counter() - began
    some = flows(DNS, of_client=False)
    of_all = time.perf_counter() - began - of_one
    assert mine == ()
    assert len(some) == MOST_FLOWS
    assert of_one < 0.5, of_one  # 0.03 s on an idle machine
    assert of_all < 1.5, of_all  # 0.25 s


@pytest.mark.usefixtures("network")
def test_a_machine_with_much_on_it_is_seen_in_no_time() -> None:
    ip(
        "link add cni0 type bridge",
        "address add 10.244.0.1/16 dev cni0",
        "link set cni0 up",
        *(f"link add veth{n} type veth peer name eth{n}" for n in range(200)),
        *(f"route add 10.{100 + n // 250}.{n % 250}.0/24 via 10.244.0.2" for n in range(3000)),
    )
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    hops = frozenset(
        Hop(Endpoint(f"10.244.{n // 250}.{n % 250 + 3}", 8080), masqueraded=False)
        for n in range(1000)
    )
    packet = Packet("10.244.9.9", VIP, 80, Protocol.TCP)
    explanation = walk((), NODE_A, packet)
    explanation = msgspec.structs.replace(explanation, verdict=Forward(hops))
    began = time.perf_counter()
    found = facts()
    seen = ways(packet, explanation, found)
    took = time.perf_counter() - began
    assert found.has_more_routes
    assert len(found.routes) == MOST_ROUTES
    assert len(seen.there) == len(seen.back) == MOST_ENDPOINTS
    assert all(way.interface == "cni0" and not way.error for way in (*seen.there, *seen.back))
    assert took < 0.5, took  # 0.05 s on an idle machine


def test_a_full_table_loses_new_connections() -> None:
    sandbox.require_sandbox()
    with World() as world:
        world.serve(service(PEER))
        assert world.reach(POD_1, Target(VIP, 80)).kind is Outcome.ANSWERED
        world.network.run(NODE, ["conntrack", "-F"])  # what would end soon, and make room
        with namespaces.inside(world.network[NODE]):
            crowd("192.0.2.1", 9, int(_MOST.read_text()) + 1, until_full=True)
        assert world.reach(POD_1, Target(VIP, 80)).kind is Outcome.TIMEOUT
        (found,) = world.findings(POD[POD_1])
        assert (found.cause, found.breaks) == (Cause.CONNTRACK_FULL, True)
        world.network.run(NODE, ["conntrack", "-F"])
        assert world.reach(POD_1, Target(VIP, 80)).kind is Outcome.ANSWERED
        assert world.findings(POD[POD_1]) == ()
