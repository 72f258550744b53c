"""Which rules of others are told of, and are those that every node has passed over?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.explain import Explanation, Hook, Packet, walk
from endpoints.names import Protocol
from endpoints.node import NodeView
from endpoints.plan import FrontendKind, ServicePlan
from proxy.facts.finding import Cause, Finding
from proxy.facts.foreign import (
    Condition,
    Field,
    ForeignChain,
    ForeignChains,
    ForeignRule,
    Kind,
)
from proxy.facts.foreign_iptables import chains, rule
from proxy.facts.foreign_taking import taking
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import LOCAL, balancer, cluster_ip, node_port, plan_of, pods

VIP, NODE_PORT, BALANCER = "10.96.7.7", 30080, "198.51.100.20"
POD, CLIENT, NODE = "10.244.1.7", "203.0.113.7", "192.168.0.11"
TOOL = "iptables-nft"

HEALTHY = """*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:cali-PREROUTING - [0:0]
-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
-A cali-PREROUTING -m comment --comment "cali:r" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-PREROUTING -m comment --comment "cali:s" -m mark --mark 0x10000/0x10000 -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:cali-PREROUTING - [0:0]
-A PREROUTING -j cali-PREROUTING
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:DOCKER-FORWARD - [0:0]
:FLANNEL-FWD - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
:cali-fw-cali12345 - [0:0]
:f2b-sshd - [0:0]
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A OUTPUT -j KUBE-FIREWALL
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-USER -j RETURN
-A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -o docker0 -j DOCKER
-A DOCKER-FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-from-wl-dispatch -i cali12345 -g cali-fw-cali12345
-A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-fw-cali12345 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-cali12345 -m conntrack --ctstate INVALID -j DROP
-A cali-fw-cali12345 -m set --match-set cali40s:abc dst -m mark --mark 0x0/0x20000 -j MARK --set-xmark 0x10000/0x10000
-A cali-fw-cali12345 -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-cali12345 -m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A f2b-sshd -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-0123456789abcdef - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:DOCKER - [0:0]
:FLANNEL-POSTRTG - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -m comment --comment "CNI portfwd requiring masquerade" -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A CNI-DN-0123456789abcdef -s 10.244.1.0/24 -p tcp -m tcp --dport 8443 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef -p tcp -m tcp --dport 8443 -j DNAT --to-destination 10.244.1.9:443
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"cbr0\\" id: \\"0\\"" -m multiport --dports 8443 -j CNI-DN-0123456789abcdef
-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.1.0/24 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
"""
OURS = """*filter
:FORWARD ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-REFUSE - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
{forward}
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
{before}
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
{behind}
-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-ABC
COMMIT
"""
STEAL = "-A PREROUTING -d 10.96.7.7/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.9:1"


def plans() -> tuple[ServicePlan, ...]:
    endpoints = pods("10.244.1.2", "10.244.2.2")
    frontends = (cluster_ip(VIP), node_port(NODE_PORT), balancer(BALANCER, policy=LOCAL))
    return (plan_of(*frontends, cluster=endpoints),)


def packet(
    source: str = POD, destination: str = VIP, port: int = 80, interface: str | None = None
) -> Packet:
    hook = Hook.OUTPUT if source == NODE else Hook.PREROUTING
    return Packet(source, destination, port, Protocol.TCP, hook, interface)


PACKETS = {
    "a pod": packet(),
    "a pod, by its interface": packet(interface="cni0"),
    "a NodePort": packet(CLIENT, NODE, NODE_PORT, "eth0"),
    "a balancer": packet(CLIENT, BALANCER, interface="eth0"),
    "a balancer, from anywhere": packet(CLIENT, BALANCER),
    "the node itself": packet(NODE),
}


def explained(of: Packet, node: NodeView = NODE_A) -> Explanation:
    return walk(plans(), node, of)


def findings(rules: ForeignChains, of: Packet, mode: str = "nftables") -> tuple[Finding, ...]:
    return taking(rules, of, explained(of), NODE_A, mode)


def saved(table: str, *lines: str, policy: str = "ACCEPT") -> ForeignChains:
    """A table of iptables with these rules; chains are declared as they come up."""
    names = {line.split()[1]: "-" for line in lines}
    built_in = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
    names |= {name: policy for name in built_in if name in names or name == "FORWARD"}
    heads = [f":{name} {policy} [0:0]" for name, policy in names.items()]
    return tuple(chains(TOOL, "ip", "\n".join([f"*{table}", *heads, *lines, "COMMIT", ""])))


def ours(before: str = "", behind: str = "", forward: str = "") -> ForeignChains:
    text = OURS.format(before=before, behind=behind, forward=forward)
    return tuple(chains(TOOL, "ip", text))


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs"])
@pytest.mark.parametrize("of", PACKETS.values(), ids=PACKETS)
def test_what_every_node_has_is_passed_over(mode: str, of: Packet) -> None:
    rules = tuple(chains(TOOL, "ip", HEALTHY))
    assert len(rules) > 30
    assert findings(rules, of, mode) == ()


def test_the_same_rules_are_told_of_where_they_do_harm() -> None:
    """That they are passed over above is not for want of understanding them."""
    harmed = HEALTHY.replace("--dport 8080", f"--dport {NODE_PORT}")
    rules = tuple(chains(TOOL, "ip", harmed))
    (found,) = findings(rules, PACKETS["a NodePort"])
    assert (found.cause, found.breaks) == (Cause.FOREIGN_TRANSLATION, True)
    assert "iptables-nft nat DOCKER (hook prerouting, priority -100)" in found.text
    assert found.remedy == "iptables-nft -t nat -D DOCKER 2"
    # Without flannel's exception, and without what only Calico's marks decide.
    lines = [
        line for line in HEALTHY.split("\n") if "cali" not in line and "-A FLANNEL-FWD" not in line
    ]
    harmed = "\n".join(lines)
    (found,) = findings(tuple(chains(TOOL, "ip", harmed)), PACKETS["a balancer"])
    assert (found.cause, found.breaks) == (Cause.FOREIGN_DROP, True)
    assert found.text.endswith("drops what goes on to 10.244.1.2:8080: policy drop")


@pytest.mark.parametrize(
    ("before", "behind", "breaks"),
    [
        (STEAL, "", True),
        ("", STEAL, None),
        (STEAL.replace("--dport 80", "--dport 81"), "", None),
        (STEAL.replace("10.96.7.7/32", "10.96.0.0/12"), "", True),
        (STEAL.replace(" -d 10.96.7.7/32", ""), "", True),
        (STEAL.replace("-p tcp -m tcp --dport 80 ", ""), "", True),
        (STEAL.replace("-p tcp", "-s 10.9.0.0/16 -p tcp"), "", None),
        (STEAL.replace("-p tcp", "! -s 10.9.0.0/16 -p tcp"), "", True),
        (STEAL.replace("-p tcp -m tcp", "-p udp -m udp"), "", None),
        (STEAL.replace("-p tcp", "-i eth0 -p tcp"), "", False),
        (STEAL.replace("-j DNAT", "-m string --string x --algo bm -j DNAT"), "", False),
        ("-A PREROUTING -m string --string x --algo bm -j DNAT --to-destination 1.2.3.4", "", None),
        ("-A PREROUTING -d 10.96.0.0/12 -m mark --mark 0x1 -j REDIRECT --to-ports 15001", "", None),
        ("-A PREROUTING -p tcp -j REDIRECT --to-ports 15001", "", True),
        (f"-A PREROUTING -s 10.244.0.0/16 -j ACCEPT\n{STEAL}", "", None),
        (f"-A PREROUTING -m mark --mark 0x1 -j ACCEPT\n{STEAL}", "", False),
        (f"-A PREROUTING -s 10.9.0.0/16 -j ACCEPT\n{STEAL}", "", True),
        ("-A PREROUTING -m iprange --dst-range 10.96.7.1-10.96.7.9 -j DNAT --to 1.2.3.4", "", True),
    ],
)
def test_before_our_jump_it_is_told_and_behind_it_is_not(
    before: str, behind: str, breaks: bool | None
) -> None:
    found = findings(ours(before, behind), packet(), "iptables")
    assert [one.breaks for one in found] == ([] if breaks is None else [breaks])


@pytest.mark.parametrize(
    ("lines", "breaks"),
    [
        (["-d 10.244.2.2 -j DROP"], False),
        (["-d 10.244.1.2 -j DROP", "-d 10.244.2.2 -j DROP"], False),
        (["-p tcp --dport 8080 -j DROP"], True),
        (["-p tcp --dport 80 -j DROP"], None),
        (["-d 10.96.7.7 -j DROP"], None),
        (["-d 10.244.0.0/16 -m set --match-set blocked src -j DROP"], None),
        (["-p tcp --dport 8080 -m connlimit --connlimit-above 9 -j REJECT"], False),
        (["-m conntrack --ctstate NEW -m conntrack --ctstate DNAT -j DROP"], True),
        (["-s 10.244.1.7 -m limit --limit 1/s -j DROP"], False),
        (["-s 10.244.1.0/16 -m limit --limit 1/s -j DROP"], None),
    ],
)
def test_behind_our_translation_the_endpoint_is_what_is_matched(
    lines: list[str], breaks: bool | None
) -> None:
    rules = saved("filter", *(f"-A FORWARD {line}" for line in lines))
    found = findings(rules, packet())
    assert {one.breaks for one in found} == (set() if breaks is None else {breaks})
    assert {one.cause for one in found} <= {Cause.FOREIGN_DROP}


REPLIES = {
    "all of them": ("-m conntrack --ctstate RELATED,ESTABLISHED -j DROP", 2),
    "of one endpoint": ("-s 10.244.2.2 -j REJECT", 1),
    "by the port": ("-s 10.244.0.0/16 -p tcp --sport 8080 -j DROP", 2),
    "to the client": (f"-d {POD} -j DROP", 2),
    "of one endpoint, if they are many": ("-s 10.244.2.2 -m limit --limit 1/s -j DROP", 1),
    "by the port, if they are many": ("-p tcp --sport 8080 -m limit --limit 1/s -j DROP", 2),
    "if they are many": (
        "-p tcp -m limit --limit 1/s -m conntrack --ctstate ESTABLISHED -j DROP",
        0,
    ),
    "of a network, if they are many": ("-s 10.244.0.0/16 -m limit --limit 1/s -j DROP", 0),
    "by another port": ("-p tcp --sport 80 -j DROP", 0),
    "of the Service, before it is put in": (f"-s {VIP} -j DROP", 0),
    "by the client's port": (f"-s {VIP} -p tcp --dport 50000 -j DROP", 0),
    "those that are new": ("-d 10.244.1.7 -m conntrack --ctstate NEW -j DROP", 0),
}


@pytest.mark.parametrize(("line", "endpoints"), REPLIES.values(), ids=REPLIES)
def test_what_takes_replies_is_told_as_possible(line: str, endpoints: int) -> None:
    found = findings(saved("filter", f"-A FORWARD {line}"), packet())
    assert [one.cause for one in found] == [Cause.FOREIGN_DROP] * (endpoints > 0)
    for one in found:
        assert not one.breaks
        assert "replies of" in one.text
        assert one.text.count(":8080") == endpoints
        assert one.remedy == "iptables-nft -t filter -D FORWARD 1"


def test_our_own_rules_accept_replies() -> None:
    """Those to a client outside come back through this node, and KUBE-FORWARD accepts them."""
    lines = "-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP"
    assert findings(ours(forward=lines), packet(CLIENT, NODE, NODE_PORT), "iptables") == ()
    rules = saved("filter", lines)
    assert len(findings(rules, packet(CLIENT, NODE, NODE_PORT), "iptables")) == 1


def test_of_a_masqueraded_reply_the_destination_is_not_known_at_first() -> None:
    asked = packet(CLIENT, NODE, NODE_PORT, "eth0")
    for table, told in (("raw", 0), ("mangle", 0), ("filter", 1)):
        base = "FORWARD" if table == "filter" else "PREROUTING"
        rules = saved(table, f"-A {base} -d {CLIENT} -j DROP")
        assert len(findings(rules, asked)) == told
        rules = saved(table, f"-A {base} -s 10.244.2.2 -d {CLIENT} -j DROP")
        assert len(findings(rules, asked)) == 1


def test_replies_to_the_node_itself_come_in_by_input() -> None:
    lines = ("-p tcp --sport 8080 -j DROP",)
    for base, told in (("INPUT", 1), ("FORWARD", 0), ("OUTPUT", 0)):
        rules = saved("filter", *(f"-A {base} {line}" for line in lines))
        assert len(findings(rules, packet(NODE))) == told


def test_a_drop_names_the_endpoints_that_it_hits() -> None:
    (found,) = findings(saved("filter", "-A FORWARD -d 10.244.2.2/32 -j DROP"), packet())
    assert found.text == (
        "iptables-nft filter FORWARD (hook forward, priority 0) drops what goes on to "
        "10.244.2.2:8080: -A FORWARD -d 10.244.2.2/32 -j DROP"
    )
    assert found.remedy == "iptables-nft -t filter -D FORWARD 1"


def test_a_policy_drops_what_nothing_accepts() -> None:
    lines = ["-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]
    (found,) = findings(saved("filter", *lines, policy="DROP"), packet())
    assert found.breaks
    assert found.remedy == "iptables-nft -t filter -P FORWARD ACCEPT"
    lines.append("-A FORWARD -d 10.244.0.0/16 -j ACCEPT")
    assert findings(saved("filter", *lines, policy="DROP"), packet()) == ()


def test_our_own_rules_accept_what_they_mark_for_masquerade() -> None:
    rules = ours(forward="-A FORWARD -j DROP")
    assert findings(rules, packet(CLIENT, NODE, NODE_PORT, "eth0"), "iptables") == ()
    assert [one.breaks for one in findings(rules, packet(), "iptables")] == [True]


def test_what_ipvs_sends_does_not_pass_forward() -> None:
    rules = saved("filter", "-A FORWARD -p tcp --dport 8080 -j DROP")
    assert findings(rules, packet(), "ipvs") == ()
    rules = saved("filter", "-A OUTPUT -p tcp --dport 8080 -j DROP")
    assert [one.breaks for one in findings(rules, packet(), "ipvs")] == [True]
    rules = saved("filter", "-A INPUT -d 10.96.7.7 -j DROP")
    assert [one.breaks for one in findings(rules, packet(), "ipvs")] == [True]
    assert findings(rules, packet()) == ()


def test_a_source_that_policy_local_keeps_is_replaced() -> None:
    rules = saved("nat", "-A POSTROUTING -d 10.244.0.0/16 -j MASQUERADE")
    (found,) = findings(rules, packet(CLIENT, BALANCER, interface="eth0"))
    assert (found.cause, found.breaks) == (Cause.FOREIGN_SOURCE, False)
    assert findings(rules, packet()) == ()


def test_for_no_service_only_a_translation_is_worth_a_word() -> None:
    lines = ["-A PREROUTING -p tcp --dport 9999 -j DNAT --to-destination 10.244.1.9:443"]
    other = packet(CLIENT, NODE, 9999, "eth0")
    (found,) = findings(saved("nat", *lines), other)
    assert (found.cause, found.breaks) == (Cause.FOREIGN_TRANSLATION, False)
    assert findings(saved("raw", "-A PREROUTING -p tcp --dport 9999 -j DROP"), other) == ()


def test_chains_that_lead_to_each_other_come_to_an_end() -> None:
    rules = saved("raw", "-A PREROUTING -j A", "-A A -j B", "-A B -j A", "-A PREROUTING -j DROP")
    assert findings(rules, packet()) == ()


def test_of_two_with_one_priority_the_age_decides() -> None:
    serves = ForeignRule(Kind.OURS, "headgate serves Services")
    base = ForeignChain(
        "nft", "ip", "headgate", "prerouting", (serves,), "nat", "prerouting", -100, age=5
    )
    line = "ip daddr 10.96.7.7 dnat to 10.0.0.9"
    steals = ForeignRule(Kind.DNAT, line, 3, (Condition(Field.DESTINATION, (VIP,)),))
    other = msgspec.structs.replace(base, table="mine", rules=(steals,), age=6)
    (found,) = findings((base, other), packet())
    assert found.breaks
    assert found.remedy == "nft delete rule ip mine prerouting handle 3"
    for age in (4, 0):
        older = msgspec.structs.replace(other, age=age)
        (found,) = findings((base, older), packet())
        assert not found.breaks
        assert "which has the same priority" in found.text
    later = msgspec.structs.replace(other, priority=-99)
    assert findings((base, later), packet()) == ()


def test_what_kube_proxy_left_in_nft_is_told_of() -> None:
    maps = ForeignRule(
        Kind.DNAT, "vmap @service-ips", 3, (), opaque=True, to="a Service's endpoint"
    )
    left = ForeignChain(
        "nft", "ip", "kube-proxy", "nat-prerouting", (maps,), "nat", "prerouting", -100, age=4
    )
    (found,) = findings((left,), packet())
    assert not found.breaks
    assert "kube-proxy --cleanup" in found.remedy


def test_rules_of_kube_proxy_in_iptables_are_told_of_where_we_use_nft() -> None:
    rules = saved(
        "nat",
        "-A PREROUTING -j KUBE-SERVICES",
        "-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A",
        "-A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-A",
        "-A KUBE-SVC-A -j KUBE-SEP-B",
        "-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.244.1.2:8080",
        "-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.244.2.2:8080",
    )
    (found,) = findings(rules, packet())
    assert found.breaks
    assert "kube-proxy --cleanup" in found.remedy
    assert findings(rules, packet(port=81)) == ()


@pytest.mark.parametrize(
    ("line", "kind", "opaque", "to"),
    [
        ('-j LOG --log-prefix "-j DROP"', None, False, ""),
        ("-p tcp", None, False, ""),
        ('-m comment --comment "-j ACCEPT \\"x" -j DROP', Kind.DROP, False, ""),
        ("-m comment --comment -d -j DROP", Kind.DROP, False, ""),
        ("-p tcp -m tcp --tcp-flags SYN,RST SYN -j DROP", Kind.DROP, True, ""),
        ("-m mark ! --mark 0x1/0x1 -j RETURN", Kind.RETURN, True, ""),
        ("-j CT --notrack", Kind.NOTRACK, False, ""),
        ("-j CT --helper ftp", None, False, ""),
        ("-j REDIRECT --to-ports 15001", Kind.REDIRECT, False, "15001"),
        ("-j TPROXY --on-port 9 --on-ip 0.0.0.0 --tproxy-mark 0x1", Kind.TPROXY, False, "9"),
        ("-g THERE", Kind.GOTO, False, "THERE"),
        ("-j NFQUEUE --queue-num 0", Kind.UNKNOWN, False, ""),
    ],
)
def test_a_line_of_iptables_save(line: str, kind: Kind | None, opaque: bool, to: str) -> None:
    found = rule(f"-A PREROUTING {line}", 3)
    if kind is None:
        assert found is None
    else:
        assert found is not None
        assert (found.kind, found.opaque, found.to, found.number) == (kind, opaque, to, 3)
        assert {condition.field for condition in found.conditions} <= {Field.PROTOCOL}


def test_conditions_of_a_line() -> None:
    found = rule(
        "-A FORWARD ! -s 10.0.0.0/8 -i veth+ -p tcp -m multiport --dports 80,8000:8099 "
        "-m conntrack ! --ctstate NEW,DNAT -m addrtype --dst-type LOCAL -j DROP",
        1,
    )
    assert found is not None
    assert found.conditions == (
        Condition(Field.SOURCE, ("10.0.0.0/8",), negated=True),
        Condition(Field.IN_INTERFACE, ("veth*",)),
        Condition(Field.PROTOCOL, ("tcp",)),
        Condition(Field.DESTINATION_PORT, ("80", "8000-8099")),
        Condition(Field.STATE, ("NEW", "DNAT"), negated=True),
        Condition(Field.DESTINATION_TYPE, ("LOCAL",)),
    )


def test_a_snapshot_keeps_them() -> None:
    rules = tuple(chains(TOOL, "ip", HEALTHY))
    assert msgspec.json.decode(msgspec.json.encode(rules), type=ForeignChains) == rules


def test_an_address_that_ipvs_holds_is_local() -> None:
    node = msgspec.structs.replace(NODE_A, holds_addresses=True)
    rules = saved("raw", "-A PREROUTING -m addrtype --dst-type LOCAL -j DROP")
    asked = packet()
    assert explained(asked).frontend == plans()[0].frontends[0]
    assert plans()[0].frontends[0].kind is FrontendKind.CLUSTER_IP
    assert taking(rules, asked, explained(asked, node), node, "ipvs") != ()
    assert taking(rules, asked, explained(asked), NODE_A, "nftables") == ()
