"""Do rules of others stay, whatever they say, and do they never keep us from our work?"""

from __future__ import annotations

import subprocess

import pytest

from modes.iptables.mode import IptablesMode
from modes.xtables import chains
from modes.xtables.variant import Variant
from tests.kernel.iptables import tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

COMMENTS = {
    "a line that looks like a rule": "hello\n-A FOO",
    "a line that looks like a table": "a\n*mangle",
    "a line that looks like a chain": "a\n:KUBE-SERVICES - [0:0]",
    "a jump in a broken line": "x -j KUBE-FORWARD\nbar",
    "a jump": "foo -g KUBE-FORWARD bar",
    "a jump after a quote": 'say "no" -j KUBE-FORWARD',
    "line ends of Unicode": "a\u2028-A FOO\u0085-A BAR\v-A BAZ",
}


def add(variant: Variant, *rule: str) -> None:
    subprocess.run([f"iptables-{variant}", *rule], check=True)


def strangers(variant: Variant) -> set[tuple[str, str]]:
    """The rules with our sign, and the chain each is in."""
    held = tables.held(variant)
    return {(str(c), one) for c, specs in held.items() for one in specs if "6.6.6.6" in one}


@pytest.mark.parametrize("comment", COMMENTS.values(), ids=COMMENTS)
@pytest.mark.parametrize("target", [[], ["-j", "ACCEPT"], ["-j", "LOG", "--log-prefix", "-j A "]])
def test_a_rule_stays_whatever_its_comment_says(
    mode: IptablesMode, variant: Variant, comment: str, target: list[str]
) -> None:
    add(variant, "-A", "FORWARD", "-s", "6.6.6.6", "-m", "comment", "--comment", comment, *target)
    before = strangers(variant)
    assert len(before) == 1
    mode.start(NODE_A)
    assert not mode.replace(services(2)).failed
    assert not mode.verify()
    assert strangers(variant) == before
    assert mode.cleanup()
    assert strangers(variant) == before
    assert not mode.cleanup()


def test_a_comment_of_two_lines_in_a_chain_of_ours_is_removed(
    mode: IptablesMode, variant: Variant
) -> None:
    mode.start(NODE_A)
    mode.replace(services(2))
    odd = ["-s", "6.6.6.6", "-m", "comment", "--comment", "a\nb", "-j", "RETURN"]
    add(variant, "-t", "nat", "-I", "KUBE-SERVICES", *odd)
    assert strangers(variant)
    mode.start(NODE_A)
    assert not mode.replace(services(2)).failed
    assert not strangers(variant)
    assert not mode.verify()


def test_an_administrators_jump_into_a_chain_of_ours_stays(
    mode: IptablesMode, variant: Variant
) -> None:
    jump = ["-t", "nat", "-A", "PREROUTING", "-s", "6.6.6.6", "-j", "KUBE-SERVICES"]
    mode.start(NODE_A)
    mode.replace(services(2))
    add(variant, *jump)
    before = strangers(variant)
    mode.start(NODE_A)
    assert not mode.replace(services(2)).added
    assert strangers(variant) == before
    assert mode.cleanup()
    assert strangers(variant) == before
    assert tables.held(variant)[chains.NAT_SERVICES] == []


def test_somebody_elses_firewall_chain_stays(mode: IptablesMode, variant: Variant) -> None:
    """KUBE-FIREWALL is the kubelet's name; what is in it tells whose the rules are."""
    add(variant, "-N", "KUBE-FIREWALL")
    add(variant, "-A", "INPUT", "-j", "KUBE-FIREWALL")
    add(variant, "-A", "KUBE-FIREWALL", "-s", "6.6.6.6", "-j", "DROP")
    before = tables.held(variant)
    assert not mode.cleanup()
    assert tables.held(variant) == before
    mode.start(NODE_A)
    mode.replace(services(1))
    assert mode.cleanup()
    assert tables.held(variant)[chains.FIREWALL] == before[chains.FIREWALL]
    assert strangers(variant)


TAKES_ALL = {
    "ACCEPT": ["-j", "ACCEPT"],
    "RETURN": ["-m", "comment", "--comment", "no -s here", "-j", "RETURN"],
    "a translation": ["-j", "DNAT", "--to-destination", "6.6.6.6"],
}


@pytest.mark.parametrize("rule", TAKES_ALL.values(), ids=TAKES_ALL)
def test_our_jump_comes_before_what_takes_all(
    mode: IptablesMode, variant: Variant, rule: list[str]
) -> None:
    mode.start(NODE_A)
    mode.replace(services(2))
    (jump,) = tables.held(variant)[tables.PREROUTING]
    add(variant, "-t", "nat", "-F", "PREROUTING")
    add(variant, "-t", "nat", "-A", "PREROUTING", *rule)
    add(variant, "-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES", *COMMENT)
    found = mode.verify()
    assert found.different == ("IPv4 nat PREROUTING: its rules stand in another order",)
    assert (found.missing, found.extra) == ((), ())
    mode.start(NODE_A)
    assert not mode.replace(services(2)).failed
    held = tables.held(variant)[tables.PREROUTING]
    assert held[0] == jump
    assert len(held) == 2
    assert not mode.verify()


COMMENT = ["-m", "comment", "--comment", "kubernetes service portals"]
EXCEPTIONS = {
    "one source": ["-t", "nat", "-I", "PREROUTING", "-s", "6.6.6.6", "-j", "ACCEPT"],
    "a chain of others": ["-t", "nat", "-I", "PREROUTING", "-j", "cali-PREROUTING"],
    "an end to all": ["-I", "FORWARD", "-j", "DROP"],
    "what counts": ["-t", "nat", "-I", "PREROUTING"],
}


@pytest.mark.parametrize("rule", EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_an_exception_stays_before_our_jump(
    mode: IptablesMode, variant: Variant, rule: list[str]
) -> None:
    add(variant, "-t", "nat", "-N", "cali-PREROUTING")
    mode.start(NODE_A)
    mode.replace(services(2))
    add(variant, *rule)
    before = tables.held(variant)
    assert not mode.verify()
    mode.start(NODE_A)
    assert not mode.replace(services(2)).added
    assert tables.held(variant) == before
