"""Do the rules of a stopped kube-proxy become ours, with no chain written that does the same?"""

from __future__ import annotations

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Plans
from modes.iptables import service_chains
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables import names
from modes.xtables.counters import LOCALHOST_NODEPORTS
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.restore import parse
from modes.xtables.rules import ChainName, Rule
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import named
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import balancer, cluster_ip, node_port, plan_of, pods

V4 = Family.IPV4
PAY, GONE = named("pay"), named("gone")
HERE, THERE = pods("10.244.1.2", "10.244.2.2")
PLAN = plan_of(
    cluster_ip("10.96.7.7"),
    balancer("198.51.100.20", ranges=("203.0.113.0/24",)),
    node_port(30080),
    cluster=(HERE, THERE),
    name=PAY,
)
SERVICES: dict[ObjectName, Plans] = {ObjectName("shop", "pay"): (PLAN,)}
SVC, EXT, FW = (
    service_chains.cluster_chain(PAY),
    service_chains.external_chain(PAY),
    service_chains.firewall_chain(PAY),
)
SEP_HERE, SEP_THERE = (
    service_chains.endpoint_chain(PAY, HERE),
    service_chains.endpoint_chain(PAY, THERE),
)
STALE_SVC, STALE_SEP = (
    service_chains.cluster_chain(GONE),
    service_chains.endpoint_chain(GONE, THERE),
)
MARK = "0x4000"

