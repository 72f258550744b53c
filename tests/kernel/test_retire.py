"""Do our tables and kube-proxy's go when their time has come, and nobody else's?"""

from __future__ import annotations

import pytest

from modes.nftables.mode import NftablesMode
from tests.kernel.rulesets import nft, ruleset, services
from tests.kernel.test_others import NEIGHBOURS
from tests.unit.endpoints.build import NODE_A

KUBE_PROXY = """
table ip kube-proxy {
  chain reject-chain { reject; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict;
    elements = { 10.96.0.1 . tcp . 80 : goto reject-chain }; }
  chain filter-prerouting { type filter hook forward priority -110;
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
}
table ip6 kube-proxy { comment "rules for kube-proxy"; chain services { }; }
"""
OTHERS = NEIGHBOURS.replace("table ip kube-proxy", "table inet kube-proxy")
LEFT = {"table ip kube-proxy", "table ip6 kube-proxy"}
OURS = {"table ip headgate", "table ip6 headgate"}


@pytest.fixture
def before(mode: NftablesMode) -> str:
    """The tables of others, as they are listed; ours and kube-proxy's are there as well."""
    nft("-f", "-", text=OTHERS)
    others = ruleset()
    nft("-f", "-", text=KUBE_PROXY)
    mode.start(NODE_A)
    mode.replace(services(1, 2))
    assert tables() > LEFT | OURS
    return others


def tables() -> set[str]:
    return set(nft("list", "tables").splitlines())


@pytest.mark.parametrize("successor", ["iptables", "ipvs"])
def test_ours_and_kube_proxys_give_way(before: str, successor: str) -> None:
    started_anew = NftablesMode()
    assert started_anew.retire(successor) is None
    assert ruleset() == before
    assert started_anew.retire(successor) is None
    assert ruleset() == before
    started_anew.close()


def test_kube_proxys_gives_way_to_ours(before: str, mode: NftablesMode) -> None:
    assert mode.retire("nftables") is None
    assert not tables() & LEFT
    assert tables() >= OURS
    assert not mode.verify()
    mode.cleanup()
    assert ruleset() == before


def test_a_cleanup_leaves_kube_proxys(before: str, mode: NftablesMode) -> None:
    assert before
    assert mode.cleanup()
    assert tables() >= LEFT
