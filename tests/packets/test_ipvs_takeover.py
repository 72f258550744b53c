"""Does a connection fail when IPVS mode takes over from kube-proxy's, or from our own iptables mode?"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import Target
from tests.packets import ipvs, kube_proxy_ipvs
from tests.packets.kube_proxy_ipvs import Served

NODE = topology.NODES[0]
SENDER = "pod-a1"
VIPS = ("10.96.7.7", "fd00:10:96::7")
STALE = ("10.96.7.66", "fd00:10:96::66")
"""A Service that was deleted while nobody was there."""
NODE_PORT = 30080
PORTS = [Port(80, node_port=NODE_PORT)]
PODS = ("pod-a2", "pod-b1", "pod-c1")
KUBE_PROXYS_OWN = {
    "KUBE-LOAD-BALANCER",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-OUT-FILTER",
}
"""Chains that we have no use for."""
COMMANDS = ("iptables-legacy", "ip6tables-legacy")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        endpoints = [Endpoint.of(built.pods[pod]) for pod in PODS]
        built.apply(
            *nodes(), service("shop/pay", VIPS, PORTS), *slices("shop/pay", PORTS, endpoints)
        )
        yield built


def load(lab: Lab) -> Load:
    """From a pod and from outside, in both families, without pause."""
    flows = []
    for family in (0, 1):
        flows.append((SENDER, Target(VIPS[family], 80)))
        flows.append((topology.CLIENT, Target(NODE.addresses[family], NODE_PORT)))
    return lab.load(*flows)


def leave_what_kube_proxy_leaves(lab: Lab) -> None:
    lab.exec(NODE.name, ["sysctl", "-qw", "net.ipv4.vs.conntrack=1"])
    lab.exec(NODE.name, ["ip", "link", "add", "kube-ipvs0", "type", "dummy"])
    for family in (0, 1):
        reals = {pod: lab.pods[pod].addresses[family] for pod in PODS}
        placed = tuple(("{}:8080", "[{}]:8080")[family].format(real) for real in reals.values())
        served = [
            Served(VIPS[family], 80, NODE_PORT, placed),
            Served(STALE[family], 80, 0, placed[:1]),
        ]
        sets = kube_proxy_ipvs.sets(served, placed[:1], is_ipv6=bool(family))
        lab.exec(NODE.name, ["ipset", "restore"], "".join(f"{line}\n" for line in sets))
        lab.network.configure(NODE.name, kube_proxy_ipvs.link(served))
        places = [NODE.addresses[family], NODE.pod_gateways[family]]
        servers = "".join(f"{line}\n" for line in kube_proxy_ipvs.virtual_servers(served, places))
        lab.exec(NODE.name, ["ipvsadm", "-R"], servers)
        rules = kube_proxy_ipvs.rules(topology.CLUSTER_CIDRS[family], is_ipv6=bool(family))
        lab.exec(NODE.name, [f"{COMMANDS[family]}-restore", "--noflush"], rules)
    # ipvsadm -R succeeds whatever happens to its lines.
    assert len(ipvs.servers(lab, NODE.name)) == 2 * (2 + 2)


def test_kube_proxys_ipvs_mode(lab: Lab) -> None:
    leave_what_kube_proxy_leaves(lab)
    with load(lab) as going:
        going.wait_for(40)
        before = set(going.answered_by)
        lab.start_headgate(NODE.name, mode="ipvs")
        lab.wait_synced()
        going.wait_for(40)
    assert before == set(PODS)
    assert not going.failures, "\n".join(map(str, going.failures))
    assert set(going.answered_by) == set(PODS)
    # What nobody wants any more is gone, with its address; and what kube-proxy alone needed.
    assert not [name for name in ipvs.servers(lab, NODE.name) if "66]" in name or ".66:" in name]
    assert {address.partition("/")[0] for address in ipvs.addresses(lab, NODE.name)} >= {*VIPS}
    assert not {f"{STALE[0]}/32", f"{STALE[1]}/128"} & ipvs.addresses(lab, NODE.name)
    for command in COMMANDS:
        rules = lab.exec(NODE.name, [f"{command}-save"])
        assert not set(re.findall(r"^:(\S+)", rules, re.MULTILINE)) & KUBE_PROXYS_OWN
    limits = re.findall(
        r"^create KUBE-(?:6-)?CLUSTER-IP .* maxelem (\d+)",
        lab.exec(NODE.name, ["ipset", "save"]),
        re.MULTILINE,
    )
    assert len(limits) == 2
    assert all(int(limit) > 65536 for limit in limits)


def test_our_own_iptables_mode(lab: Lab) -> None:
    lab.start_headgate(NODE.name, mode="iptables-legacy")
    lab.wait_synced()
    with load(lab) as going:
        going.wait_for(40)
        lab.stop_headgate(NODE.name)
        going.wait_for(40)
        lab.start_headgate(NODE.name, mode="ipvs")
        lab.wait_synced()
        going.wait_for(40)
    assert not going.failures, "\n".join(map(str, going.failures))
    assert set(going.answered_by) == set(PODS)
    for command in COMMANDS:
        assert "KUBE-SVC-" not in lab.exec(NODE.name, [f"{command}-save"])
