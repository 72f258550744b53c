"""Do the chains that IPVS leaves behind come and go, and leave those of who serves alone?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from modes.base import KernelFault, ModeSettings
from modes.ipvs import ipsets, retiring
from modes.ipvs.adopt import KUBE_PROXY, OURS
from modes.ipvs.ipsets import SetName
from modes.ipvs.kernel import Ipset
from modes.ipvs.quiesce import KINDS
from modes.ipvs.retiring import RetiringRules
from modes.xtables.names import Table
from modes.xtables.restore import parse
from modes.xtables.rules import ChainName
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

V4 = Family.IPV4
CHAINS = (retiring.FILTER, retiring.NAT)
BASES = [
    ChainName(Table.FILTER, "INPUT"),
    ChainName(Table.FILTER, "OUTPUT"),
    ChainName(Table.FILTER, "FORWARD"),
    ChainName(Table.NAT, "POSTROUTING"),
]


@pytest.fixture(params=Variant)
def variant(request: pytest.FixtureRequest, ipset: Ipset) -> Variant:
    """Each that this kernel can match sets in; the sets are there."""
    found: Variant = request.param
    for name in (SetName(kind, family) for kind in KINDS for family in Family):
        ipset.create(name, ipsets.spec(name))
    try:
        others.write(found, "*filter\n-A INPUT -m set --match-set KUBE-IPVS-IPS dst\nCOMMIT\n")
    except Exception:  # noqa: BLE001 (whatever iptables says)
        pytest.skip(f"this kernel has no xt_set for iptables ({found}): tests/uml has one that has")
    tables.iptables(found, "-F", "INPUT")
    return found


@pytest.fixture
def rules(variant: Variant) -> RetiringRules:
    """Those of a headgate that has just been started."""
    return RetiringRules(ModeSettings(iptables_variant=variant), lambda *_, **__: None)


def leading(variant: Variant, family: Family = V4) -> list[ChainName]:
    """The built-in chains that lead into them, once for each jump."""
    held = tables.held(variant, family)
    return [
        chain
        for chain in BASES
        for one in held.get(chain, ())
        if parse(one, family).target == retiring.NAME
    ]


def test_they_stand_beside_those_of_who_serves(rules: RetiringRules, variant: Variant) -> None:
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace(services(1))
    before = tables.state(variant)
    assert rules.whose() == KUBE_PROXY
    for _ in range(2):
        rules.write([V4])
        assert leading(variant) == BASES
        assert rules.whose() == OURS
    held = tables.held(variant)
    assert [len(held[chain]) for chain in CHAINS] == [7, 1]
    assert not mode.verify()
    mode.start(NODE_A)
    mode.replace(services(1, 2))
    mode.replace(services(1))
    assert leading(variant) == BASES
    assert not leading(variant, Family.IPV6)
    rules.remove()
    assert tables.state(variant) == before
    mode.close()


def test_a_retirement_of_iptables_leaves_them(rules: RetiringRules, variant: Variant) -> None:
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace({})
    rules.write(list(Family))
    mode.retire("nftables")
    for family in Family:
        assert leading(variant, family) == BASES
    rules.remove()
    for family in Family:
        assert not leading(variant, family)
        assert not {*CHAINS} & tables.held(variant, family).keys()


def test_rules_of_others_that_lead_there_keep_nothing_else(
    rules: RetiringRules, variant: Variant
) -> None:
    """An administrator's jump keeps the chain; we are told, and try again."""
    rules.write([V4])
    tables.iptables(variant, "-A", "INPUT", "-i", "eth9", "-j", retiring.NAME)
    with pytest.raises(KernelFault):
        rules.remove()
    tables.iptables(variant, "-D", "INPUT", "-i", "eth9", "-j", retiring.NAME)
    rules.remove()
    assert not {*CHAINS} & tables.held(variant).keys()
