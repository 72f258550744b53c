"""Does a reader of ipvsadm, ipset and iptables-save know what render prints?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import ServicePlan
from modes.base import IpvsSettings, ModeSettings
from modes.ipvs.ipsets import Kind, SetName
from modes.ipvs.listing import Listed, tables, text
from modes.xtables.names import Table
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    node_port,
    plan_of,
    pods,
)

PAY = ObjectName("shop", "pay")
NODE = NodeView(
    "node-a",
    addresses=frozenset({"192.0.2.10", "fd00:192:0:2::10"}),
    node_ports_v4=NodePortAddresses(match_all=True),
    node_ports_v6=NodePortAddresses(match_all=True),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48")),
)
EXPOSED = plan_of(
    cluster_ip("10.96.7.7"),
    balancer("198.51.100.4", policy=LOCAL),
    cluster=pods("10.244.1.2", "10.244.2.2"),
)


def listed(*plans: ServicePlan, settings: ModeSettings = ModeSettings()) -> Listed:  # noqa: B008 (frozen)
    return tables({PAY: plans}, NODE, settings)


def part(of: Listed, title: str) -> list[str]:
    """The lines of a part of the text."""
    lines = list(text(of))
    start = lines.index(f"# {title}") + 1
    return lines[start : next((n for n in range(start, len(lines)) if lines[n][0] == "#"), None)]


def test_virtual_servers() -> None:
    assert part(listed(EXPOSED), "ipvsadm -Sn") == [
        "-A -f 1258291201 -s rr",
        "-a -f 1258291201 -r 10.244.1.2:8080 -m -w 1",
        "-a -f 1258291201 -r 10.244.2.2:8080 -m -w 1",
        "-A -t 10.96.7.7:80 -s rr",
        "-a -t 10.96.7.7:80 -r 10.244.1.2:8080 -m -w 1",
        "-a -t 10.96.7.7:80 -r 10.244.2.2:8080 -m -w 1",
        "-A -t 198.51.100.4:80 -s rr",
        "-a -t 198.51.100.4:80 -r 10.244.1.2:8080 -m -w 1",
    ]


@pytest.mark.parametrize(
    ("protocol", "option"),
    [(Protocol.TCP, "-t"), (Protocol.UDP, "-u"), (Protocol.SCTP, "--sctp-service")],
)
def test_ipv6_and_protocols(protocol: Protocol, option: str) -> None:
    name = ServicePortName("shop", "pay", "http", protocol)
    pod = pods("fd00:10:244:1::2")
    here = [cluster_ip("fd00:10:96::7"), node_port(30080, LOCAL)]
    made = plan_of(*here, cluster=pod, name=name)
    real = "-r [fd00:10:244:1::2]:8080 -m -w 1"
    assert sorted(part(listed(made), "ipvsadm -Sn")) == sorted(
        [
            *("-A -f 1258291201 -6 -s rr", f"-a -f 1258291201 -6 {real}"),
            *(f"-A {option} [fd00:10:96::7]:80 -s rr", f"-a {option} [fd00:10:96::7]:80 {real}"),
            f"-A {option} [fd00:192:0:2::10]:30080 -s rr",
            f"-a {option} [fd00:192:0:2::10]:30080 {real}",
        ]
    )
    assert part(listed(made), "ip") == [
        "ip addr add fd00:10:96::7/128 dev kube-ipvs0 preferred_lft 0"
    ]


def test_who_says_nothing_is_scheduled_as_the_node_is() -> None:
    sh = ("sh-fallback", "sh-port")
    settings = ModeSettings(ipvs=IpvsSettings("sh", sh))
    sticky = plan_of(cluster_ip("10.96.7.7"), cluster=pods("10.244.1.2"), affinity_seconds=90)
    own = msgspec.structs.replace(EXPOSED, scheduler="mh", scheduler_flags=("mh-fallback",))
    assert part(listed(sticky, settings=settings), "ipvsadm -Sn") == [
        "-A -t 10.96.7.7:80 -s sh -p 90 -b sh-fallback,sh-port",
        "-a -t 10.96.7.7:80 -r 10.244.1.2:8080 -m -w 1",
    ]
    servers = listed(own, settings=settings).servers
    assert {(s.scheduler, s.scheduler_flags) for s in servers} == {("mh", ("mh-fallback",))}


def test_sets() -> None:
    made = listed(EXPOSED)
    lines = part(made, "ipset save")
    assert [line for line in lines if "KUBE-VIRTUAL-SERVERS" in line] == [
        "create KUBE-VIRTUAL-SERVERS hash:ip,port family inet hashsize 1024 maxelem 4194304 comment",
        'add KUBE-VIRTUAL-SERVERS 10.96.7.7,tcp:80 comment "shop/pay:http"',
        'add KUBE-VIRTUAL-SERVERS 198.51.100.4,tcp:80 comment "shop/pay:http"',
    ]
    assert [line for line in lines if "KUBE-LOCAL-BYPASS" in line] == [
        "create KUBE-LOCAL-BYPASS hash:ip,port family inet hashsize 1024 maxelem 4194304 comment skbinfo",
        'add KUBE-LOCAL-BYPASS 198.51.100.4,tcp:80 comment "shop/pay:http" skbmark 0x4b000001',
    ]
    assert "create KUBE-6-NODE-PORT-TCP bitmap:port range 0-65535" in lines
    (draining,) = (line for line in lines if line.startswith("create KUBE-DRAINING "))
    assert draining.endswith(" maxelem 4194304 timeout 0")
    names = [line.split()[1] for line in lines if line.startswith("create ")]
    assert names == [str(SetName(kind, family)) for family in Family for kind in Kind]


def test_who_is_alone_and_who_shares_an_address() -> None:
    other = plan_of(cluster_ip("10.96.7.7", 81), cluster=pods("10.244.1.2"))
    made = tables({PAY: (EXPOSED,), ObjectName("a", "b"): (other,)}, NODE, ModeSettings())
    assert part(made, "ip") == [
        "ip addr add 10.96.7.7/32 dev kube-ipvs0 scope host",
        "ip addr add 198.51.100.4/32 dev kube-ipvs0 scope host",
    ]
    sets = {of.name: of.elements for of in made.sets}
    assert sets["KUBE-IPVS-IPS"] == ("10.96.7.7", "198.51.100.4")
    assert sets["KUBE-LOOP-BACK"] == ("10.244.1.2,tcp:8080,10.244.1.2",)


def test_marks_are_numbered_in_the_order_of_names() -> None:
    name = ServicePortName("a", "b", "http", Protocol.TCP)
    other = msgspec.structs.replace(EXPOSED, name=name)
    services = {PAY: (EXPOSED,), ObjectName("a", "b"): (other,)}
    made = tables(services, NODE, ModeSettings(masquerade_bit=0))
    assert [(s.service, s.key.mark) for s in made.servers if s.key.mark] == [
        ("a/b:http", 0x4B000002),
        ("shop/pay:http", 0x4B000004),
    ]


def test_rules_of_three_tables_in_both_families() -> None:
    made = listed()
    assert [(table.family, table.name) for table in made.tables] == [
        (family, table) for family in Family for table in Table
    ]
    assert msgspec.json.decode(msgspec.json.encode(made), type=Listed) == made
    lines = list(text(made))
    assert "-A KUBE-POSTROUTING -m comment --comment " in "\n".join(lines)
    assert lines[-1] == "COMMIT"
    assert lines.index("# iptables-save, ip6tables-save") < lines.index("*mangle")
