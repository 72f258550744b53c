"""Is what the kernel holds told as it is, and what is wrong with it by its Service?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from modes.base import ModeSettings
from modes.held import EVERYTHING, Difference, DifferenceKind, Only
from modes.iptables.looking import recalled
from modes.iptables.mode import IptablesMode
from modes.xtables.variant import Variant
from tests.kernel.iptables import others, tables
from tests.kernel.iptables.looked import (
    DIFFERENT,
    EXTRA,
    KNOWN,
    LAST,
    MISSING,
    NODE,
    PAY,
    S1,
    S2,
    SVC,
    seen,
    wrong,
)
from tests.kernel.rulesets import services

STALE = "KUBE-SEP-AAAAAAAAAAAAAAAA"
DNAT = f"{STALE} -p tcp -j DNAT --to-destination 10.9.9.9:1"


@pytest.mark.usefixtures("applied")
def test_what_is_applied_is_what_is_held(variant: Variant) -> None:
    held = seen(variant)
    assert held.differences(NODE, KNOWN) == ()
    applied = {(str(p.name), p.family.value): p for plans in KNOWN.values() for p in plans}
    assert {(of.name, of.family) for of in held.services} == set(applied)
    for of in held.services:
        plan = applied[of.name, of.family]
        places = {(one.address or "node", one.port) for one in plan.frontends}
        assert {(one.address, one.port) for one in of.frontends} == places
        everywhere = tuple(map(str, plan.cluster))
        assert {one.endpoints for one in of.frontends} == {everywhere}
        assert of.affinity_seconds == plan.affinity_seconds
        assert of.endpoint_flows == dict.fromkeys(everywhere, 0)


def test_nothing_is_changed(
    applied: IptablesMode, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables.everything(variant), others.nft_ruleset(), others.legacy_tables()
    texts = tables.Texts(monkeypatch)
    for only in (EVERYTHING, Only(service="shop/pay"), Only(address="10.96.0.1", port=80)):
        assert wrong(variant, only) == ()
        assert seen(variant, only).native()
    assert texts.all == []
    after = tables.everything(variant), others.nft_ruleset(), others.legacy_tables()
    assert after == before
    assert not applied.verify()


def test_a_network_without_rules(network: None, variant: Variant) -> None:  # noqa: ARG001
    held = seen(variant)
    assert (held.services, held.native()) == ((), ())
    assert others.nft_ruleset() == ""
    assert others.legacy_tables() == ""
    told = held.differences(NODE, services(1))
    place = "filter (IPv4), nat (IPv4), filter (IPv6), nat (IPv6)"
    assert [of for of in told if of.service] == [
        Difference(S1, MISSING, f"every rule of it in {place}")
    ]
    assert Difference("", MISSING, f"every rule that belongs to no Service in {place}") in told


DRIFTS: Mapping[str, tuple[str, list[tuple[str, DifferenceKind, str]]]] = {
    "a rule deleted": (
        f"-t nat -D {SVC} 4",
        [(S1, MISSING, f"rule -A {SVC} -j {LAST} in nat (IPv4)")],
    ),
    "an endpoint swapped": (
        f"-t nat -R {LAST} 1 -p tcp -j DNAT --to-destination 10.9.9.9:1",
        [
            (
                S1,
                MISSING,
                f"rule -A {LAST} -p tcp -j DNAT --to-destination 10.244.2.3:8080 in nat (IPv4)",
            ),
            (S1, EXTRA, f"rule -A {LAST} -p tcp -j DNAT --to-destination 10.9.9.9:1 in nat (IPv4)"),
        ],
    ),
    "a chain flushed": (
        f"-t nat -F {SVC}",
        [(S1, MISSING, f"every rule of chain {SVC} in nat (IPv4)")],
    ),
    "a Service's place deleted": (
        f"-t nat -D KUBE-SERVICES -d 10.96.0.1 -p tcp -m comment --comment {S1}_cluster_IP -m tcp --dport 80 -j {SVC}",
        [
            (
                S1,
                MISSING,
                f"rule -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j {SVC} in nat (IPv4)",
            )
        ],
    ),
    "another endpoint": (
        f"-t nat -N {STALE}\n-t nat -A {DNAT}\n-t nat -I {SVC} 1 -j {STALE}",
        [
            (S1, EXTRA, f"chain {STALE} in nat (IPv4)"),
            (S1, EXTRA, f"rule -A {SVC} -j {STALE} in nat (IPv4)"),
        ],
    ),
    "a chain that nothing leads to": (
        f"-t nat -N {STALE}\n-t nat -A {DNAT}",
        [("", EXTRA, f"chain {STALE} in nat (IPv4)")],
    ),
    "another way to a Service": (
        f"-t nat -A KUBE-SERVICES -d 10.96.0.1 -p udp --dport 80 -j {SVC}",
        [
            (
                S1,
                EXTRA,
                f"rule -A KUBE-SERVICES -d 10.96.0.1/32 -p udp -m udp --dport 80 -j {SVC} in nat (IPv4)",
            )
        ],
    ),
    "a jump deleted": (
        "-t nat -D PREROUTING 1",
        [("", MISSING, "jump from PREROUTING to KUBE-SERVICES in nat (IPv4)")],
    ),
    "a jump twice": (
        "-t nat -A OUTPUT -j KUBE-SERVICES",
        [("", EXTRA, "jump from OUTPUT to KUBE-SERVICES in nat (IPv4)")],
    ),
    "a foreign rule before our jump": (
        "-t nat -I PREROUTING 1 -j ACCEPT",
        [("", DIFFERENT, "jump from PREROUTING to KUBE-SERVICES behind -j ACCEPT in nat (IPv4)")],
    ),
    "a stranger in a shared chain": (
        "-I KUBE-SERVICES 2 -p udp -j ACCEPT",
        [("", EXTRA, "rule -A KUBE-SERVICES -p udp -j ACCEPT in filter (IPv4)")],
    ),
    "a chain of the node flushed": (
        "-t nat -F KUBE-POSTROUTING",
        [("", MISSING, "every rule of chain KUBE-POSTROUTING in nat (IPv4)")],
    ),
    "another order": (
        "-t nat -D KUBE-POSTROUTING 1\n-t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        [("", DIFFERENT, "order of the rules of chain KUBE-POSTROUTING in nat (IPv4)")],
    ),
    "another mark": (
        "-t nat -R KUBE-MARK-MASQ 1 -j MARK --set-xmark 0x8/0x8",
        [
            ("", MISSING, "rule -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000 in nat (IPv4)"),
            ("", EXTRA, "rule -A KUBE-MARK-MASQ -j MARK --set-xmark 0x8/0x8 in nat (IPv4)"),
        ],
    ),
}


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize(("commands", "expected"), DRIFTS.values(), ids=DRIFTS)
def test_what_is_wrong_is_told_by_its_service(
    variant: Variant, commands: str, expected: list[tuple[str, DifferenceKind, str]]
) -> None:
    for line in commands.splitlines():
        words = [word.replace("_", " ") for word in line.split()]
        tables.iptables(variant, *words)
    told = wrong(variant)
    assert told == tuple(sorted(Difference(*of) for of in expected))
    stale = Difference("", EXTRA, f"chain {STALE} in nat (IPv4)")  # it may be of any Service
    for name in (S1, S2):
        mine = tuple(of for of in told if of.service in ("", name) and of != stale)
        assert wrong(variant, Only(service=name)) == mine
    at_s1 = tuple(of for of in told if of.service in ("", S1) and of != stale)
    assert wrong(variant, Only(address="10.96.0.1", port=80)) == at_s1
    json = msgspec.json.decode(msgspec.json.encode(seen(variant).document()))
    again = recalled(json, settings=ModeSettings(iptables_variant=variant))
    assert again.differences(NODE, KNOWN) == told


FLUSHED = {
    "nat": "-t nat -F",
    "nat and its chains": "-t nat -F\n-t nat -X",
    "filter": "-F",
    "all": "-t nat -F\n-t nat -X\n-F\n-X",
}


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("table", FLUSHED)
def test_a_flushed_table_is_told_in_few_words(variant: Variant, table: str) -> None:
    for line in FLUSHED[table].splitlines():
        tables.iptables(variant, *line.split())
    place = {"filter": "filter (IPv4)", "all": "filter (IPv4), nat (IPv4)"}.get(table, "nat (IPv4)")
    told = wrong(variant)
    everything = {of.service for of in told if of.what == f"every rule of it in {place}"}
    assert Difference("", MISSING, f"every rule that belongs to no Service in {place}") in told
    assert everything >= {S1, S2, "shop/pay:http"}
    # A Service that refuses has no rule in nat; nobody is told of twice.
    assert len(told) == len({of.service for of in told}) == 1 + 4 + (table in {"filter", "all"})
    assert wrong(variant, Only(service="shop/s2")) == tuple(
        of for of in told if of.service in ("", S2)
    )


@pytest.mark.usefixtures("applied")
def test_a_service_that_should_not_be_there(variant: Variant) -> None:
    less = {name: plans for name, plans in KNOWN.items() if name != PAY}
    told = [of for of in seen(variant).differences(NODE, less) if of.service]
    place = "filter (IPv4), nat (IPv4), filter (IPv6), nat (IPv6)"
    assert told == [Difference("shop/pay:http", EXTRA, f"every rule of it in {place}")]
    for only in (Only(service="shop/pay"), Only(address="198.51.100.4", port=80)):
        (mine,) = [of for of in seen(variant, only).differences(NODE, less) if of.service]
        assert mine.what.startswith("every rule of it in filter (IPv4), nat (IPv4)")
