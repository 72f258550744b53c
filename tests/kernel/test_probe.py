"""Does the probe find what this kernel can do, at the price of one transaction?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.kernel import Kernel, Sent
from modes.nftables.probe import probe
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Chain, Layout

_NO_RULE = nl.Message(nl.NEWRULE, nl.NLM_F_CREATE, Family.IPV4, b"", ())


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each transaction of anybody, whether it was to be kept."""
    kept: list[bool] = []
    transact = Kernel.transact

    def counted(self: Kernel, messages: Sequence[nl.Message], *, commit: bool = True) -> Sent:
        kept.append(commit)
        return transact(self, messages, commit=commit)

    monkeypatch.setattr(Kernel, "transact", counted)
    return kept


def test_all_is_asked_at_once_and_forgotten(kernel: Kernel, transactions: list[bool]) -> None:
    before = kernel.generation()
    features = probe()
    assert {feature.state for feature in features} == {"yes"}
    assert len({feature.name for feature in features}) == len(features) == 9
    assert transactions == [False]
    assert (kernel.generation(), kernel.tables()) == (before, {})


def test_what_is_missing_is_told_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, transactions: list[bool]
) -> None:
    """A kernel that cannot make the rules of one chain."""
    made = ruleset.new_rules
    chains = {chain.name: chain for chain in Layout(Shape(Family.IPV4)).base_chains()}

    def without_masquerade(family: Family, chain: Chain, table: str) -> list[nl.Message]:
        is_asked = chain.rules == chains["masq"].rules
        return [_NO_RULE] if is_asked else list(made(family, chain, table))

    monkeypatch.setattr(ruleset, "new_rules", without_masquerade)
    features = {feature.name: feature for feature in probe()}
    missing = features.pop("masquerade fully-random")
    assert (missing.state, missing.hint) == ("no", "module nft_masq")
    assert {feature.state for feature in features.values()} == {"yes"}
    assert not any(transactions)
