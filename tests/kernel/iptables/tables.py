"""How does a test look at what both tables hold, and at what the mode writes into them?"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence

import pytest

from endpoints.names import Family
from modes.base import ModeSettings
from modes.iptables.mode import IptablesMode
from modes.xtables import chains
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.rules import ChainName
from modes.xtables.script import read
from modes.xtables.variant import Variant

COMMAND = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}
SHARED = frozenset(
    {
        chains.NAT_SERVICES,
        chains.NAT_NODEPORTS,
        chains.SERVICES,
        chains.EXTERNAL_SERVICES,
        chains.EXTERNAL_NODEPORTS,
        chains.NODEPORTS,
        chains.PROXY_FIREWALL,
        chains.CLUSTER_IPS,
    }
)
"""Chains in which the rules of Services stand in any order."""
PREROUTING = ChainName(Table.NAT, "PREROUTING")
BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
FIRST = "-m conntrack --ctstate DNAT -j RETURN"
LAST = tuple(
    f"-j {chain.name}"
    for chain in (chains.NAT_NODEPORTS, chains.EXTERNAL_NODEPORTS, chains.CLUSTER_IPS)
)

Tables = dict[ChainName, list[str]]
State = dict[Family, dict[ChainName, Sequence[str] | Counter[str]]]


def mode_of(variant: str) -> IptablesMode:
    """A process that knows nothing yet, and has nothing to say."""
    return IptablesMode(ModeSettings(iptables_variant=variant), lambda *_, **__: None)


def held(variant: str, family: Family = Family.IPV4) -> Tables:
    """What both tables hold, in this network."""
    return read(Kernel(Variant(variant)).save(family))


def everything(variant: str) -> dict[Family, Tables]:
    """What both tables of both families hold."""
    return {family: held(variant, family) for family in Family}


def state(variant: str) -> State:
    """The same; rules of Services in shared chains without their order."""
    return {
        family: {
            chain: _unordered(specs) if chain in SHARED else specs
            for chain, specs in tables.items()
        }
        for family, tables in everything(variant).items()
    }


def _unordered(specs: Sequence[str]) -> Counter[str]:
    """What returns at once stays first, and what leads on to another shared chain last."""
    places = [2 if spec.endswith(LAST) else spec != FIRST for spec in specs]
    assert places == sorted(places)
    return Counter(specs)


def iptables(variant: str, *words: str, family: Family = Family.IPV4) -> None:
    """What somebody else does: `-t nat -F KUBE-SERVICES`."""
    subprocess.run([f"{COMMAND[family]}-{variant}", *words], check=True)


class Texts:
    """What is given to iptables-restore from now on: the family, and the text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.all: list[tuple[Family, str]] = []
        restore = Kernel.restore

        def listening(kernel: Kernel, family: Family, text: str) -> float:
            self.all.append((family, text))
            return restore(kernel, family, text)

        monkeypatch.setattr(Kernel, "restore", listening)

    def of(self, family: Family = Family.IPV4) -> list[str]:
        """The texts of one family."""
        return [text for of, text in self.all if of is family]
