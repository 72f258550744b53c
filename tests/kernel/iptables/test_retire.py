"""Do the rules of both variants go when another mode serves, and only what a proxy wrote?"""

from __future__ import annotations

from pathlib import Path

import pytest

from endpoints.names import Family
from modes.base import KernelFault
from modes.iptables.mode import IptablesMode
from modes.xtables import adopt, chains
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.iptables.test_takeover import FILTER, NAT
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

KUBELETS = """\
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:KUBE-MARK-DROP - [0:0]
-A KUBE-MARK-DROP -j MARK --or-mark 0x8000
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:DOCKER - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -i docker0 -j DOCKER
-A KUBE-FIREWALL -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""
IPVS = """\
*mangle
:KUBE-LOCAL-POLICY - [0:0]
-A PREROUTING -m conntrack --ctstate NEW -j KUBE-LOCAL-POLICY
COMMIT
*filter
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-IPVS-FILTER
COMMIT
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
COMMIT
"""
LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")


def rules_of_a_proxy() -> list[ChainName]:
    """The chains of headgate and kube-proxy that are left in IPv4 and IPv6, in both variants."""
    return [
        chain
        for variant in Variant
        for found in tables.everything(variant).values()
        for chain in found
        if adopt.is_ours(chain)
    ]


@pytest.fixture
def retiring(network: None) -> IptablesMode:  # noqa: ARG001
    """A mode that never started."""
    return tables.mode_of("auto")


def test_kube_proxys_rules_go(retiring: IptablesMode, variant: Variant) -> None:
    assert Kernel(variant).ensure_counters()
    others.write(variant, FILTER)
    others.write(variant, NAT)
    retiring.retire("nftables")
    assert not rules_of_a_proxy()


def test_ours_go_of_both_families(mode: IptablesMode, retiring: IptablesMode) -> None:
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    assert len(rules_of_a_proxy()) > 20
    retiring.retire("nftables")
    assert not rules_of_a_proxy()


def test_the_kubelets_stay_and_so_does_everybody_elses(
    mode: IptablesMode, retiring: IptablesMode, variant: Variant
) -> None:
    others.write(variant, KUBELETS)
    before = tables.held(variant)
    mode.start(NODE_A)
    mode.replace(services(1))
    retiring.retire("nftables")
    assert tables.held(variant) == before


HOSTPORTS = """\
*nat
:KUBE-HP-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-HP-BBBBBBBBBBBBBBBB -s 10.244.1.2/32 -j KUBE-MARK-MASQ
COMMIT
"""


def test_what_others_mark_is_masqueraded_still(
    mode: IptablesMode, retiring: IptablesMode, variant: Variant
) -> None:
    others.write(variant, HOSTPORTS)
    mode.start(NODE_A)
    mode.replace(services(1))
    served = tables.held(variant)
    for _ in range(2):
        retiring.retire("nftables")
        held = tables.held(variant)
        assert {chain for chain in held if adopt.is_ours(chain)} == KEPT
        assert all(held[chain] == served[chain] for chain in KEPT)
        jump = ChainName(Table.NAT, "POSTROUTING")
        assert held[jump] == served[jump] != []
    others.write(variant, "*nat\n-F KUBE-HP-BBBBBBBBBBBBBBBB\nCOMMIT\n")
    retiring.retire("nftables")
    assert not rules_of_a_proxy()


KEPT = {chains.MARK_MASQ, chains.POSTROUTING}


def test_localhost_stays_guarded_while_it_is_routed(
    mode: IptablesMode, retiring: IptablesMode, variant: Variant
) -> None:
    """And a cleanup knows still that nobody had routed it before us."""
    others.write(variant, "*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n")
    guard = ChainName(Table.FILTER, "KUBE-FIREWALL")
    rule = (
        "-d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
    )
    mode.start(NODE_A)
    mode.replace({})
    note = chains.ROUTE_LOCALNET_WAS_OFF.name
    others.write(variant, f"*filter\n:{note} - [0:0]\n-A KUBE-FIREWALL {rule}\nCOMMIT\n")
    LOCALNET.write_text("1")
    retiring.retire("nftables")
    assert LOCALNET.read_text() == "1\n"
    assert len(tables.held(variant)[guard]) == 1
    assert rules_of_a_proxy() == [chains.ROUTE_LOCALNET_WAS_OFF]
    assert retiring.cleanup()
    assert LOCALNET.read_text() == "0\n"


def test_the_rules_of_our_ipvs_mode_stay_where_it_serves(
    retiring: IptablesMode, variant: Variant
) -> None:
    old = next(other for other in Variant if other is not variant)
    others.write(variant, IPVS)
    others.write(old, NAT.replace("-m nfacct --nfacct-name localhost_nps_accepted_pkts", ""))
    served = tables.held(variant)
    retiring.retire("ipvs")
    assert tables.held(variant) == served
    assert not any(map(adopt.is_ours, tables.held(old)))
    retiring.retire("nftables")
    assert not rules_of_a_proxy()


def test_nothing_happens_where_nobody_was(retiring: IptablesMode) -> None:
    """No table is made, either."""
    for successor in ("nftables", "ipvs"):
        assert retiring.retire(successor) is None
    assert not others.nft_ruleset()
    assert not others.legacy_tables()


def test_a_lock_that_is_held_keeps_us_for_a_second_only(
    network: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert network is None
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    mode = tables.mode_of("legacy")
    mode.start(NODE_A)
    mode.replace(services(1))
    with (
        others.holder(lock, 60),
        pytest.raises(KernelFault, match=r"holds the xtables lock for more than 1\.\d s"),
    ):
        mode.retire("nftables")
    mode.retire("nftables")
    assert not any(map(adopt.is_ours, tables.held("legacy", Family.IPV4)))
