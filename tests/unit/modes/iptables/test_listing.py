"""Does a reader of kube-proxy's rules know what render prints?"""

from __future__ import annotations

import pytest

from endpoints.names import Family, ObjectName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import ServicePlan
from modes.base import ModeSettings
from modes.iptables.listing import ListedTable, tables, text
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from modes.xtables.script import read
from tests.unit.modes.nftables.build import cluster_ip, plan_of, pods

PAY = ObjectName("shop", "pay")
NODE = NodeView(
    "node-a",
    node_ports_v4=NodePortAddresses(addresses=("192.168.0.11",)),
    node_ports_v6=NodePortAddresses(addresses=("fd00:192:168::11",)),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48")),
)
THREE = plan_of(cluster_ip("10.96.7.7"), cluster=pods("10.244.1.2", "10.244.2.2", "10.244.2.3"))
SVC = "KUBE-SVC-VBGEIYV62G5OCDZY"


def listed(*plans: ServicePlan, masquerade_bit: int = 14) -> dict[tuple[str, str], ListedTable]:
    made = tables({PAY: plans}, NODE, ModeSettings(masquerade_bit=masquerade_bit))
    return {(table.family, table.name): table for table in made}


def chains(table: ListedTable) -> dict[str, list[str]]:
    """Chains of a table by name, each with its rules."""
    return {chain.name: list(chain.rules) for chain in table.chains}


def test_three_endpoints_share_as_kube_proxy_shares() -> None:
    nat = chains(listed(THREE)["IPv4", "nat"])
    mark, *choices = nat[SVC]
    assert mark == (
        '! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" '
        "-m tcp --dport 80 -j KUBE-MARK-MASQ"
    )
    said, seps = zip(*(choice.rsplit(" -j ", 1) for choice in choices), strict=True)
    assert said == (
        '-m comment --comment "shop/pay:http -> 10.244.1.2:8080" -m statistic --mode random --probability 0.33333333349',
        '-m comment --comment "shop/pay:http -> 10.244.2.2:8080" -m statistic --mode random --probability 0.50000000000',
        '-m comment --comment "shop/pay:http -> 10.244.2.3:8080"',
    )
    assert nat[seps[0]] == [
        '-s 10.244.1.2/32 -m comment --comment "shop/pay:http" -j KUBE-MARK-MASQ',
        '-p tcp -m comment --comment "shop/pay:http" -j DNAT --to-destination 10.244.1.2:8080',
    ]
    dispatch, node_ports = nat["KUBE-SERVICES"]
    assert dispatch == (
        '-d 10.96.7.7/32 -p tcp -m comment --comment "shop/pay:http cluster IP" -m tcp --dport 80 '
        f"-j {SVC}"
    )
    assert node_ports.startswith("-d 192.168.0.11/32 ")
    assert nat["PREROUTING"] == [
        '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    ]


def test_both_families_are_there_with_or_without_services() -> None:
    made = listed()
    assert set(made) == {
        (family, table) for family in Family for table in (Table.FILTER, Table.NAT)
    }
    assert chains(made["IPv6", "nat"])["KUBE-SERVICES"][0].startswith("-d fd00:192:168::11/128 ")
    assert SVC not in chains(made["IPv4", "nat"])


def test_the_masquerade_bit() -> None:
    nat = chains(listed(THREE, masquerade_bit=3)["IPv4", "nat"])
    assert nat["KUBE-MARK-MASQ"] == ["-j MARK --set-xmark 0x8/0x8"]


@pytest.mark.parametrize(("count", "is_large"), [(1000, False), (1001, True)])
def test_a_large_cluster_is_listed_in_short_rules(*, count: int, is_large: bool) -> None:
    many = pods(*(f"10.244.{2 + n // 250}.{n % 250}" for n in range(count)))
    nat = chains(listed(plan_of(cluster_ip("10.96.7.7"), cluster=many))["IPv4", "nat"])
    assert (len([name for name in nat if name.startswith("KUBE-SEP-")]) == 0) is is_large
    assert nat[SVC][-1].startswith("-p tcp -j DNAT ") is is_large


def test_text_is_read_as_what_a_save_prints() -> None:
    made = tables({PAY: (THREE,)}, NODE, ModeSettings())
    of_one = [table for table in made if table.family is Family.IPV4]
    lines = list(text(of_one))
    assert lines[:3] == ["# IPv4", "*filter", ":INPUT ACCEPT [0:0]"]
    assert lines[-1] == "COMMIT"
    assert ":KUBE-SERVICES - [0:0]" in lines
    found = read("\n".join(lines))
    assert found == {
        ChainName(table.name, chain.name): list(chain.rules)
        for table in of_one
        for chain in table.chains
    }