FILTER = f"""\
*mangle
:KUBE-PROXY-CANARY - [0:0]
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
*filter
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-SERVICES -m comment --comment "shop/empty:http has no endpoints" -m tcp -p tcp -d 10.96.0.99 --dport 80 -j REJECT
-A KUBE-PROXY-FIREWALL -m comment --comment "{PAY} traffic not accepted by {FW}" -m tcp -p tcp -d 198.51.100.20 --dport 80 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark {MARK}/{MARK} -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
NAT = f"""\
*nat
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:{SVC} - [0:0]
:{EXT} - [0:0]
:{FW} - [0:0]
:{SEP_HERE} - [0:0]
:{SEP_THERE} - [0:0]
:{STALE_SVC} - [0:0]
:{STALE_SEP} - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}
-A KUBE-SERVICES -m comment --comment "{PAY} cluster IP" -m tcp -p tcp -d 10.96.7.7 --dport 80 -j {SVC}
-A KUBE-SERVICES -m comment --comment "{PAY} loadbalancer IP" -m tcp -p tcp -d 198.51.100.20 --dport 80 -j {FW}
-A KUBE-SERVICES -m comment --comment "{GONE} cluster IP" -m tcp -p tcp -d 10.96.0.98 --dport 80 -j {STALE_SVC}
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -m comment --comment {PAY} -m tcp -p tcp --dport 30080 -d 127.0.0.0/8 -m nfacct --nfacct-name {LOCALHOST_NODEPORTS} -j {EXT}
-A KUBE-NODEPORTS -m comment --comment {PAY} -m tcp -p tcp --dport 30080 -j {EXT}
-A {EXT} -m comment --comment "masquerade traffic for {PAY} external destinations" -j KUBE-MARK-MASQ
-A {EXT} -j {SVC}
-A {FW} -m comment --comment "{PAY} loadbalancer IP" -s 203.0.113.0/24 -j {EXT}
-A {FW} -m comment --comment "other traffic to {PAY} will be dropped by KUBE-PROXY-FIREWALL"
-A {SVC} -m comment --comment "{PAY} cluster IP" -m tcp -p tcp -d 10.96.7.7 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A {SVC} -m comment --comment "{PAY} -> 10.244.1.2:8080" -m statistic --mode random --probability 0.5000000000 -j {SEP_HERE}
-A {SVC} -m comment --comment "{PAY} -> 10.244.2.2:8080" -j {SEP_THERE}
-A {SEP_HERE} -m comment --comment {PAY} -s 10.244.1.2 -j KUBE-MARK-MASQ
-A {SEP_HERE} -m comment --comment {PAY} -m tcp -p tcp -j DNAT --to-destination 10.244.1.2:8080
-A {SEP_THERE} -m comment --comment {PAY} -s 10.244.2.2 -j KUBE-MARK-MASQ
-A {SEP_THERE} -m comment --comment {PAY} -m tcp -p tcp -j DNAT --to-destination 10.244.2.2:8080
-A {STALE_SVC} -m comment --comment "{GONE} -> 10.244.2.2:8080" -j {STALE_SEP}
-A {STALE_SEP} -m comment --comment {GONE} -s 10.244.2.2 -j KUBE-MARK-MASQ
-A {STALE_SEP} -m comment --comment {GONE} -m tcp -p tcp -j DNAT --to-destination 10.244.2.2:8080
COMMIT
"""
AS_OURS = (SVC, EXT, SEP_HERE, "KUBE-MARK-MASQ", "KUBE-POSTROUTING", "KUBE-FORWARD")
"""Chains that kube-proxy words differently, and that do what ours do."""


@pytest.fixture
def stopped(mode: IptablesMode, variant: Variant) -> IptablesMode:
    """What kube-proxy 1.36 leaves behind when it is stopped (REFERENCE A.2)."""
    assert Kernel(variant).ensure_counters()
    others.write(variant, FILTER)
    others.write(variant, NAT)
    return mode


def meant(found: tables.Tables) -> dict[ChainName, list[Rule]]:
    """The rules, however they are spelled."""
    return {chain: [parse(one, V4) for one in specs] for chain, specs in found.items()}


def test_the_rules_become_ours(
    stopped: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped.start(NODE_A).elements == 29
    texts = tables.Texts(monkeypatch)
    assert not stopped.replace(SERVICES).failed
    (text,) = texts.of(V4)
    assert not stopped.verify()
    for chain in AS_OURS:
        assert f":{chain} " not in text
    for chain in (SEP_THERE, FW):  # a hairpin that cannot be; a rule that does nothing
        assert text.count(f":{chain} ") == 1
    held = tables.held(variant)
    for chain in (STALE_SVC, STALE_SEP):
        assert ChainName(Table.NAT, chain) not in held
    (told,) = look().services
    assert told.name == "shop/pay:http"
    assert {f.endpoints for f in told.frontends} == {("10.244.1.2:8080", "10.244.2.2:8080")}


def test_they_mean_what_ours_would_have_meant(stopped: IptablesMode, variant: Variant) -> None:
    stopped.start(NODE_A)
    stopped.replace(SERVICES)
    taken_over = meant(tables.held(variant))
    assert stopped.cleanup()
    stopped.start(NODE_A)
    stopped.replace(SERVICES)
    ours = meant(tables.held(variant))
    assert taken_over.keys() == ours.keys()
    for chain, rules in ours.items():
        if chain in tables.SHARED or chain.name in tables.BUILT_IN:
            assert sorted(map(str, taken_over[chain])) == sorted(map(str, rules))
        else:
            assert taken_over[chain] == rules


def test_others_are_left_alone(stopped: IptablesMode, variant: Variant) -> None:
    """The canaries are nobody's rules, and the kubelet keeps martians away still."""
    stopped.start(NODE_A)
    stopped.replace(SERVICES)
    for _ in range(2):
        for table in ("filter", "nat", "mangle"):
            assert Kernel(variant).holds(V4, table, "KUBE-PROXY-CANARY")
        held = tables.held(variant)
        assert len(held[ChainName(Table.FILTER, "KUBE-FIREWALL")]) == 1
        for chain in ("INPUT", "OUTPUT"):
            assert "-j KUBE-FIREWALL" in held[ChainName(Table.FILTER, chain)]
        stopped.cleanup()


def test_what_refused_does_so_no_more(stopped: IptablesMode, variant: Variant) -> None:
    stopped.start(NODE_A)
    stopped.replace({})
    held = tables.held(variant)
    assert held[ChainName(Table.FILTER, names.SERVICES)] == [tables.FIRST]
    assert not any(chain.name.startswith(names.OF_A_SERVICE) for chain in held)
