"""Are the places that `explain` names those that the packet passes?"""

from __future__ import annotations

import pytest

from endpoints.explain import Explanation, Place
from modes.ipvs.fragment import Choice, render
from modes.ipvs.marks import Layout, Marks
from modes.ipvs.places import chain
from modes.ipvs.servers import VirtualServer
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.ways import EXTERNAL_IP, HERE, LOCAL, POD, THERE, WAYS, way

BYPASS = way(POD, EXTERNAL_IP, 80, LOCAL, HERE, THERE)
CLUSTER_IP = "TCP 10.96.7.7:80"
NAMES = {
    "cluster IP": ["PREROUTING", CLUSTER_IP, "KUBE-POSTROUTING"],
    "from the node": ["OUTPUT", CLUSTER_IP, "KUBE-POSTROUTING"],
    "node port": ["PREROUTING", "TCP node:30080", "KUBE-POSTROUTING"],
    "local": ["PREROUTING", "TCP 198.51.100.20:80", "KUBE-POSTROUTING"],
    "local node port": ["PREROUTING", "TCP node:30080", "KUBE-POSTROUTING"],
    "affinity": ["PREROUTING", CLUSTER_IP, "KUBE-POSTROUTING"],
    "local node port with affinity": ["PREROUTING", "TCP node:30080", "KUBE-POSTROUTING"],
    "outside of the ranges": ["PREROUTING", "KUBE-LOCAL-POLICY"],
    "unknown port": ["PREROUTING", "KUBE-IPVS-FILTER"],
    "no endpoints": ["PREROUTING", "KUBE-IPVS-FILTER"],
    "no endpoints, external IP": ["PREROUTING", "KUBE-IPVS-FILTER"],
    "no endpoints, balancer": ["PREROUTING", "KUBE-IPVS-FILTER"],
    "no local endpoints, node port": ["PREROUTING", "KUBE-LOCAL-POLICY"],
    "no Service": ["PREROUTING"],
}


def named(explanation: Explanation) -> list[str]:
    return [chain(step.place, explanation) for step in explanation.steps]


@pytest.mark.parametrize("way", WAYS)
def test_names(way: str) -> None:
    assert named(WAYS[way].explanation) == NAMES[way]


def test_who_bypasses_policy_local_has_a_mark() -> None:
    assert named(BYPASS.explanation) == ["PREROUTING", "mark", "KUBE-POSTROUTING"]


@pytest.mark.parametrize("way", ["cluster IP", "from the node", "local", "affinity"])
def test_there_are_such_virtual_servers(way: str) -> None:
    choice = Choice(Marks(Layout(14), {}).of, lambda _: VirtualServer())
    servers = render([WAYS[way].plan], NODE_A, choice).servers
    assert NAMES[way][1] in map(str, servers)


def test_what_belongs_to_a_service_has_no_place_without_one() -> None:
    with pytest.raises(ValueError, match="cluster list: the packet reaches no Service"):
        chain(Place.CLUSTER_LIST, WAYS["no Service"].explanation)


def test_no_service_is_served_on_loopback_addresses() -> None:
    with pytest.raises(ValueError, match="martians: the IPVS mode serves no loopback address"):
        chain(Place.MARTIANS, WAYS["node port"].explanation)
