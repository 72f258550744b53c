"""What was found, in the stories that the golden files tell? One Service, on worker-2."""

from __future__ import annotations

from modes.base import Feature, Foreign
from modes.held import (
    Difference,
    DifferenceKind,
    DumpedClient,
    DumpedFrontend,
    DumpedReal,
    DumpedServer,
    DumpedTraffic,
)
from modes.tracing.outcome import Outcome
from proxy.debug.differing import Differing
from proxy.debug.dumped import Joined, Member
from proxy.debug.probe import Probed
from proxy.debug.rates.busy import DROPPED, UNCOUNTED_BYTES, Busy, Interval, Sort
from proxy.debug.tracing.traced import Hop, Traced, TracedFlow
from proxy.desired.desired import LastForeign
from proxy.facts.finding import Cause, Finding

POD_1, POD_2, POD_3 = "10.244.1.2:8080", "10.244.2.9:8080", "10.244.3.4:8080"
HERE = "the headgate that runs here, pid 4711"

PROBED = Probed(
    (
        Feature("nf_tables", "yes", "nftables mode"),
        Feature("numgen in concatenated keys", "yes", "nftables mode: choosing endpoints"),
        Feature("iptables nat table", "yes", "iptables mode"),
        Feature("xt_comment", "yes", "iptables mode: names in rules", optional=True),
        Feature("MASQUERADE", "yes", "iptables mode"),
        Feature(
            "xt_nfacct", "no", "iptables mode: two metrics", "modprobe xt_nfacct", optional=True
        ),
        Feature("iptables nat table", "yes", "ipvs mode"),
        Feature("xt_comment", "yes", "ipvs mode: names in rules", optional=True),
        Feature("MASQUERADE", "yes", "ipvs mode"),
        Feature("ip_vs", "no", "ipvs mode", "this kernel has no IPVS (modprobe ip_vs)"),
    ),
    ("nftables", "iptables"),
    "nftables",
)

MEMBERS = (
    Member(POD_1, "worker-2", "eu-1a", "ready", is_used=True),
    Member(POD_2, "worker-7", "eu-1a", "ready", is_used=True),
    Member(
        POD_3,
        "worker-9",
        "eu-1b",
        "ready, but hinted for zone eu-1b; this node is in eu-1a",
        is_used=False,
    ),
    Member("10.244.1.8:8080", "worker-2", "eu-1a", "not ready", is_used=False),
)
HELD_BY_NFTABLES = Joined(
    "shop/pay:http",
    "TCP",
    "IPv4",
    (
        DumpedFrontend("10.96.7.7", 80, "Cluster", "services -> pick-2", (POD_1, POD_2)),
        DumpedFrontend(
            "198.51.100.20",
            80,
            "Local (pods: Cluster)",
            "external-local -> local-1; services -> pick-2",
            (POD_1, POD_2),
            (POD_1,),
            ("203.0.113.0/24", "192.0.2.0/24"),
        ),
        DumpedFrontend("node", 30080, "Cluster", "nodeports -> np-pick-2", (POD_1, POD_2)),
    ),
    affinity_seconds=10800,
    clients=(DumpedClient("10.244.1.9", POD_1, 10790), DumpedClient("203.0.113.7", POD_2, 61)),
    members=MEMBERS,
)
HELD_BY_IPTABLES = Joined(
    "shop/pay:http",
    "TCP",
    "IPv4",
    (
        DumpedFrontend(
            "10.96.7.7",
            80,
            "Cluster",
            "KUBE-SERVICES -> KUBE-SVC-VBGEIYV62G5OCDZY",
            (POD_1, POD_2),
            new_flows=1204,
        ),
        DumpedFrontend(
            "198.51.100.20",
            80,
            "Local (pods: Cluster)",
            "KUBE-SERVICES -> KUBE-FW-VBGEIYV62G5OCDZY -> KUBE-EXT-VBGEIYV62G5OCDZY"
            " -> KUBE-SVL-VBGEIYV62G5OCDZY (pods: KUBE-SVC-VBGEIYV62G5OCDZY)",
            (POD_1, POD_2),
            (POD_1,),
            ("203.0.113.0/24",),
            new_flows=17,
        ),
    ),
    endpoint_flows={POD_1: 619, POD_2: 602},
)
REALS = (
    DumpedReal(POD_1, 1, 3, 12, DumpedTraffic(619, 7004, 6180, 912_004, 88_123_456)),
    DumpedReal(POD_2, 0, 1, 0, DumpedTraffic(602, 6911, 6002, 897_110, 79_000_121), 95),
)
HELD_BY_IPVS = Joined(
    "shop/pay:http",
    "TCP",
    "IPv4",
    (
        DumpedFrontend(
            "10.96.7.7",
            80,
            "Cluster",
            "TCP 10.96.7.7:80",
            (POD_1,),
            servers=(
                DumpedServer(
                    "TCP 10.96.7.7:80",
                    "rr",
                    REALS,
                    DumpedTraffic(1221, 13_915, 12_182, 1_809_114, 167_123_577),
                ),
            ),
        ),
    ),
    members=MEMBERS,
)

