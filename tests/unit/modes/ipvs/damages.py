"""What may go wrong with what IPVS was told, and whose is it then?"""

from __future__ import annotations

from collections.abc import Callable

from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from modes.base import ModeSettings, Plans
from modes.held import EVERYTHING, DifferenceKind, Only
from modes.ipvs.chains import skeleton
from modes.ipvs.ipsets import FOREIGN, PLAIN, Element, Entry, Extra, FoundSet, Kind, SetName, at
from modes.ipvs.marks import Layout
from modes.ipvs.mode import IpvsMode
from modes.ipvs.program import bound, registered
from modes.ipvs.seen import Seen, SeenRules
from modes.ipvs.servers import (
    PERSISTENT,
    FoundReal,
    FoundServer,
    RealServer,
    ServerKey,
    VirtualServer,
)
from modes.xtables.abilities import Abilities
from modes.xtables.delta import Program
from modes.xtables.listing import listed
from modes.xtables.listing import text as rules_text
from tests.unit.modes.ipvs.fake import Kernel, no_rules
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

MISSING, EXTRA, DIFFERENT = DifferenceKind
V4 = Family.IPV4
SETTINGS = ModeSettings()
NODE = NodeView(
    "node-a",
    addresses=frozenset({"192.0.2.10", "127.0.0.1"}),
    node_ports_v4=NodePortAddresses(match_all=True),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16",)),
    holds_addresses=True,
)
PAY, DNS, IDLE = "shop/pay:http", "shop/dns:dns", "shop/idle"
BOTH, BOTH6 = pods("10.244.1.2", "10.244.2.2"), pods("fd00:10:244:1::2", "fd00:10:244:2::2")
SERVICES: dict[ObjectName, Plans] = {
    ObjectName("shop", "pay"): (
        plan_of(
            cluster_ip("10.96.7.7"),
            balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24"]),
            node_port(30080, LOCAL),
            cluster=BOTH,
        ),
        plan_of(cluster_ip("fd00:10:96::7"), external_ip("2001:db8::9"), cluster=BOTH6),
    ),
    ObjectName("shop", "dns"): (
        plan_of(
            cluster_ip("10.96.0.10", 53),
            cluster=BOTH,
            name=ServicePortName("shop", "dns", "dns", Protocol.UDP),
            affinity_seconds=90,
        ),
    ),
    ObjectName("shop", "idle"): (
        plan_of(cluster_ip("10.96.7.9"), name=ServicePortName("shop", "idle", "", Protocol.TCP)),
    ),
}
WEB = ServerKey(V4, Protocol.TCP, "10.96.7.7", 80)
PORT = ServerKey(V4, Protocol.TCP, "192.0.2.10", 30080)
MARK = ServerKey(V4, mark=0x4B000001)
AT_DNS = ServerKey(V4, Protocol.UDP, "10.96.0.10", 53)
HERE, THERE, GONE = (RealServer(f"10.244.{a}", 8080) for a in ("1.2", "2.2", "2.9"))
ASKED = {
    PAY: [Only("shop/pay"), Only(PAY), Only(address="10.96.7.7", port=80)],
    DNS: [Only("shop/dns"), Only(address="10.96.0.10", port=53, protocol=Protocol.UDP)],
    IDLE: [Only(IDLE), Only(address="10.96.7.9", port=80)],
}
"""Ways to ask for each."""


def told_kernel() -> Kernel:
    """One that a headgate has told of all Services."""
    made = Kernel()
    mode = IpvsMode(SETTINGS, lambda *_, **__: None, lambda: 0.0, made.machine)
    mode._rules = no_rules()
    mode.start(NODE)
    assert not mode.replace(SERVICES).failed
    return made


def seen(kernel: Kernel, only: Only = EVERYTHING) -> Seen:
    """What would be read of it, with rules and settings as they shall be."""
    saved = {}
    for family in Family:
        program = Program(family, skeleton(NODE, family, Abilities(), Layout(14)))
        saved[family] = "\n".join(rules_text(listed(program)))
    return Seen(
        only,
        dict(kernel.servers),
        {name: FoundSet(kernel.specs[name], dict(of)) for name, of in kernel.sets.items()},
        frozenset(kernel.link),
        SeenRules("nft", saved),
        {
            "ipv4/vs/conntrack": "1",
            "ipv4/vs/expire_nodest_conn": "1",
            "ipv4/vs/expire_quiescent_template": "1",
            "ipv4/ip_forward": "1",
        },
        frozenset({"rr", "sh"}),
        (6, 1),
    )


def drop(kernel: Kernel, *entries: Entry) -> None:
    for name, element in entries:
        del kernel.sets[name][element]


def put(kernel: Kernel, one: Entry, extra: Extra = PLAIN) -> None:
    kernel.sets[one.set][one.element] = extra


def reals(kernel: Kernel, key: ServerKey, changed: dict[RealServer, FoundReal | None]) -> None:
    """Give a virtual server other real ones; None: not this one."""
    of = kernel.servers[key]
    after = {**of.reals, **changed}
    kept = {real: at for real, at in after.items() if at is not None}
    kernel.servers[key] = FoundServer(of.server, kept)


def chooses(kernel: Kernel, key: ServerKey, server: VirtualServer) -> None:
    kernel.servers[key] = FoundServer(server, kernel.servers[key].reals)


