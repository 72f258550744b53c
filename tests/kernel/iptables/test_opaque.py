"""Is everything done as ever where rules of nft lie in tables of iptables-nft?

One of them keeps `iptables-nft-save` from the whole table.
"""

from __future__ import annotations

import subprocess

import pytest

from endpoints.names import Family
from modes.base import Delta, ModeSettings
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables import adopt, chains
from modes.xtables.names import Table
from modes.xtables.rules import OPAQUE, ChainName
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.rulesets import nft, services
from tests.unit.endpoints.build import NODE_A

UNREADABLE = {
    "nat, after our jump": "add rule ip nat POSTROUTING meta mark { 7, 8 } masquerade",
    "nat, before our jump": "insert rule ip nat PREROUTING ct mark { 7, 8 } accept",
    "nat, a chain with several": "add rule ip nat OUTPUT ct mark { 7, 8 } counter",
    "filter, before our jumps": "insert rule ip filter FORWARD ct mark { 7, 8 } counter drop",
    "a chain of others": "add rule ip nat OTHERS ct mark { 7, 8 } jump KUBE-MARK-MASQ",
}
SIGN = "{ 0x00000007, 0x00000008 }"


class Told:
    """What a mode says, without what is routine."""

    def __init__(self) -> None:
        self.all: list[dict[str, object]] = []

    def __call__(self, message: str, /, *, routine: bool = False, **fields: object) -> None:
        if not routine:
            self.all.append({"message": message, **fields})


def foreign() -> list[str]:
    return [line for line in others.nft_ruleset().splitlines() if SIGN in line]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def mode(network: None, told: Told) -> IptablesMode:  # noqa: ARG001
    """A mode that runs."""
    made = IptablesMode(ModeSettings(iptables_variant=Variant.NFT), told)
    made.start(NODE_A)
    made.replace(services(1, 2, 3))
    return made


@pytest.fixture(params=UNREADABLE.values(), ids=list(UNREADABLE))
def rule(request: pytest.FixtureRequest, mode: IptablesMode) -> str:
    """Somebody else's rule, which is there since the mode runs."""
    assert not mode.verify()
    nft("add chain ip nat OTHERS")
    nft(str(request.param))
    assert len(foreign()) == 1
    said = subprocess.run(["iptables-nft-save"], capture_output=True, text=True, check=True)
    assert "is incompatible" in said.stdout
    return str(request.param)


def everything() -> dict[Family, tables.Tables]:
    return tables.everything(Variant.NFT)


def test_it_is_no_drift_and_told_once(mode: IptablesMode, rule: str, told: Told) -> None:
    for _ in range(2):
        assert not mode.verify()
    (said,) = [one for one in told.all if one["message"] == "Rules of nft in a table of iptables"]
    table, chain = rule.split()[3:5]
    assert said["table"] == table
    assert said["chains"] == (chain if chain != "OTHERS" else "others' own")


def test_changes_go_on_and_a_restart_writes_nothing(mode: IptablesMode, rule: str) -> None:
    assert rule
    assert not mode.apply(Delta(services(4), frozenset(services(1)))).failed
    assert not mode.verify()
    again = tables.mode_of(Variant.NFT)
    assert again.start(NODE_A).kept
    report = again.replace(services(2, 3, 4))
    assert (report.added, report.deleted, report.messages) == (0, 0, 0)
    assert {one.name for one in look().services} == {f"shop/s{n}:http" for n in (2, 3, 4)}
    assert len(foreign()) == 1


HARM = {
    "a jump": ("nat", "-D", "POSTROUTING", "1"),
    "all jumps": ("nat", "-F", "PREROUTING"),
    "a chain": ("nat", "-F", "KUBE-SERVICES"),
    "another table": ("filter", "-F", "KUBE-EXTERNAL-SERVICES"),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_drift_is_repaired(mode: IptablesMode, rule: str, harm: tuple[str, ...]) -> None:
    assert rule
    before = everything()
    tables.iptables(Variant.NFT, "-t", *harm)
    assert mode.verify()
    mode.start(NODE_A)
    assert not mode.replace(services(1, 2, 3)).failed
    assert not mode.verify()
    after = everything()
    ours = [one for one in before[Family.IPV4] if adopt.is_ours(one)]
    assert ours
    for chain in ours:
        assert after[Family.IPV4][chain] == before[Family.IPV4][chain]


def test_ours_alone_go(mode: IptablesMode, rule: str) -> None:
    assert mode.cleanup()
    left = [of for found in everything().values() for of in found if adopt.is_ours(of)]
    assert left == ([chains.MARK_MASQ] if "KUBE-MARK-MASQ" in rule else [])
    assert len(foreign()) == 1
    assert not mode.cleanup()


@pytest.mark.parametrize(
    ("asks", "said"), [("ct mark", OPAQUE), ("tcp dport", "-p tcp")], ids=["not read", "misread"]
)
def test_such_a_rule_in_a_chain_of_ours_goes(mode: IptablesMode, asks: str, said: str) -> None:
    nft(f"insert rule ip nat KUBE-SERVICES {asks} {{ 7, 8 }} accept")
    assert f"IPv4 nat -A KUBE-SERVICES {said} -j ACCEPT" in mode.verify().extra
    mode.start(NODE_A)
    mode.replace(services(1, 2, 3))
    assert not mode.verify()
    assert "7, 8 }" not in others.nft_ruleset()


def test_an_exception_that_iptables_misreads_stays_first(mode: IptablesMode) -> None:
    nft("insert rule ip nat PREROUTING ip saddr { 6.6.6.6, 6.6.6.7 } counter accept")
    before = everything()
    assert before[Family.IPV4][tables.PREROUTING][0] == f"{OPAQUE} -j ACCEPT"
    assert not mode.verify()
    mode.start(NODE_A)
    assert not mode.replace(services(1, 2, 3)).added
    assert everything() == before


def test_a_plain_jump_is_said_as_iptables_says_it(mode: IptablesMode) -> None:
    """Of a chain that it can read no more."""
    chain = ChainName(Table.FILTER, "FORWARD")
    before = everything()[Family.IPV4][chain]
    assert len(before) > 2
    nft("add rule ip filter FORWARD ct mark { 7, 8 } drop")
    assert everything()[Family.IPV4][chain] == [*before, f"{OPAQUE} -j DROP"]
    assert mode.cleanup()
    assert everything()[Family.IPV4][chain] == [f"{OPAQUE} -j DROP"]
