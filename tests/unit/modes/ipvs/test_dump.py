"""Is an operator told what virtual servers and sets mean?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import pytest

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import ServicePlan
from modes.held import (
    DumpedFrontend,
    DumpedReal,
    DumpedServer,
    DumpedService,
    DumpedTraffic,
)
from modes.ipvs import ipsets
from modes.ipvs.adopt import Found
from modes.ipvs.draining import entry
from modes.ipvs.dump import services_in
from modes.ipvs.fragment import Choice, render
from modes.ipvs.ipsets import FOREIGN, Element, Entry, Extra, FoundSet, Kind, SetName, at
from modes.ipvs.marks import Layout, Marks
from modes.ipvs.servers import (
    SCHEDULER_2,
    FoundReal,
    FoundServer,
    RealServer,
    ServerKey,
    Traffic,
    VirtualServer,
)
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

NODE = NodeView(
    "node-a",
    addresses=frozenset({"192.0.2.10", "192.0.2.11", "127.0.0.1"}),
    node_ports_v4=NodePortAddresses(match_all=True),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16",)),
)
LAYOUT = Layout(14)
BOTH = pods("10.244.1.2", "10.244.2.2")
SHOWN = ("10.244.1.2:8080", "10.244.2.2:8080")
TRAFFIC = Traffic(3, 30, 20, 3000, 2000)
COUNTED = DumpedTraffic(3, 30, 20, 3000, 2000)
HERE, THERE = (DumpedReal(endpoint, 1, 2, 1, COUNTED) for endpoint in SHOWN)
MARK = "mark 0x4b000001"


def held(
    *plans: ServicePlan,
    server: VirtualServer = VirtualServer(),  # noqa: B008 (frozen)
    named: bool = True,
) -> Found:
    """What the kernel holds of some Services, and of nobody else."""
    choice = Choice(Marks(LAYOUT, {}).of, lambda _: server)
    sets: dict[SetName, dict[Element, Extra]] = {}
    for family in Family if named else ():
        sets[SetName(Kind.VIRTUAL_SERVERS, family)] = {}
    servers = {}
    fragment = render(plans, NODE, choice)
    for one in fragment.shared:
        sets.setdefault(one.set, {})[one.element] = ipsets.PLAIN
    for (name, element), extra in fragment.entries.items():
        sets.setdefault(name, {})[element] = extra
    for key, wanted in fragment.servers.items():
        reals = {real: FoundReal(1, 2, 1, 0, TRAFFIC) for real in wanted.reals}
        servers[key] = FoundServer(wanted.server, reals, TRAFFIC)
    return Found(
        servers,
        {name: FoundSet(ipsets.spec(name), elements) for name, elements in sets.items()},
        fragment.addresses,
    )


def virtual(name: str, *reals: DumpedReal, scheduler: str = "rr") -> DumpedServer:
    return DumpedServer(name, scheduler, reals, COUNTED)


def shown(found: Found) -> list[tuple[str, int, str, str]]:
    """Address, port, policy and rule of every frontend of the only Service."""
    (told,) = services_in(found, LAYOUT)
    return [(f.address, f.port, f.policy, f.rule) for f in told.frontends]


def put(found: Found, entries: Mapping[Entry, Extra]) -> Found:
    """The same, with more in its sets."""
    sets = dict(found.sets)
    for (name, element), extra in entries.items():
        before = sets[name].elements if name in sets else {}
        sets[name] = FoundSet(ipsets.spec(name), {**before, element: extra})
    return Found(found.servers, sets, found.addresses)


def without(found: Found, kinds: Iterable[Kind]) -> Found:
    gone = set(kinds)
    sets = {name: of for name, of in found.sets.items() if name.kind not in gone}
    return Found(found.servers, sets, found.addresses)


def test_a_service_with_all_frontends() -> None:
    made = plan_of(
        node_port(30080, LOCAL),
        balancer("198.51.100.4", policy=LOCAL, ranges=["198.18.0.0/25", "198.51.100.4/32"]),
        external_ip("198.51.100.9", policy=LOCAL),
        cluster_ip("10.96.7.7"),
        cluster=BOTH,
        affinity_seconds=90,
    )
    (told,) = services_in(held(made), LAYOUT)
    marked = virtual(f"{MARK} (IPv4)", HERE, THERE)
    bypass = f"rr (pods: {MARK} rr)"
    both = "Local (pods: Cluster)"
    ports = [virtual(f"TCP 192.0.2.{host}:30080", HERE) for host in (10, 11)]
    assert told == DumpedService(
        name="shop/pay:http",
        protocol="TCP",
        family="IPv4",
        frontends=(
            DumpedFrontend(
                "10.96.7.7",
                80,
                "Cluster",
                "KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 rr",
                SHOWN,
                servers=(virtual("TCP 10.96.7.7:80", HERE, THERE),),
                new_flows=3,
            ),
            DumpedFrontend(
                "198.51.100.4",
                80,
                both,
                f"KUBE-LOAD-BALANCER -> TCP 198.51.100.4:80 {bypass}",
                SHOWN,
                SHOWN[:1],
                ("198.18.0.0/25", "198.51.100.4/32"),
                (virtual("TCP 198.51.100.4:80", HERE), marked),
                new_flows=3,
            ),
            DumpedFrontend(
                "198.51.100.9",
                80,
                both,
                f"KUBE-EXTERNAL-IP-LOCAL -> TCP 198.51.100.9:80 {bypass}",
                SHOWN,
                SHOWN[:1],
                servers=(virtual("TCP 198.51.100.9:80", HERE), marked),
                new_flows=3,
            ),
            DumpedFrontend(
                "node",
                30080,
                both,
                f"KUBE-NODE-PORT-TCP -> TCP 192.0.2.10:30080 rr and 1 more (pods: {MARK} rr)",
                SHOWN,
                SHOWN[:1],
                servers=(*ports, marked),
                new_flows=6,
            ),
        ),
        affinity_seconds=90,
        # Of all virtual servers; the other one is in those of ClusterIP and mark alone.
        endpoint_flows={SHOWN[0]: 18, SHOWN[1]: 6},
    )


@pytest.mark.parametrize("protocol", Protocol)
def test_external_policy_cluster(protocol: Protocol) -> None:
    name = ServicePortName("shop", "pay", "http", protocol)
    frontends = (external_ip("198.51.100.9"), balancer("198.51.100.4"), node_port(30080))
    set_of_ports = f"KUBE-NODE-PORT-{protocol}" + ("-HASH" if protocol == "SCTP" else "")
    assert shown(held(plan_of(*frontends, cluster=BOTH, name=name))) == [
        ("198.51.100.4", 80, "Cluster", f"KUBE-LOAD-BALANCER -> {protocol} 198.51.100.4:80 rr"),
        ("198.51.100.9", 80, "Cluster", f"KUBE-EXTERNAL-IP -> {protocol} 198.51.100.9:80 rr"),
        ("node", 30080, "Cluster", f"{set_of_ports} -> {protocol} 192.0.2.10:30080 rr and 1 more"),
    ]


def test_where_the_internal_policy_makes_no_difference_it_is_not_known() -> None:
    made = plan_of(cluster_ip("10.96.7.7", policy=LOCAL), cluster=BOTH)
    way = "KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 rr"
    assert shown(held(made)) == [("10.96.7.7", 80, "Cluster or Local", way)]
    assert shown(without(held(made), [Kind.LOOP_BACK])) == [("10.96.7.7", 80, "Cluster", way)]


def test_who_refuses() -> None:
    ranges = ["203.0.113.0/24"]
    frontends = (
        cluster_ip("10.96.7.7"),
        balancer("198.51.100.4", ranges=ranges),
        node_port(30080, LOCAL),
    )
    found = held(plan_of(*frontends))
    refusal = "KUBE-NO-ENDPOINTS -> KUBE-REFUSE"
    assert shown(found) == [
        ("10.96.7.7", 80, "Cluster", f"KUBE-CLUSTER-IP -> {refusal}"),
        ("198.51.100.4", 80, "Cluster", f"KUBE-LOAD-BALANCER -> {refusal}"),
        ("node", 30080, "Local", f"KUBE-NODE-PORT-TCP -> {refusal}"),
    ]
    (told,) = services_in(found, LAYOUT)
    assert [f.source_ranges for f in told.frontends] == [(), ("203.0.113.0/24",), ()]
    assert not any(f.endpoints or f.local_endpoints or f.servers for f in told.frontends)


def test_who_drops() -> None:
    frontends = (cluster_ip("10.96.7.7", policy=LOCAL), balancer("198.51.100.4", policy=LOCAL))
    (told,) = services_in(held(plan_of(*frontends, cluster=BOTH[1:])), LAYOUT)
    inside, outside = told.frontends
    drop = "KUBE-NO-LOCAL-ENDPOINTS -> DROP"
    assert (inside.policy, inside.rule) == ("Local", f"KUBE-CLUSTER-IP -> {drop}")
    assert (told.name, outside.policy) == ("shop/pay:http", "Local (pods: Cluster)")
    assert outside.rule == f"KUBE-LOAD-BALANCER -> {drop} (pods: {MARK} rr)"
    assert (outside.endpoints, outside.local_endpoints) == (SHOWN[1:], ())
    assert [server.name for server in outside.servers] == [f"{MARK} (IPv4)"]
    assert (inside.new_flows, outside.new_flows) == (None, None)
    assert told.endpoint_flows == {SHOWN[1]: 3}


def test_who_drains_takes_nothing_new_and_has_a_deadline() -> None:
    key = ServerKey(Family.IPV4, Protocol.TCP, "10.96.7.7", 80)
    found = held(plan_of(cluster_ip("10.96.7.7"), cluster=BOTH))
    gone, forgotten = RealServer("10.244.2.9", 8080), RealServer("10.244.2.8", 8080)
    reals = {
        **found.servers[key].reals,
        gone: FoundReal(0, active=1),
        forgotten: FoundReal(0),
    }
    found.servers = {key: msgspec.structs.replace(found.servers[key], reals=reals)}
    (told,) = services_in(put(found, {entry(key, gone): Extra(timeout_seconds=840)}), LAYOUT)
    (frontend,) = told.frontends
    assert frontend.endpoints == SHOWN
    assert frontend.servers[0].reals[2:] == (
        DumpedReal("10.244.2.8:8080", 0, 0, 0),
        DumpedReal("10.244.2.9:8080", 0, 1, 0, seconds_left=840),
    )


def test_node_ports_that_differ_are_told_apart() -> None:
    found = held(plan_of(node_port(30080), cluster=BOTH))
    first, second = sorted(found.servers)
    lame = msgspec.structs.replace(found.servers[second], reals={})
    found.servers = {first: found.servers[first], second: lame}
    assert [(a, rule) for a, _, _, rule in shown(found)] == [
        ("192.0.2.10", "KUBE-NODE-PORT-TCP -> TCP 192.0.2.10:30080 rr"),
        ("192.0.2.11", "KUBE-NODE-PORT-TCP -> TCP 192.0.2.11:30080 rr"),
    ]


def test_a_virtual_server_that_is_not_there_though_a_set_says_so() -> None:
    found = held(plan_of(cluster_ip("10.96.7.7"), external_ip("198.51.100.9"), cluster=BOTH))
    found.servers = {}
    found = without(found, [Kind.EXTERNAL_IP])
    assert [rule for *_, rule in shown(found)] == [
        "KUBE-CLUSTER-IP -> no virtual server",
        "no virtual server",
    ]


def test_a_scheduler_with_flags() -> None:
    made = plan_of(cluster_ip("fd00:10:96::a", 53), cluster=pods("fd00:10:244:2::2"))
    (told,) = services_in(held(made, server=VirtualServer("mh", SCHEDULER_2)), LAYOUT)
    assert told.family == "IPv6"
    assert told.affinity_seconds is None
    assert told.frontends[0].rule == "KUBE-6-CLUSTER-IP -> TCP [fd00:10:96::a]:53 mh mh-port"
    assert told.frontends[0].endpoints == ("[fd00:10:244:2::2]:8080",)
    assert told.frontends[0].servers[0].scheduler == "mh mh-port"


def test_what_is_somebody_elses_is_passed_over() -> None:
    key = ServerKey(Family.IPV4, Protocol.TCP, "10.96.7.7", 81)
    found = held(plan_of(cluster_ip("10.96.7.7"), cluster=BOTH))
    found.servers = {
        **found.servers,
        key: FoundServer(VirtualServer(), {}),
        ServerKey(Family.IPV4, mark=7): FoundServer(VirtualServer(), {}),
    }
    registry = SetName(Kind.VIRTUAL_SERVERS, Family.IPV4)
    here = at("10.96.7.7", 81, Protocol.TCP)
    bypass = Entry(SetName(Kind.LOCAL_BYPASS, Family.IPV4), here)
    strange = Entry(bypass.set, at("10.96.7.7", 80, Protocol.TCP))
    for entries in (
        {},
        {Entry(registry, here): FOREIGN},
        {Entry(registry, here): FOREIGN, bypass: Extra("shop/pay:tls", 7)},
    ):
        (told,) = services_in(put(found, entries), LAYOUT)
        assert [f.port for f in told.frontends] == [80]
    (told,) = services_in(put(found, {strange: Extra("shop/pay:http", 7)}), LAYOUT)
    assert [server.name for server in told.frontends[0].servers] == ["TCP 10.96.7.7:80"]


def test_what_kube_proxy_left_has_no_names() -> None:
    frontends = (
        cluster_ip("10.96.7.7"),
        external_ip("198.51.100.9", policy=LOCAL),
        node_port(30080),
    )
    left = without(
        held(plan_of(*frontends, cluster=BOTH), named=False),
        [Kind.LOCAL_BYPASS, Kind.VIRTUAL_SERVERS],
    )
    others = [
        ServerKey(Family.IPV4, Protocol.TCP, "10.96.7.7", 30080),  # no address of the node
        ServerKey(Family.IPV4, Protocol.TCP, "192.0.2.10", 8443),
    ]
    left.servers = {**left.servers, **dict.fromkeys(others, FoundServer(VirtualServer(), {}))}
    (told,) = services_in(left, LAYOUT)
    assert told.name == "(not ours)"
    assert [(f.address, f.policy, f.rule) for f in told.frontends] == [
        ("10.96.7.7", "Cluster", "KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 rr"),
        ("198.51.100.9", "Local", "KUBE-EXTERNAL-IP-LOCAL -> TCP 198.51.100.9:80 rr"),
        ("node", "Cluster", "KUBE-NODE-PORT-TCP -> TCP 192.0.2.10:30080 rr and 1 more"),
    ]


def test_services_are_told_apart_by_name_protocol_and_family() -> None:
    dns = [ServicePortName("kube-system", "dns", "dns", p) for p in (Protocol.UDP, Protocol.TCP)]
    pod = pods("fd00:10:244:1::2")
    told = services_in(
        held(
            plan_of(cluster_ip("fd00:10:96::a", 53), cluster=pod, name=dns[0]),
            plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[0]),
            plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[1]),
        ),
        LAYOUT,
    )
    assert [(s.name, s.protocol, s.family) for s in told] == [
        ("kube-system/dns:dns", "TCP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv6"),
    ]


def test_a_kernel_that_holds_nothing() -> None:
    assert services_in(Found({}, {}, frozenset()), LAYOUT) == ()