IN_CLUSTER_IP = Entry(SetName(Kind.CLUSTER_IP, V4), at("10.96.7.7", 80, Protocol.TCP))
IN_BYPASS = Entry(SetName(Kind.LOCAL_BYPASS, V4), at("198.51.100.4", 80, Protocol.TCP))
IN_RANGES = Entry(
    SetName(Kind.LOAD_BALANCER_SOURCE_CIDR, V4),
    at("198.51.100.4", 80, Protocol.TCP, "203.0.113.0/24"),
)
NODE_PORT = Entry(SetName(Kind.NODE_PORT_TCP, V4), Element(port=30080))
HAIRPIN = Entry(SetName(Kind.LOOP_BACK, V4), at("10.244.1.2", 8080, Protocol.UDP, "10.244.1.2"))

WEB_ELEMENT = registered(WEB).element
NAMED, RR = "entry 10.96.7.7,tcp:80 in set KUBE-VIRTUAL-SERVERS", "rr, persistent"

DRIFTS: dict[str, tuple[Callable[[Kernel], object], str, DifferenceKind, str]] = {
    "virtual server deleted": (
        lambda kernel: kernel.servers.pop(WEB),
        PAY,
        MISSING,
        "virtual server TCP 10.96.7.7:80",
    ),
    "that of a mark": (
        lambda kernel: kernel.servers.pop(MARK),
        PAY,
        MISSING,
        "virtual server mark 0x4b000001 (IPv4)",
    ),
    "real server deleted": (
        lambda kernel: reals(kernel, WEB, {HERE: None}),
        PAY,
        MISSING,
        "real server 10.244.1.2:8080 of TCP 10.96.7.7:80",
    ),
    "real server added": (
        lambda kernel: reals(kernel, WEB, {RealServer("10.244.9.9", 8080): FoundReal(1)}),
        PAY,
        EXTRA,
        "real server 10.244.9.9:8080 of TCP 10.96.7.7:80",
    ),
    "weight of an endpoint that is wanted": (
        lambda kernel: reals(kernel, AT_DNS, {HERE: FoundReal(0)}),
        DNS,
        DIFFERENT,
        "real server 10.244.1.2:8080 of UDP 10.96.0.10:53 has weight 0, not 1",
    ),
    "scheduler": (
        lambda kernel: chooses(kernel, WEB, VirtualServer("sh", 0)),
        PAY,
        DIFFERENT,
        "virtual server TCP 10.96.7.7:80 chooses by sh, not rr",
    ),
    "persistence": (
        lambda kernel: chooses(kernel, AT_DNS, VirtualServer("rr", PERSISTENT, 360)),
        DNS,
        DIFFERENT,
        f"virtual server {AT_DNS} chooses by {RR} for 360 s, not {RR} for 90 s",
    ),
    "address": (
        lambda kernel: kernel.link.discard("10.96.7.7"),
        PAY,
        MISSING,
        "10.96.7.7 on kube-ipvs0",
    ),
    "element of a plain set": (
        lambda kernel: drop(kernel, IN_CLUSTER_IP),
        PAY,
        MISSING,
        "entry 10.96.7.7,tcp:80 in set KUBE-CLUSTER-IP",
    ),
    "name of a virtual server": (
        lambda kernel: drop(kernel, registered(WEB)),
        PAY,
        MISSING,
        NAMED,
    ),
    "another name": (
        lambda kernel: put(kernel, registered(WEB), Extra("shop/old:http")),
        PAY,
        DIFFERENT,
        f"{NAMED} has the name shop/old:http, not the name shop/pay:http",
    ),
    "one of the names of a mark": (
        lambda kernel: drop(kernel, IN_BYPASS),
        PAY,
        MISSING,
        "entry 198.51.100.4,tcp:80 in set KUBE-LOCAL-BYPASS",
    ),
    "source range": (
        lambda kernel: drop(kernel, IN_RANGES),
        PAY,
        MISSING,
        "entry 198.51.100.4,tcp:80,203.0.113.0/24 in set KUBE-LOAD-BALANCER-SOURCE-CIDR",
    ),
    "NodePort": (
        lambda kernel: drop(kernel, NODE_PORT),
        PAY,
        MISSING,
        "entry 30080 in set KUBE-NODE-PORT-TCP",
    ),
    "hairpin": (
        lambda kernel: drop(kernel, HAIRPIN),
        DNS,
        MISSING,
        "entry 10.244.1.2,udp:8080,10.244.1.2 in set KUBE-LOOP-BACK",
    ),
    "refusal": (
        lambda kernel: put(
            kernel,
            Entry(SetName(Kind.NO_ENDPOINTS, V4), WEB_ELEMENT),
            Extra("shop/pay:http"),
        ),
        PAY,
        EXTRA,
        "entry 10.96.7.7,tcp:80 in set KUBE-NO-ENDPOINTS",
    ),
    "what says that an address is ours": (
        lambda kernel: drop(kernel, bound("10.96.7.9")),
        IDLE,
        MISSING,
        "entry 10.96.7.9 in set KUBE-IPVS-IPS",
    ),
    "somebody else's virtual server": (
        lambda kernel: put(kernel, registered(WEB), FOREIGN),
        PAY,
        DIFFERENT,
        "virtual server TCP 10.96.7.7:80 is somebody else's",
    ),
}
