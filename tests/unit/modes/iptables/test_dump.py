"""Is an operator told what the rules of the kernel mean?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import ServicePlan
from modes.held import DumpedFrontend, DumpedService
from modes.iptables.dump import services_in
from modes.iptables.fragment import render
from modes.iptables.rendering import Rendering
from modes.xtables.abilities import Abilities
from modes.xtables.restore import spec
from modes.xtables.rules import ChainName
from modes.xtables.script import read
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
    node_ports_v4=NodePortAddresses(match_all=True, addresses=("127.0.0.1",)),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16",)),
)
PLAIN = Rendering()
LARGE = Rendering(large=True)
BOTH = pods("10.244.1.2", "10.244.2.2")
SHOWN = ("10.244.1.2:8080", "10.244.2.2:8080")
SVC, SVL, EXT, FW = (f"KUBE-{kind}-VBGEIYV62G5OCDZY" for kind in ("SVC", "SVL", "EXT", "FW"))

Held = Mapping[Family, Mapping[ChainName, list[str]]]


def held(*plans: ServicePlan, style: Rendering = PLAIN, node: NodeView = NODE) -> Held:
    """What the kernel holds of some Services."""
    found: dict[Family, dict[ChainName, list[str]]] = {}
    for plan in plans:
        for family, fragment in render([plan], node, dict.fromkeys(Family, style)).items():
            chains = found.setdefault(family, {})
            for name, rules in fragment.chains.items():
                chains[name] = [spec(rule, family) for rule in rules]
            for name, rule in fragment.shared:
                chains.setdefault(name, []).append(spec(rule, family))
    return found


def shown(found: Held) -> list[tuple[str, int, str, str]]:
    """Address, port, policy and rule of every frontend of the only Service."""
    (told,) = services_in(found)
    return [(f.address, f.port, f.policy, f.rule) for f in told.frontends]


@pytest.mark.parametrize("style", [PLAIN, LARGE, Rendering(Abilities(counters=True))])
def test_a_service_with_all_frontends(style: Rendering) -> None:
    ranges = ["198.18.0.0/25", "203.0.113.0/24"]
    made = plan_of(
        node_port(30080, LOCAL),
        balancer("198.51.100.4", policy=LOCAL, ranges=ranges),
        external_ip("198.51.100.9", policy=LOCAL),
        cluster_ip("10.96.7.7"),
        cluster=BOTH,
        affinity_seconds=90,
    )
    (told,) = services_in(held(made, style=style))
    assert told == DumpedService(
        name="shop/pay:http",
        protocol="TCP",
        family="IPv4",
        frontends=(
            DumpedFrontend("10.96.7.7", 80, "Cluster", f"KUBE-SERVICES -> {SVC}", SHOWN),
            DumpedFrontend(
                "198.51.100.4",
                80,
                "Local (pods: Cluster)",
                f"KUBE-SERVICES -> {FW} -> {EXT} -> {SVL} (pods: {SVC})",
                SHOWN,
                SHOWN[:1],
                ("198.18.0.0/25", "203.0.113.0/24"),
            ),
            DumpedFrontend(
                "198.51.100.9",
                80,
                "Local (pods: Cluster)",
                f"KUBE-SERVICES -> {EXT} -> {SVL} (pods: {SVC})",
                SHOWN,
                SHOWN[:1],
            ),
            DumpedFrontend(
                "node",
                30080,
                "Local (pods: Cluster)",
                f"KUBE-NODEPORTS -> {EXT} -> {SVL} (pods: {SVC})",
                SHOWN,
                SHOWN[:1],
            ),
        ),
        affinity_seconds=90,
    )


def test_external_policy_cluster() -> None:
    made = plan_of(cluster_ip("10.96.7.7"), node_port(30080), cluster=BOTH)
    assert shown(held(made))[1:] == [
        ("node", 30080, "Cluster", f"KUBE-NODEPORTS -> {EXT} -> {SVC}")
    ]


@pytest.mark.parametrize("style", [PLAIN, LARGE])
def test_a_cluster_ip_with_policy_local(style: Rendering) -> None:
    made = plan_of(cluster_ip("10.96.7.7", policy=LOCAL), cluster=BOTH, affinity_seconds=60)
    (told,) = services_in(held(made, style=style))
    assert told.frontends == (
        DumpedFrontend("10.96.7.7", 80, "Local", f"KUBE-SERVICES -> {SVL}", (), SHOWN[:1]),
    )
    assert told.affinity_seconds == 60


def test_endpoints_of_a_large_cluster_in_the_order_of_their_rules() -> None:
    far = pods("10.244.2.4", "10.244.1.3", "10.244.2.2")
    (told,) = services_in(held(plan_of(cluster_ip("10.96.7.7"), cluster=far), style=LARGE))
    assert told.frontends[0].endpoints == (
        "10.244.2.4:8080",
        "10.244.1.3:8080",
        "10.244.2.2:8080",
    )
    assert told.affinity_seconds is None


def test_who_refuses() -> None:
    ranges = ["203.0.113.0/24"]
    frontends = (
        cluster_ip("10.96.7.7"),
        balancer("198.51.100.4", ranges=ranges),
        node_port(30080, LOCAL),
    )
    found = held(plan_of(*frontends))
    assert shown(found) == [
        ("10.96.7.7", 80, "Cluster", "filter KUBE-SERVICES -> REJECT"),
        ("198.51.100.4", 80, "Cluster", "filter KUBE-EXTERNAL-SERVICES -> REJECT"),
        ("node", 30080, "Cluster", "filter KUBE-EXTERNAL-NODEPORTS -> REJECT"),
    ]
    (told,) = services_in(found)
    assert [f.source_ranges for f in told.frontends] == [(), ("203.0.113.0/24",), ()]
    assert not any(f.endpoints or f.local_endpoints for f in told.frontends)


def test_who_drops() -> None:
    frontends = (cluster_ip("10.96.7.7", policy=LOCAL), balancer("198.51.100.4", policy=LOCAL))
    assert shown(held(plan_of(*frontends, cluster=BOTH[1:]))) == [
        ("10.96.7.7", 80, "Local", "filter KUBE-SERVICES -> DROP"),
        (
            "198.51.100.4",
            80,
            "Local (pods: Cluster)",
            f"KUBE-SERVICES -> {EXT} (pods: {SVC}); filter KUBE-EXTERNAL-SERVICES -> DROP",
        ),
    ]


def test_services_are_told_apart_by_name_protocol_and_family() -> None:
    dns = [ServicePortName("kube-system", "dns", "dns", p) for p in (Protocol.UDP, Protocol.TCP)]
    pod = pods("fd00:10:244:1::2")
    told = services_in(
        held(
            plan_of(cluster_ip("fd00:10:96::a", 53), cluster=pod, name=dns[0]),
            plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[0]),
            plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[1]),
        )
    )
    assert [(s.name, s.protocol, s.family) for s in told] == [
        ("kube-system/dns:dns", "TCP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv6"),
    ]
    assert told[2].frontends[0].address == "fd00:10:96::a"
    assert told[2].frontends[0].endpoints == ("[fd00:10:244:1::2]:8080",)


def test_a_kernel_without_comments_tells_no_names() -> None:
    mute = Rendering(Abilities(comment=False))
    (told,) = services_in(held(plan_of(cluster_ip("10.96.7.7"), cluster=BOTH), style=mute))
    assert told.name == "?"
    assert told.frontends[0].endpoints == SHOWN


KUBE_PROXY = """\
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/pay:http has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/pay:http health check node port" -m tcp --dport 30081 -j ACCEPT
-A KUBE-SERVICES -d 10.96.7.8/32 -p tcp -m comment --comment "shop/empty has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:KUBE-EXT-A - [0:0]
:KUBE-FW-A - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
-A KUBE-EXT-A -s 10.244.0.0/16 -m comment --comment "pod traffic for shop/pay:http external destinations" -j KUBE-SVC-A
-A KUBE-EXT-A -m comment --comment "masquerade LOCAL traffic for shop/pay:http external destinations" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-A -m comment --comment "route LOCAL traffic for shop/pay:http external destinations" -m addrtype --src-type LOCAL -j KUBE-SVC-A
-A KUBE-FW-A -s 203.0.113.0/24 -m comment --comment "shop/pay:http loadbalancer IP" -j KUBE-EXT-A
-A KUBE-FW-A -m comment --comment "other traffic to shop/pay:http will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp -m comment --comment "shop/pay:http" -m tcp --dport 30080 -m nfacct --nfacct-name  localhost_nps_accepted_pkts -j KUBE-EXT-A
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/pay:http" -m tcp --dport 30080 -j KUBE-EXT-A
-A KUBE-SEP-A -s 10.244.2.2/32 -m comment --comment "shop/pay:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p tcp -m comment --comment "shop/pay:http" -m recent --set --name KUBE-SEP-A --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.2.2:8080
-A KUBE-SERVICES -p udp -m limit --limit 5/min -m udp --dport 99 -j LOG
-A KUBE-SERVICES -p udp -m comment --comment mine -m udp --dport 99 -j ACCEPT
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SERVICES -d 198.51.100.4/32 -p tcp -m comment --comment "shop/pay:http loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-A
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-A ! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -m comment --comment "shop/pay:http -> 10.244.2.2:8080" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-A --mask 255.255.255.255 --rsource -j KUBE-SEP-A
-A KUBE-SVC-A -m comment --comment "shop/pay:http -> 10.244.2.2:8080" -j KUBE-SEP-A
COMMIT
"""


def test_rules_that_kube_proxy_left() -> None:
    """Also with somebody else's rules between them, one of them of a kind that we do not read."""
    empty, pay = services_in({Family.IPV4: read(KUBE_PROXY)})
    assert (empty.name, empty.frontends[0].rule) == (
        "shop/empty",
        "filter KUBE-SERVICES -> REJECT",
    )
    (endpoint,) = {f.endpoints for f in pay.frontends}
    assert endpoint == ("10.244.2.2:8080",)
    assert pay.affinity_seconds == 10800
    bare = [msgspec.structs.replace(f, endpoints=()) for f in pay.frontends]
    ext = "KUBE-EXT-A (pods: KUBE-SVC-A)"
    both = "Local (pods: Cluster)"
    assert bare == [
        DumpedFrontend("10.96.7.7", 80, "Cluster", "KUBE-SERVICES -> KUBE-SVC-A"),
        DumpedFrontend(
            "198.51.100.4",
            80,
            both,
            f"KUBE-SERVICES -> KUBE-FW-A -> {ext}",
            source_ranges=("203.0.113.0/24",),
        ),
        DumpedFrontend(
            "node",
            30080,
            both,
            f"KUBE-NODEPORTS -> {ext}; filter KUBE-EXTERNAL-SERVICES -> DROP",
        ),
    ]


def test_chains_that_are_not_there() -> None:
    assert services_in({}) == ()
    assert services_in({Family.IPV4: {}, Family.IPV6: {}}) == ()