DRIFT = Differing(
    "nftables",
    "worker-2",
    HERE,
    1204,
    (
        Difference("", DifferenceKind.DIFFERENT, "chain prerouting is of another layout"),
        Difference("infra/dns:dns", DifferenceKind.MISSING, "10.96.0.10:53/UDP in map services"),
        Difference(
            "shop/pay:http",
            DifferenceKind.EXTRA,
            "endpoint 10.244.9.9:8080 in slot 2 of 10.96.7.7:80/TCP",
        ),
    ),
    is_running=True,
    last_foreign=LastForeign(Foreign("table ip headgate changed", "nft", 3122), 14.2),
    refused={"infra/dns": "No space left on device"},
)
SAME = Differing("iptables", "worker-2", "shop.yaml", 1204, ())

FLOW = TracedFlow(
    Outcome.REACHED,
    "shop/pay:http 10.96.7.7:80/TCP -> 10.244.2.9:8080, source stays 10.244.1.9,"
    " reply seen after 0.4 ms",
    "10.244.1.9:43210",
    POD_2,
    "10.244.1.9:43210",
    reply_seconds=0.0004,
    forth=(
        Hop("prerouting", "10.244.1.9:43210 -> 10.96.7.7:80/TCP came in by veth-a1"),
        Hop("services", "10.96.7.7 . tcp . 80 -> goto pick-2"),
        Hop("pick-2", "dnat to 10.244.2.9:8080"),
        Hop("postrouting", "10.244.1.9:43210 -> 10.244.2.9:8080/TCP left by eth0"),
    ),
    back=(Hop("prerouting", "10.244.2.9:8080 -> 10.244.1.9:43210/TCP came in by eth0"),),
)
LOST = TracedFlow(
    Outcome.LOST,
    "shop/pay:http 10.96.7.7:80/TCP -> 10.244.2.9:8080, lost between prerouting and forward:"
    " routing refused it: rp_filter=1 on eth1 drops what comes from 10.244.1.9, as the way back is"
    " veth-a1",
    "10.244.1.9:43211",
    forth=(Hop("prerouting", "10.244.1.9:43211 -> 10.96.7.7:80/TCP came in by eth1"),),
    causes=(
        Finding(
            Cause.REVERSE_PATH,
            breaks=True,
            text="rp_filter=1 on eth1 drops what comes from 10.244.1.9, as the way back is veth-a1",
            remedy="sysctl -w net.ipv4.conf.eth1.rp_filter=2",
        ),
    ),
)
TRACED = Traced("10.96.7.7:80/TCP", "shop/pay:http", (FLOW, LOST))
UNSEEN = Traced(
    "10.96.7.7:80/TCP",
    "shop/pay:http",
    (),
    ("For 30 s no packet to 10.96.7.7:80/TCP came to this node, nor did it send one itself.",),
)

BUSY = Interval(
    "2026-11-21T13:57:19Z",
    2.0,
    Sort.NEW,
    1204,
    3,
    at_least=True,
    services=(
        Busy("infra/dns:dns", 18_402, 9201.0, 588_864.4, 1_243_001.9, 4512),
        Busy("shop/pay:http", 50, 25.0, 912.0, 88_123_456.0, 91),
        Busy("shop/a-name-that-is-rather-long-as-names-of-services-may-be:metrics", 0, 0, 0, 0, 1),
    ),
    notes=(DROPPED,),
)
UNCOUNTED = Interval(
    "2026-11-21T13:57:21Z",
    2.0,
    Sort.FLOWS,
    1204,
    1,
    at_least=False,
    services=(Busy("infra/dns:dns", 7, 3.5, None, None, 4),),
    notes=(UNCOUNTED_BYTES,),
)
FULL = Finding(
    Cause.CONNTRACK_FULL,
    breaks=True,
    text="conntrack table is full: 65536 of 65536 entries (net.netfilter.nf_conntrack_max)",
    remedy="sysctl -w net.netfilter.nf_conntrack_max=131072",
)
MAY = Finding(
    Cause.FOREIGN_DROP,
    breaks=False,
    text="nft inet filter forward drops what it may match: `ct state new limit rate over 10/second drop`",
    remedy="nft -a list chain inet filter forward",
)
