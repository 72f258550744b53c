"""Is what iptables cannot do here left out, and is that seen from the rules again?"""

from __future__ import annotations

import itertools

import pytest

from endpoints.names import Family
from modes.ipvs.chains import abilities, skeleton
from modes.ipvs.marks import Layout
from modes.xtables.abilities import Abilities
from modes.xtables.adopt import Found
from modes.xtables.delta import Program
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from tests.unit.endpoints.build import NODE_A

BOTH_WAYS = [False, True]


def rules(able: Abilities, family: Family = Family.IPV4) -> Found:
    """The text of all chains."""
    program = Program(family, skeleton(NODE_A, family, able, Layout(14)))
    return {whole.chain: list(whole.specs) for whole in program.whole(program.frames)}


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    "able",
    [
        Abilities(comment=comment, random_fully=fully, ipvs=ipvs)
        for comment, fully, ipvs in itertools.product(*[BOTH_WAYS] * 3)
    ],
)
def test_what_was_lacking_is_seen_again(able: Abilities, family: Family) -> None:
    assert abilities(rules(able, family)) == able


def test_where_there_are_no_rules_all_is_expected() -> None:
    assert abilities({}) == Abilities()


@pytest.mark.parametrize(
    "chain",
    [
        ChainName(Table.MANGLE, "KUBE-LOCAL-POLICY"),
        ChainName(Table.FILTER, "KUBE-IPVS-FILTER"),
    ],
    ids=str,
)
def test_what_ipvs_has_sent_on_passes_before_anything_else(chain: ChainName) -> None:
    sent_on, *others = rules(Abilities())[chain]
    assert sent_on == '-m comment --comment "sent on by IPVS" -m ipvs --ipvs -j RETURN'
    assert others == rules(Abilities(ipvs=False))[chain]
