"""Which mode is taken, and what is said when none can be?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from modes.base import EnvironmentFault, Feature
from modes.registry import AUTO, MODES, choose, create, lacking, require

YES = Feature("a table", "yes", "everything")
NO = Feature("a table", "no", "everything", "load the module")
UNSAID = Feature("a table", "no", "everything")
UNKNOWN = Feature("a table", "unknown", "everything", "run as root")
LESS = Feature("comments", "no", "reading", "module xt_comment", optional=True)


def answers(asked: list[str], **features: Iterable[Feature]) -> Callable[[str], Iterable[Feature]]:
    """A machine with these features; remembers what it was asked for."""

    def ask(mode: str) -> Iterable[Feature]:
        asked.append(mode)
        return features[mode]

    return ask


# features of each mode -> what auto takes
@pytest.mark.parametrize(
    ("nftables", "iptables", "ipvs", "chosen"),
    [
        ([YES], [YES], [YES], "nftables"),
        ([YES, LESS], [YES], [NO], "nftables"),
        ([YES, NO], [YES, LESS], [YES], "iptables"),
        ([NO], [LESS, YES], [NO], "iptables"),
        ([NO], [NO], [LESS, YES], "ipvs"),
    ],
)
def test_auto(
    nftables: list[Feature], iptables: list[Feature], ipvs: list[Feature], chosen: str
) -> None:
    asked = answers([], nftables=nftables, iptables=iptables, ipvs=ipvs)
    assert choose(AUTO, asked) == chosen


@pytest.mark.parametrize(
    ("nftables", "iptables", "reason"),
    [
        (
            [UNSAID],
            [YES, NO],
            (
                "no mode works here; nftables: this kernel has no a table; "
                "iptables: load the module; ipvs: load the module"
            ),
        ),
        # Who may not ask does not know that nftables is missing.
        ([UNKNOWN], [YES], "run as root"),
        ([NO], [UNKNOWN], "run as root"),
    ],
)
def test_auto_without_any(nftables: list[Feature], iptables: list[Feature], reason: str) -> None:
    with pytest.raises(EnvironmentFault) as raised:
        choose(AUTO, answers([], nftables=nftables, iptables=iptables, ipvs=[NO]))
    assert str(raised.value) == reason


def test_a_mode_that_is_not_needed_is_not_asked_for() -> None:
    asked: list[str] = []
    assert choose(AUTO, answers(asked, nftables=[YES])) == "nftables"
    assert choose("iptables", answers(asked, iptables=[YES, LESS])) == "iptables"
    assert asked == ["nftables", "iptables"]


def test_who_insists_is_told_what_is_missing() -> None:
    ask = answers([], nftables=[NO])
    with pytest.raises(EnvironmentFault, match=r"^--mode: nftables: load the module$"):
        choose("nftables", ask)
    with pytest.raises(EnvironmentFault, match=r"^a.conf: mode: nftables: load the module$"):
        choose("nftables", ask, "a.conf: mode")


def test_what_is_optional_is_not_lacking() -> None:
    assert lacking([YES, LESS]) is None
    assert lacking([LESS, NO]) == NO


def test_a_mode_by_its_name() -> None:
    for name in MODES:
        mode = create(name)
        assert mode.name == name
        mode.close()


@pytest.mark.parametrize("ask", [create, choose, require])
def test_what_is_no_mode(ask: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="'nft' is no mode; modes: nftables, iptables, ipvs"):
        ask("nft")
