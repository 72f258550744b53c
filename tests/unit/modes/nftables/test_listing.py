"""Is what render prints what nft prints of the kernel?"""

from __future__ import annotations

import re
import subprocess

import pytest

from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.nftables.kernel import lookups_can_miss
from modes.nftables.listing import ListedTable, tables
from modes.nftables.mode import NftablesMode
from tests.lab import sandbox

PAY = ObjectName("shop", "pay")
BASE = NodeView(
    name="node-a",
    addresses=frozenset({"192.168.0.11", "fd00:192:168::11"}),
    node_ports_v4=NodePortAddresses(addresses=("192.168.0.11",)),
    node_ports_v6=NodePortAddresses(addresses=("fd00:192:168::11",)),
)
CIDRS = LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48"))


def node(traffic: LocalTraffic = CIDRS, ports: NodePortAddresses | None = None) -> NodeView:
    v4, v6 = (ports, ports) if ports else (BASE.node_ports_v4, BASE.node_ports_v6)
    return NodeView(
        name=BASE.name,
        addresses=BASE.addresses,
        node_ports_v4=v4,
        node_ports_v6=v6,
        local_traffic=traffic,
    )


NODES = {
    "cluster CIDR": node(),
    "bridge": node(LocalTraffic(DetectLocalMode.BRIDGE_INTERFACE, (), "cni0")),
    "prefix": node(LocalTraffic(DetectLocalMode.INTERFACE_NAME_PREFIX, (), "cali")),
    "long prefix": node(LocalTraffic(DetectLocalMode.INTERFACE_NAME_PREFIX, (), "cali-workload")),
    "no detector": node(LocalTraffic(DetectLocalMode.CLUSTER_CIDR)),
    "NodePorts everywhere": node(ports=NodePortAddresses(match_all=True)),
}


def plan(family: Family) -> ServicePlan:
    v4 = family is Family.IPV4
    pod = "10.244.1.{}" if v4 else "fd00:10:244:1::{}"
    endpoints = tuple(Endpoint(pod.format(n), 8080, is_local=n == 2) for n in (2, 3, 4))
    policy = TrafficPolicy.LOCAL
    balancer = "198.51.100.20" if v4 else "2001:db8:198::20"
    ranges = ("203.0.113.0/24",) if v4 else ("2001:db8:203::/64",)
    frontends = (
        Frontend(FrontendKind.CLUSTER_IP, "10.96.7.7" if v4 else "fd00:10:96::7", 80, policy),
        Frontend(FrontendKind.LOAD_BALANCER, balancer, 80, policy, ranges),
        Frontend(FrontendKind.NODE_PORT, None, 30080, TrafficPolicy.CLUSTER),
    )
    name = ServicePortName("shop", "pay", "http", Protocol.TCP)
    local = tuple(e for e in endpoints if e.is_local)
    return ServicePlan(name, family, frontends, endpoints, local, has_any=True)


def nft_chains(table: str) -> dict[str, list[str]]:
    """Chains and their rules, as nft lists them."""
    argv = ["nft", "list", "table", table, "headgate"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    chains = re.findall(r"^\tchain (\S+) \{\n(.*?)^\t\}", listed, re.MULTILINE | re.DOTALL)
    return {
        name: [line.strip() for line in body.splitlines() if "policy accept" not in line]
        for name, body in chains
    }


def nft_sets(table: str) -> dict[str, tuple[str, set[str]]]:
    """Sets and maps, each with its type and options, and its elements."""
    argv = ["nft", "list", "table", table, "headgate"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    sets = re.findall(r"^\t(?:set|map) (\S+) \{\n(.*?)^\t\}", listed, re.MULTILINE | re.DOTALL)
    out = {}
    for name, body in sets:
        head, _, rest = body.partition("elements = {")
        elements = re.sub(r"0x([0-9a-f]{8})", lambda m: str(int(m[1], 16)), rest.strip(" \n\t}"))
        told = {re.sub(r"\s+", " ", element).strip() for element in elements.split(",")} - {""}
        out[name] = ("\n".join(map(str.strip, head.strip().splitlines())), told)
    return out


def sets_of(table: ListedTable) -> dict[str, tuple[str, set[str]]]:
    return {
        listed.name: ("\n".join((f"type {listed.type}", *listed.options)), set(listed.elements))
        for listed in table.sets
    }


def as_nft_lists(rule: str) -> str:
    """The one thing that nft leaves out: a protocol that the statement implies."""
    return rule.replace("meta l4proto tcp reject with tcp reset", "reject with tcp reset")


def chains_of(table: ListedTable) -> dict[str, list[str]]:
    return {chain.name: list(map(as_nft_lists, chain.rules)) for chain in table.chains}


@pytest.mark.skipif(lookups_can_miss(), reason="before kernel 6.17 some lookups are written twice")
@pytest.mark.parametrize("view", NODES.values(), ids=NODES)
def test_render_prints_what_nft_prints_of_the_kernel(view: NodeView) -> None:
    sandbox.require_sandbox()
    services = {PAY: (plan(Family.IPV4), plan(Family.IPV6))}
    mode = NftablesMode()
    try:
        mode.start(view)
        mode.replace(services)
        for table in tables(services, view):
            assert chains_of(table) == nft_chains(table.family)
            assert sets_of(table) == nft_sets(table.family)
    finally:
        mode.cleanup()
        mode.close()


def test_elements_are_listed_with_their_service() -> None:
    ip, ip6 = tables({PAY: (plan(Family.IPV4), plan(Family.IPV6))}, node())
    sets = {listed.name: listed.elements for listed in ip.sets}
    assert sets["services"] == (
        '10.96.7.7 . tcp . 80 comment "shop/pay:http" : goto local-1',
        '198.51.100.20 . tcp . 80 comment "shop/pay:http" : goto pick-3',
    )
    assert sets["endpoints"][0] == "10.96.7.7 . tcp . 80 . 1048576 : 10.244.1.2 . 8080"
    assert sets["nodeport-ips"] == ("192.168.0.11",)
    assert ("fd00:10:96::7",) in [listed.elements for listed in ip6.sets]
