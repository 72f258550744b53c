"""Are the chains that `explain` names those that the packet passes?"""

from __future__ import annotations

import pytest

from endpoints.explain import Place
from endpoints.names import Family
from modes.nftables.places import chain
from modes.nftables.sets import set_specs
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Layout
from modes.registry import places
from tests.unit.modes.ways import WAYS

NAMES = {
    "cluster IP": ["prerouting", "pick-2", "postrouting"],
    "from the node": ["output", "pick-1", "postrouting"],
    "node port": ["prerouting", "np-pick-2", "postrouting"],
    "local": ["prerouting", "local-1", "postrouting"],
    "local node port": ["prerouting", "np-local-1", "postrouting"],
    "affinity": ["prerouting", "sticky-pick-2", "postrouting"],
    "local node port with affinity": ["prerouting", "np-sticky-local-1", "postrouting"],
    "outside of the ranges": ["prerouting", "lb-check"],
    "unknown port": ["prerouting", "no-endpoints"],
    "no endpoints": ["prerouting", "no-endpoints"],
    "no endpoints, external IP": ["prerouting", "no-endpoints"],
    "no endpoints, balancer": ["prerouting", "no-endpoints"],
    "no local endpoints, node port": ["prerouting", "nodeport-local"],
    "no Service": ["prerouting"],
}


@pytest.mark.parametrize("way", WAYS)
def test_names(way: str) -> None:
    assert list(places("nftables", WAYS[way].explanation)) == NAMES[way]


def test_there_are_such_chains_and_maps() -> None:
    layout = Layout(Shape(Family.IPV4))
    constant = {chain.name for chain in layout.base_chains()}
    constant |= {spec.id.set_name for spec in set_specs(Family.IPV4)}
    named = {name for names in NAMES.values() for name in names}
    assert {name for name in named - constant if layout.numbered_chain(name) is None} == set()


def test_a_choice_that_is_none_has_no_chain() -> None:
    with pytest.raises(ValueError, match="cluster list: nothing is chosen on the way to Reject"):
        chain(Place.CLUSTER_LIST, WAYS["no endpoints"].explanation)
