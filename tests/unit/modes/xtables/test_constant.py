"""Are rules that are there for no Service adopted, mended and removed as all others are?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from modes.iptables import skeleton as iptables
from modes.iptables.rendering import Rendering
from modes.xtables import adopt, chains, names, transaction
from modes.xtables.chains import Skeleton
from modes.xtables.delta import Program
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from tests.unit.modes.xtables import constant
from tests.unit.modes.xtables.restorer import Strict, node_of

V4 = Family.IPV4
EITHER = {
    "constant": constant.skeleton(V4),
    "iptables": iptables.skeleton(node_of(), V4, Rendering(), drops_invalid=True),
}


def made(kernel: Strict, program: Program) -> str:
    """Bring the kernel to what the program says; the text of it."""
    changes = adopt.difference(program, kernel.chains)
    text = transaction.script(program, changes, in_blocks=False).text
    kernel.restore(text)
    return text


def program_of(skeleton: Skeleton) -> Program:
    return Program(V4, skeleton)


def test_all_three_tables_are_filled_and_then_left_alone() -> None:
    kernel, program = Strict(), program_of(EITHER["constant"])
    made(kernel, program)
    for table in Table:
        assert constant.of_table(table) <= set(kernel.chains)
    assert kernel.chains[chains.LOCAL_POLICY] == [
        (
            "-m set --match-set KUBE-CLUSTER-IP dst,dst "
            "-m set ! --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j DROP"
        ),
        "-m addrtype --src-type LOCAL -j SET --map-set KUBE-LOCAL-BYPASS dst,dst --map-mark",
    ]
    assert made(kernel, program) == ""


@pytest.mark.parametrize("chain", [*EITHER["constant"].chains])
def test_what_is_missing_is_told_and_mended(chain: ChainName) -> None:
    kernel, program = Strict(), program_of(EITHER["constant"])
    made(kernel, program)
    wanted = kernel.chains
    lost = wanted[chain][-1]
    kernel.chains = {**wanted, chain: wanted[chain][:-1]}
    drift = adopt.drift(adopt.difference(program, kernel.chains), kernel.chains)
    assert drift.missing == (f"{chain.table} -A {chain.name} {lost}",)
    assert not drift.extra
    made(kernel, program)
    assert kernel.chains == wanted


def test_what_refuses_comes_before_nat_and_goes_after_it() -> None:
    kernel, program = Strict(), program_of(EITHER["constant"])
    assert sections(made(kernel, program)) == ["filter", "mangle", "nat"]
    changes = adopt.removal(V4, kernel.chains, keeps_martian_rule=False)
    text = transaction.script(program_of(Skeleton({}, ())), changes, in_blocks=False).text
    assert sections(text) == ["nat", "filter", "mangle"]
    kernel.restore(text)
    assert kernel.chains == Strict().chains


def sections(text: str) -> list[str]:
    return [line[1:] for line in text.splitlines() if line.startswith("*")]


@pytest.mark.parametrize(("before", "after"), [("constant", "iptables"), ("iptables", "constant")])
def test_a_switch_of_modes_leaves_nothing_of_the_other(before: str, after: str) -> None:
    kernel, fresh = Strict(), Strict()
    made(kernel, program_of(EITHER[before]))
    made(kernel, program_of(EITHER[after]))
    made(fresh, program_of(EITHER[after]))
    assert {c: sorted(of) for c, of in kernel.chains.items()} == {
        c: sorted(of) for c, of in fresh.chains.items()
    }
    assert made(kernel, program_of(EITHER[after])) == ""


def test_a_jump_of_somebody_else_keeps_a_chain_of_another_mode_and_empties_it() -> None:
    kernel = Strict()
    made(kernel, program_of(EITHER["constant"]))
    theirs = f"-i eth9 -j {names.LOCAL_POLICY}"
    kernel.chains[ChainName(Table.MANGLE, "PREROUTING")].append(theirs)
    made(kernel, program_of(EITHER["iptables"]))
    assert kernel.chains[ChainName(Table.MANGLE, "PREROUTING")] == [theirs]
    assert kernel.chains[chains.LOCAL_POLICY] == []
    assert chains.LOCAL_POLICY_POST not in kernel.chains


KUBE_PROXY = """\
nat KUBE-SERVICES, nat KUBE-POSTROUTING, nat KUBE-MARK-MASQ, nat KUBE-NODE-PORT,
nat KUBE-LOAD-BALANCER, filter KUBE-FORWARD, filter KUBE-NODE-PORT, filter KUBE-PROXY-FIREWALL,
filter KUBE-SOURCE-RANGES-FIREWALL, filter KUBE-IPVS-FILTER, filter KUBE-IPVS-OUT-FILTER
"""
"""The chains of its IPVS mode, 1.30."""


def test_the_chains_of_kube_proxys_ipvs_mode_are_known() -> None:
    told = [one.split() for one in KUBE_PROXY.replace("\n", " ").split(",")]
    known = [ChainName(Table(table), name) for table, name in told]
    assert len(known) == 11
    assert all(map(adopt.is_ours, known))


@pytest.mark.parametrize(
    "chain", ["mangle KUBE-NODE-PORT", "nat KUBE-FIREWALL", "nat KUBE-IPVS-FILTER"]
)
def test_the_same_name_elsewhere_is_somebody_elses(chain: str) -> None:
    table, name = chain.split()
    assert not adopt.is_ours(ChainName(Table(table), name))
