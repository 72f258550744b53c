"""Does iptables' refusal of one Service cost that Service only?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import pytest

from endpoints.names import Family, ObjectName
from modes.base import Delta, KernelFault, Plans
from modes.iptables import service_chains
from modes.iptables.looking import look
from modes.iptables.mode import IptablesMode
from modes.xtables.kernel import Kernel, Refused
from modes.xtables.variant import Variant
from tests.kernel.iptables import tables
from tests.kernel.rulesets import Clustered, named, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import balancer, cluster_ip, plan_of, pods

V4, V6 = Family.IPV4, Family.IPV6
BAD = ObjectName("shop", "bad")
GOOD_RANGE = "10.0.0.0/8"
IMPOSSIBLE = ("10.0.0.0/99", "10.1.0.0/300.0.0.0", "10.300.0.0/16")
"""Ranges that a plan never has: iptables does not understand them."""


def bad(ranges: str = IMPOSSIBLE[0], pod: str = "10.244.2.1", name: str = "bad") -> Plans:
    number = sum(name.encode()) % 200
    frontends = (
        cluster_ip(f"10.96.1.{number}"),
        balancer(f"198.51.100.{number}", ranges=(ranges,)),
    )
    return (plan_of(*frontends, cluster=pods(pod), name=named(name)),)


def programmed() -> set[str]:
    return {told.name for told in look().services}


def expected(*numbers: int) -> set[str]:
    return {f"shop/s{n}:http" for n in numbers}


def endpoints_of_bad() -> list[tuple[str, ...]]:
    return [
        f.endpoints
        for told in look().services
        if told.name == "shop/bad:http"
        for f in told.frontends
    ]


@pytest.fixture
def started(mode: IptablesMode) -> IptablesMode:
    mode.start(NODE_A)
    return mode


@pytest.mark.parametrize("ranges", IMPOSSIBLE)
def test_at_the_first_replace_all_others_are_programmed(started: IptablesMode, ranges: str) -> None:
    listed: Clustered = {**services(1, 2), BAD: bad(ranges), **services(3, 4)}
    report = started.replace(listed)
    assert report.failed.keys() == {BAD}
    assert re.fullmatch(r"IPv4: line \d+: .*(invalid mask|not found|address).*", report.failed[BAD])
    assert programmed() == expected(1, 2, 3, 4)
    assert not started.verify()


def test_at_apply_all_others_are_programmed(started: IptablesMode) -> None:
    started.replace(services(1, 2))
    report = started.apply(
        Delta({**services(3), BAD: bad()}, frozenset({ObjectName("shop", "s1")}))
    )
    assert report.failed.keys() == {BAD}
    assert "99' specified" in report.failed[BAD]
    assert programmed() == expected(2, 3)
    assert not started.verify()


def test_an_impossible_endpoint(started: IptablesMode) -> None:
    report = started.replace({**services(1), BAD: bad(GOOD_RANGE, pod="10.244.2.999")})
    assert report.failed.keys() == {BAD}
    assert "10.244.2.999" in report.failed[BAD]
    assert programmed() == expected(1)


@pytest.mark.parametrize("whole", [False, True], ids=["apply", "replace"])
def test_the_version_before_stays(started: IptablesMode, *, whole: bool) -> None:
    started.replace({**services(1), BAD: bad(GOOD_RANGE)})
    worse = bad(pod="10.244.2.2")
    if whole:
        report = started.replace({**services(2), BAD: worse})
    else:
        report = started.apply(
            Delta({**services(2), BAD: worse}, frozenset({ObjectName("shop", "s1")}))
        )
    assert report.failed.keys() == {BAD}
    assert programmed() == expected(2) | {"shop/bad:http"}
    assert endpoints_of_bad() == [("10.244.2.1:8080",)] * 2
    assert not started.verify()


def test_once_it_is_good_it_is_programmed(started: IptablesMode, variant: Variant) -> None:
    started.replace({BAD: bad(GOOD_RANGE, pod="10.244.2.2")})
    straight = tables.state(variant)
    started.replace({})
    assert started.replace({BAD: bad()}).failed
    report = started.apply(Delta({BAD: bad(GOOD_RANGE, pod="10.244.2.2")}))
    assert report.failed == {}
    assert tables.state(variant) == straight


def test_each_of_many_is_named(started: IptablesMode) -> None:
    many = {ObjectName("shop", f"bad{n}"): bad(name=f"bad{n}") for n in range(5)}
    report = started.replace({**services(1, 2), **many})
    assert report.failed.keys() == many.keys()
    assert programmed() == expected(1, 2)
    report = started.apply(Delta({**services(3), **many}))
    assert report.failed.keys() == many.keys()
    assert programmed() == expected(1, 2, 3)
    assert not started.verify()


def test_a_family_does_not_suffer_for_the_other(started: IptablesMode) -> None:
    _, v6 = services(9)[ObjectName("shop", "s9")]
    report = started.replace({BAD: (*bad(), v6), **services(1)})
    assert report.failed.keys() == {BAD}
    told = {(told.name, told.family) for told in look().services}
    assert told == {("shop/s1:http", "IPv4"), ("shop/s1:http", "IPv6"), ("shop/s9:http", "IPv6")}


class Grudge:
    """A kernel that refuses whatever mentions a chain of some Services, line by line or not."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, against: Collection[str], line: str
    ) -> None:
        self.attempts = 0
        self._chains = [service_chains.cluster_chain(named(name)) for name in against]
        self._line = line
        self._restore = Kernel.restore
        monkeypatch.setattr(Kernel, "restore", self.restore_for())

    def restore_for(self) -> object:
        """What stands in for Kernel.restore."""

        def restore(kernel: Kernel, family: Family, text: str) -> float:
            self.attempts += 1
            lines = text.splitlines()
            for chain in self._chains:
                if f":{chain} - [0:0]" in lines:
                    raise Refused(self._number(lines), "the kernel does not take it")
            return self._restore(kernel, family, text)

        return restore

    def _number(self, lines: list[str]) -> int | None:
        return None if not self._line else 1 + lines.index(self._line)


