"""Is what render prints what iptables-save prints of the kernel?"""

from __future__ import annotations

import subprocess

import pytest

from endpoints.names import Family, ObjectName
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.base import ModeSettings
from modes.iptables.listing import tables, text
from modes.iptables.mode import IptablesMode
from modes.xtables.variant import Variant
from tests.unit.modes.nftables.build import plan_of, pods

COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
PAY = ObjectName("shop", "pay")
CIDRS = LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48"))
ONE = NodePortAddresses(addresses=("192.168.0.11",))
ONE_V6 = NodePortAddresses(addresses=("fd00:192:168::11",))
ALL = NodePortAddresses(match_all=True)
NODES = {
    "cluster CIDR": NodeView(
        "node-a", node_ports_v4=ONE, node_ports_v6=ONE_V6, local_traffic=CIDRS
    ),
    "prefix": NodeView(
        "node-a",
        local_traffic=LocalTraffic(DetectLocalMode.INTERFACE_NAME_PREFIX, (), "cali"),
    ),
    "NodePorts everywhere": NodeView("node-a", node_ports_v4=ALL, node_ports_v6=ALL),
}
COUNTING = " -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts"
"""What a kernel that has these counters is told in addition."""

pytestmark = pytest.mark.usefixtures("network")


def plan(family: Family) -> ServicePlan:
    v4 = family is Family.IPV4
    pod = "10.244.{}" if v4 else "fd00:10:244:{}"
    ends = ("1.2", "2.2", "2.3") if v4 else ("1::2", "2::2", "2::3")
    balancer = "198.51.100.20" if v4 else "2001:db8:198::20"
    ranges = ("203.0.113.0/24",) if v4 else ("2001:db8:203::/64",)
    policy = TrafficPolicy.LOCAL
    return plan_of(
        Frontend(FrontendKind.CLUSTER_IP, "10.96.7.7" if v4 else "fd00:10:96::7", 80, policy),
        Frontend(FrontendKind.LOAD_BALANCER, balancer, 80, policy, ranges),
        Frontend(FrontendKind.NODE_PORT, None, 30080, policy),
        cluster=pods(*(pod.format(end) for end in ends)),
        affinity_seconds=60,
        family=family,
    )


def saved(family: Family, variant: Variant) -> list[str]:
    """What both tables hold, without comments."""
    out: list[str] = []
    for table in ("filter", "nat"):
        command = [f"{COMMAND[family]}-{variant}-save", "-t", table]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = done.stdout.replace(COUNTING, "").splitlines()
        out += [line for line in lines if not line.startswith("#")]
    return out


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_render_prints_what_is_saved_of_the_kernel(variant: Variant, node: NodeView) -> None:
    services = {PAY: (plan(Family.IPV4), plan(Family.IPV6))}
    settings = ModeSettings(iptables_variant=variant)
    mode = IptablesMode(settings, lambda *_, **__: None)
    mode.start(node)
    mode.replace(services)
    listed = tables(services, node, settings)
    for family in Family:
        lines = list(text(table for table in listed if table.family is family))
        assert saved(family, variant) == [line for line in lines if not line.startswith("#")]
    mode.close()
