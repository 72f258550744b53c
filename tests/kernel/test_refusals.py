"""Does the kernel's refusal of one Service cost that Service only?"""

from __future__ import annotations

import pytest

from endpoints.names import ObjectName
from endpoints.plan import Frontend
from modes.base import Delta, KernelFault, Plans
from modes.nftables.looking import look
from modes.nftables.mode import NftablesMode
from modes.nftables.netlink import Message
from tests.kernel.rulesets import Clustered, named, services
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import balancer, cluster_ip, plan_of, pods

BAD = ObjectName("shop", "bad")
OVERLAPPING = ("10.0.0.0/8", "10.1.0.0/16")
"""Ranges that a plan never has: the kernel's set of intervals refuses them."""


def bad(*extra: Frontend, ranges: tuple[str, ...] = OVERLAPPING, pod: str = "10.244.2.1") -> Plans:
    frontends = (cluster_ip("10.96.1.1"), balancer("198.51.100.4", ranges=ranges), *extra)
    return (plan_of(*frontends, cluster=pods(pod), name=named("bad")),)


def names() -> set[str]:
    return {told.name for told in look().services}


def endpoints_of_bad() -> list[tuple[str, ...]]:
    return [
        f.endpoints
        for told in look().services
        if told.name == "shop/bad:http"
        for f in told.frontends
    ]


@pytest.fixture
def started(mode: NftablesMode) -> NftablesMode:
    mode.start(NODE_A)
    return mode


def test_at_the_first_replace_all_others_are_programmed(started: NftablesMode) -> None:
    listed: Clustered = {**services(1, 2), BAD: bad(), **services(3, 4)}
    report = started.replace(listed)
    assert report.failed.keys() == {BAD}
    assert report.failed[BAD] == (
        "ip lb-sources 198.51.100.4 . tcp . 80 . 10.1.0.0/16: File exists (EEXIST)"
    )
    assert names() == {f"shop/s{n}:http" for n in (1, 2, 3, 4)}
    assert not started.verify()


def test_at_apply_all_others_are_programmed(started: NftablesMode) -> None:
    started.replace(services(1, 2))
    report = started.apply(
        Delta({**services(3), BAD: bad()}, frozenset({ObjectName("shop", "s1")}))
    )
    assert report.failed.keys() == {BAD}
    assert names() == {"shop/s2:http", "shop/s3:http"}
    assert not started.verify()


@pytest.mark.parametrize("whole", [False, True], ids=["apply", "replace"])
def test_the_version_before_stays(started: NftablesMode, *, whole: bool) -> None:
    good = bad(ranges=OVERLAPPING[:1])
    started.replace({**services(1), BAD: good})
    worse = bad(pod="10.244.2.2")
    if whole:
        report = started.replace({**services(2), BAD: worse})
    else:
        report = started.apply(
            Delta({**services(2), BAD: worse}, frozenset({ObjectName("shop", "s1")}))
        )
    assert report.failed.keys() == {BAD}
    assert names() == {"shop/s2:http", "shop/bad:http"}
    assert endpoints_of_bad() == [("10.244.2.1:8080",)] * 2
    assert not started.verify()


def test_once_it_is_good_it_is_programmed(started: NftablesMode) -> None:
    started.replace({BAD: bad()})
    report = started.apply(Delta({BAD: bad(ranges=OVERLAPPING[:1], pod="10.244.2.2")}))
    assert report.failed == {}
    assert endpoints_of_bad() == [("10.244.2.2:8080",)] * 2
    assert not started.verify()


def test_each_of_many_is_named(started: NftablesMode) -> None:
    many: dict[ObjectName, Plans] = {}
    for n in range(1, 6):
        plan = plan_of(
            balancer(f"198.51.100.{n}", ranges=OVERLAPPING),
            cluster=pods("10.244.2.1"),
            name=named(f"bad{n}"),
        )
        many[ObjectName("shop", f"bad{n}")] = (plan,)
    report = started.replace({**services(1, 2), **many})
    assert report.failed.keys() == many.keys()
    assert all(
        f"198.51.100.{n}" in report.failed[ObjectName("shop", f"bad{n}")] for n in range(1, 6)
    )
    assert names() == {"shop/s1:http", "shop/s2:http"}
    assert not started.verify()


def test_among_thousands_of_elements_the_right_one_is_blamed(started: NftablesMode) -> None:
    """The error's offset leads into the middle of one of many messages."""
    ranged: dict[ObjectName, Plans] = {}
    for n in range(1, 201):
        ranges = tuple(f"10.{k}.0.0/16" for k in range(2, 12))
        ranges = OVERLAPPING if n == 137 else ranges
        plan = plan_of(
            balancer(f"198.51.100.{n}", ranges=ranges),
            cluster=pods("10.244.2.1"),
            name=named(f"r{n}"),
        )
        ranged[ObjectName("shop", f"r{n}")] = (plan,)
    report = started.replace(ranged)
    assert report.failed.keys() == {ObjectName("shop", "r137")}
    assert len(names()) == 199


def test_who_is_nobody_s_fault_is_a_fault(
    started: NftablesMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    started.replace(services(1))
    nonsense = Message(99, 0, next(iter(services(2).values()))[0].family, b"")
    monkeypatch.setattr("modes.nftables.delta.messages", lambda *_: [nonsense])
    with pytest.raises(KernelFault, match="the kernel refused a change"):
        started.apply(Delta(services(2)))
    monkeypatch.undo()
    assert started.replace(services(1, 2)).failed == {}
    assert not started.verify()
