"""Are the chains that `explain` names those that the packet passes?"""

from __future__ import annotations

import pytest

from endpoints.explain import Place
from endpoints.names import Family
from modes.iptables.fragment import render
from modes.iptables.places import chain
from modes.iptables.rendering import Rendering
from modes.registry import places
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.ways import WAYS

# The hash of "shop/pay:httptcp".
PAY = "VBGEIYV62G5OCDZY"
SVC, SVL, FW = (f"KUBE-{kind}-{PAY}" for kind in ("SVC", "SVL", "FW"))

NAMES = {
    "cluster IP": ["PREROUTING", SVC, "KUBE-POSTROUTING"],
    "from the node": ["OUTPUT", SVC, "KUBE-POSTROUTING"],
    "node port": ["PREROUTING", SVC, "KUBE-POSTROUTING"],
    "local": ["PREROUTING", SVL, "KUBE-POSTROUTING"],
    "local node port": ["PREROUTING", SVL, "KUBE-POSTROUTING"],
    "affinity": ["PREROUTING", SVC, "KUBE-POSTROUTING"],
    "local node port with affinity": ["PREROUTING", SVL, "KUBE-POSTROUTING"],
    "outside of the ranges": ["PREROUTING", FW],
    "unknown port": ["PREROUTING", "KUBE-CLUSTER-IPS"],
    "no endpoints": ["PREROUTING", "KUBE-SERVICES"],
    "no endpoints, external IP": ["PREROUTING", "KUBE-EXTERNAL-SERVICES"],
    "no endpoints, balancer": ["PREROUTING", "KUBE-EXTERNAL-SERVICES"],
    "no local endpoints, node port": ["PREROUTING", "KUBE-EXTERNAL-NODEPORTS"],
    "no Service": ["PREROUTING"],
}


@pytest.mark.parametrize("way", WAYS)
def test_names(way: str) -> None:
    assert list(places("iptables", WAYS[way].explanation)) == NAMES[way]


@pytest.mark.parametrize("way", WAYS)
def test_there_are_such_chains(way: str) -> None:
    fragments = render([WAYS[way].plan], NODE_A, {Family.IPV4: Rendering()})
    rendered = fragments[Family.IPV4]
    written = {chain.name for chain in rendered.chains}
    written |= {chain.name for chain, _ in rendered.shared}
    always = {"PREROUTING", "OUTPUT", "KUBE-POSTROUTING", "KUBE-CLUSTER-IPS"}
    assert set(NAMES[way]) - always <= written


def test_what_belongs_to_a_service_has_no_chain_without_one() -> None:
    with pytest.raises(ValueError, match="cluster list: the packet reaches no Service"):
        chain(Place.CLUSTER_LIST, WAYS["no Service"].explanation)
