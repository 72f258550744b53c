"""Are the rules of a mode without Service rules kept in three tables, and left to no other mode?"""

from __future__ import annotations

import subprocess

import pytest

from endpoints.names import Family
from modes.xtables import adopt, chains
from modes.xtables.chains import Skeleton
from modes.xtables.cleanup import clean_up
from modes.xtables.delta import Program
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from modes.xtables.script import read
from modes.xtables.transaction import script
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.xtables import constant
from tests.unit.modes.xtables.examples import create_sets

pytestmark = pytest.mark.usefixtures("sets")
EACH = pytest.mark.parametrize("family", Family)
FOREIGN = """\
table ip mangle {
    chain PREROUTING {
        type filter hook prerouting priority -150
        ct mark 7 drop
    }
}
"""


@pytest.fixture
def sets(network: None) -> None:  # noqa: ARG001
    """The sets that rules look into."""
    create_sets()


def silently(*_: object, **__: object) -> None:
    """Nobody listens."""


def made(variant: Variant, program: Program) -> str:
    """Bring the kernel to what the program says; the text of it."""
    kernel = Kernel(variant)
    found = read(kernel.save(program.family))
    changes = adopt.difference(program, found)
    text = script(program, changes, in_blocks=variant is Variant.NFT).text
    if text:
        kernel.restore(program.family, text)
    return text


def held(variant: Variant, family: Family) -> tables.Tables:
    """What programs made; the kernel's own chains come with a table."""
    found = read(Kernel(variant).save(family))
    return {chain: specs for chain, specs in found.items() if specs or adopt.is_ours(chain)}


@EACH
def test_what_was_written_is_what_is_found(variant: Variant, family: Family) -> None:
    program = Program(family, constant.skeleton(family))
    assert made(variant, program)
    assert made(variant, program) == ""
    assert set(program.frames) <= set(held(variant, family))


@EACH
def test_a_rule_that_somebody_removed_is_missed(variant: Variant, family: Family) -> None:
    program = Program(family, constant.skeleton(family))
    made(variant, program)
    tables.iptables(variant, "-t", "mangle", "-D", "KUBE-LOCAL-POLICY", "2", family=family)
    tables.iptables(variant, "-t", "mangle", "-F", "POSTROUTING", family=family)
    found = read(Kernel(variant).save(family))
    drift = adopt.drift(adopt.difference(program, found), found)
    assert len(drift.missing) == 2
    assert all(rule.startswith("mangle -A ") for rule in drift.missing)
    assert not drift.extra
    made(variant, program)
    assert made(variant, program) == ""


@EACH
def test_a_mode_that_needs_them_no_more(variant: Variant, family: Family) -> None:
    tables.iptables(variant, "-t", "mangle", "-A", "PREROUTING", "-j", "ACCEPT", family=family)
    before = held(variant, family)
    made(variant, Program(family, constant.skeleton(family)))
    made(variant, Program(family, Skeleton({}, ())))
    assert held(variant, family) == before


def test_cleanup_removes_them_in_both_variants_at_once() -> None:
    for variant in Variant:
        for family in Family:
            made(variant, Program(family, constant.skeleton(family)))
    assert clean_up(silently)
    for variant in Variant:
        for family in Family:
            assert held(variant, family) == {}
    assert not clean_up(silently)
    left = subprocess.run(["ipset", "list", "-name"], capture_output=True, text=True, check=True)
    for name in left.stdout.split():
        subprocess.run(["ipset", "destroy", name], check=True)  # refused if a rule looks into it


def test_the_iptables_mode_takes_their_place(variant: Variant) -> None:
    for family in Family:
        made(variant, Program(family, constant.skeleton(family)))
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace(services(1, 2, endpoints=2))
    assert not mode.verify()
    for family in Family:
        found = held(variant, family)
        assert not [chain for chain in found if chain.table is Table.MANGLE]
        assert chains.IPVS_FILTER not in found
        assert chains.NAT_NODE_PORT not in found
        assert chains.NAT_SERVICES in found
    mode.close()


def test_the_iptables_mode_takes_the_place_of_those_of_the_other_variant(variant: Variant) -> None:
    other = next(one for one in Variant if one is not variant)
    for family in Family:
        made(other, Program(family, constant.skeleton(family)))
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace(services(1, 2, endpoints=2))
    for family in Family:
        assert held(other, family) == {}
    mode.close()


def test_the_iptables_mode_makes_no_table_that_it_does_not_need(variant: Variant) -> None:
    mode = tables.mode_of(variant)
    mode.start(NODE_A)
    mode.replace(services(1, 2, endpoints=2))
    assert not mode.verify()
    mode.cleanup()
    mode.close()
    assert "mangle" not in others.legacy_tables()
    assert "table ip mangle" not in others.nft_ruleset()


def test_rules_of_nft_in_a_table_that_is_not_needed() -> None:
    """A list of rules that iptables cannot print is somebody else's: the mode works beside it."""
    subprocess.run(["nft", "-f", "-"], input=FOREIGN, text=True, check=True)
    told: list[tuple[str, object]] = []

    def listen(message: str, /, **fields: object) -> None:
        told.append((message, fields["table"]))

    kernel = Kernel(Variant.NFT, listen)
    for _ in range(2):
        assert ChainName(Table.MANGLE, "PREROUTING") in read(kernel.save(Family.IPV4))
    assert told == [("Rules of nft in a table of iptables", "mangle")]
    mode = tables.mode_of(Variant.NFT)
    mode.start(NODE_A)
    mode.replace(services(1, endpoints=2))
    assert not mode.verify()
    assert mode.cleanup()
    mode.close()
    assert "ct mark 0x00000007 drop" in others.nft_ruleset()