UNNAMED = pytest.mark.parametrize(
    "line", ["", "COMMIT", "*nat"], ids=["no line", "COMMIT", "table"]
)


def ones(*numbers: int, endpoint: int) -> Clustered:
    """Services of one endpoint each."""
    return {
        ObjectName("shop", f"s{n}"): (
            plan_of(
                cluster_ip(f"10.96.0.{n}"),
                cluster=pods(f"10.244.2.{endpoint}"),
                name=named(f"s{n}"),
            ),
        )
        for n in numbers
    }


def endpoints_by_name() -> Mapping[str, tuple[str, ...]]:
    return {told.name: told.frontends[0].endpoints for told in look().services}


@UNNAMED
@pytest.mark.parametrize("whole", [False, True], ids=["apply", "replace"])
@pytest.mark.parametrize("against", [["s3"], ["s1", "s7"], ["s4", "s5"]], ids="+".join)
def test_a_refusal_that_names_nobody_is_traced(
    started: IptablesMode,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    against: list[str],
    *,
    whole: bool,
) -> None:
    """All Services change their endpoint, one goes, and one comes; nothing else suffers."""
    before = ones(*range(1, 8), endpoint=1)
    after = {**ones(*range(1, 7), endpoint=2), **ones(8, endpoint=2)}
    if "s7" in against:
        after |= ones(7, endpoint=2)
    started.replace(before)
    gone = frozenset(before.keys() - after.keys())
    with monkeypatch.context() as patch:
        Grudge(patch, against, line)
        report = started.replace(after) if whole else started.apply(Delta(after, gone))
    culprits = {ObjectName("shop", name) for name in against}
    assert report.failed == dict.fromkeys(culprits, report.failed[min(culprits)])
    assert "the kernel does not take it" in report.failed[min(culprits)]
    told = {
        f"{name}:http": ("10.244.2.1:8080",) if name in culprits else ("10.244.2.2:8080",)
        for name in after
    }
    assert endpoints_by_name() == told
    assert not started.verify()

    assert not started.apply(Delta({name: after[name] for name in culprits})).failed
    assert set(endpoints_by_name().values()) == {("10.244.2.2:8080",)}
    assert not started.verify()


@UNNAMED
def test_the_first_replace_finds_whom_nobody_named(
    started: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    grudge = Grudge(monkeypatch, ["s17", "s40"], line)
    report = started.replace(services(*range(1, 65)))
    assert report.failed.keys() == {ObjectName("shop", "s17"), ObjectName("shop", "s40")}
    assert programmed() == expected(*(n for n in range(1, 65) if n not in (17, 40)))
    assert not started.verify()
    # By halves: two paths of 6 steps, in each of two families; 64 would be one for each Service.
    assert grudge.attempts < 64
    monkeypatch.undo()
    started.replace(services(*range(1, 65)))
    mended = tables.state(variant)
    started.cleanup()
    started.start(NODE_A)
    started.replace(services(*range(1, 65)))
    assert tables.state(variant) == mended


@pytest.mark.parametrize("line", [None, 1, 99], ids=["no line", "the table", "no such line"])
@pytest.mark.parametrize("whole", [False, True], ids=["apply", "replace"])
def test_who_is_nobody_s_fault_is_a_fault(
    started: IptablesMode, monkeypatch: pytest.MonkeyPatch, line: int | None, *, whole: bool
) -> None:
    """Even the node's own chains are refused, or nothing of any Service is left to be."""
    started.replace({})

    def refusing(_: Kernel, __: Family, ___: str) -> float:
        raise Refused(line, "out of memory")

    monkeypatch.setattr(Kernel, "restore", refusing)
    listed = services(1, 2)
    if whole:
        tables.iptables(started._kernel.variant, "-t", "nat", "-F")
    with pytest.raises(KernelFault, match="out of memory"):
        started.replace({}) if whole else started.apply(Delta(listed))
    monkeypatch.undo()
    started.start(NODE_A)
    assert started.replace(listed).failed == {}
    assert not started.verify()
