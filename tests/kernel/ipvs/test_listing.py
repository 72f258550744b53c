"""Is what render prints what the kernel's own tools print when it is in, and does dump show it?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pytest

from endpoints.names import ObjectName, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from modes.base import IpvsSettings, ModeSettings, Plans
from modes.ipvs.kernel import Ipvs
from modes.ipvs.listing import tables, text
from modes.ipvs.looking import look
from modes.ipvs.mode import IpvsMode
from tests.kernel.ipvs.programs import said
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
    addresses=frozenset({"192.0.2.10", "fd00:192:0:2::10"}),
    node_ports_v4=NodePortAddresses(match_all=True),
    node_ports_v6=NodePortAddresses(match_all=True),
    local_traffic=LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48")),
)
PAY, DNS, IDLE = (ObjectName("shop", name) for name in ("pay", "dns", "idle"))
V4, V6 = pods("10.244.1.2", "10.244.2.2"), pods("fd00:10:244:1::2", "fd00:10:244:2::2")
SERVICES: Mapping[ObjectName, Plans] = {
    PAY: (
        plan_of(
            cluster_ip("10.96.7.7"),
            external_ip("198.51.100.9"),
            balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24", "198.51.100.4/32"]),
            node_port(30080, LOCAL),
            cluster=V4,
        ),
        plan_of(cluster_ip("fd00:10:96::7"), external_ip("2001:db8::9", policy=LOCAL), cluster=V6),
    ),
    DNS: (
        plan_of(
            cluster_ip("10.96.0.10", 53),
            cluster=V4,
            name=ServicePortName("shop", "dns", "dns", Protocol.UDP),
            affinity_seconds=90,
        ),
    ),
    IDLE: (
        plan_of(
            cluster_ip("10.96.7.9"),
            name=ServicePortName("shop", "idle", "", Protocol.TCP),
        ),
    ),
}
SETTINGS = ModeSettings(ipvs=IpvsSettings("sh", ("sh-port",)), iptables_variant="legacy")


@pytest.fixture
def mode(ipvs: Ipvs) -> Iterator[IpvsMode]:  # noqa: ARG001 (skips where the kernel has none)
    """The mode, with these Services in the kernel."""
    for address in NODE.addresses:
        length = "128 nodad" if ":" in address else "32"
        said("ip", "address", "add", *f"{address}/{length}".split(), "dev", "lo")
    made = IpvsMode(SETTINGS, lambda *_, **__: None)
    made.start(NODE)
    assert not made.replace(SERVICES).failed
    yield made
    made.close()


def listed(title: str) -> list[str]:
    """A part of what render prints."""
    lines = list(text(tables(SERVICES, NODE, SETTINGS)))
    start = lines.index(f"# {title}") + 1
    end = next((n for n in range(start, len(lines)) if lines[n].startswith("# ip")), None)
    return lines[start:end]


def test_virtual_servers(mode: IpvsMode) -> None:  # noqa: ARG001
    assert sorted(said("ipvsadm", "-Sn").splitlines()) == sorted(listed("ipvsadm -Sn"))


def test_sets(mode: IpvsMode) -> None:  # noqa: ARG001
    saved = re.sub(r" bucketsize \d+ initval \w+", "", said("ipset", "save"))
    assert sorted(map(str.rstrip, saved.splitlines())) == sorted(listed("ipset save"))


def test_addresses(mode: IpvsMode) -> None:  # noqa: ARG001
    held = said("ip", "-brief", "address", "show", "dev", "kube-ipvs0").split()
    assert sorted(held[2:]) == sorted(line.split()[3] for line in listed("ip"))


def test_rules(mode: IpvsMode) -> None:  # noqa: ARG001
    saved = f"{said('iptables-legacy-save')}\n{said('ip6tables-legacy-save')}"
    assert _rules(saved.splitlines()) == _rules(listed("iptables-save, ip6tables-save"))


def _rules(lines: Iterable[str]) -> list[str]:
    """Rules and chains; a save has counters and its own remarks."""
    return sorted(line.partition(" [")[0].rstrip() for line in lines if line[:1] in {":", "-"})


@pytest.mark.usefixtures("mode")
def test_what_is_held_is_shown_by_service() -> None:
    told = {(of.name, of.family): of for of in look().services}
    assert set(told) == {
        *(("shop/pay:http", family) for family in ("IPv4", "IPv6")),
        *((f"shop/{name}", "IPv4") for name in ("dns:dns", "idle")),
    }
    (refusing,) = told["shop/idle", "IPv4"].frontends
    assert refusing.rule == "KUBE-CLUSTER-IP -> KUBE-NO-ENDPOINTS -> KUBE-REFUSE"
    assert told["shop/dns:dns", "IPv4"].affinity_seconds == 90
    frontends = {frontend.address: frontend for frontend in told["shop/pay:http", "IPv4"].frontends}
    assert set(frontends) == {"10.96.7.7", "198.51.100.9", "198.51.100.4", "node"}
    assert frontends["10.96.7.7"].rule == "KUBE-CLUSTER-IP -> TCP 10.96.7.7:80 sh sh-port"
    balanced = frontends["198.51.100.4"]
    assert (balanced.policy, len(balanced.endpoints), len(balanced.local_endpoints)) == (
        "Local (pods: Cluster)",
        2,
        1,
    )
    assert balanced.source_ranges == ("198.51.100.4/32", "203.0.113.0/24")
