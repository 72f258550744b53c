"""Is every element known to belong to its frontend, and every frontend that is asked for found?"""

from __future__ import annotations

import pytest

from endpoints.addresses import pack
from endpoints.names import Family, Protocol
from modes.held import Only
from modes.nftables.elements import Elements, Verdict, key_prefix, pack_port, render, set_of
from modes.nftables.frontends import (
    SLOTTED,
    Owner,
    Window,
    asked,
    counts,
    following,
    frontend_of,
    owners,
    windows,
    words,
)
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET
from tests.unit.modes.nftables.build import (
    LOCAL,
    PAY,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

SHARED = (S.CLUSTER_IPS, S.HAIRPIN, S.NODEPORT_IPS, S.SPECIAL_IPS)
V6 = plan_of(
    cluster_ip("fd00:10:96::a", 53),
    node_port(30053, LOCAL),
    cluster=pods("fd00:10:244:1::2"),
    affinity_seconds=90,
)
V4 = plan_of(
    cluster_ip("10.96.7.7"),
    external_ip("192.0.2.1"),
    balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24"]),
    node_port(30080),
    cluster=pods("10.244.1.2", "10.244.2.2"),
    affinity_seconds=90,
)
HELD: Elements = {**render([V4], {}), **render([V6], {})}
WORDS = {
    "10.96.7.7:80/TCP",
    "192.0.2.1:80/TCP",
    "198.51.100.4:80/TCP",
    "NodePort 30080/TCP (IPv4)",
    "[fd00:10:96::a]:53/TCP",
    "NodePort 30053/TCP (IPv6)",
}


def test_every_element_belongs_to_a_frontend_that_is_held_or_to_several() -> None:
    for key in HELD:
        if set_of(key)[1] in SHARED:
            assert frontend_of(key) == b""
        else:
            assert frontend_of(key) in owners(HELD)
    assert {words(frontend) for frontend in owners(HELD)} == WORDS
    assert set(owners(HELD).values()) == {Owner(str(PAY), "TCP", family.value) for family in Family}


def test_what_each_frontend_has_is_its_own() -> None:
    for plan in (V4, V6):
        for frontend in plan.frontends:
            alone = render(
                [plan_of(*plan.frontends, cluster=plan.cluster, affinity_seconds=90)], {}
            )
            one = render(
                [plan_of(frontend, cluster=plan.cluster, family=plan.family, affinity_seconds=90)],
                {},
            )
            (key,) = owners(one)
            mine = {k for k in alone if frontend_of(k) == key}
            assert mine == {k for k in one if set_of(k)[1] not in SHARED}


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (Only(service="shop/pay"), WORDS),
        (Only(service="shop/pay:http"), WORDS),
        (Only(service="shop/pay:other"), set()),
        (Only(service="shop/pa"), set()),
        (
            Only(address="fd00:10:96::a", port=53),
            {
                "[fd00:10:96::a]:53/TCP",
                "NodePort 53/TCP (IPv4)",
                "NodePort 53/TCP (IPv6)",
                "NodePort 30053/TCP (IPv6)",
            },
        ),
        (
            Only(address="10.96.7.7", port=80, protocol=Protocol.UDP),
            {"10.96.7.7:80/UDP", "NodePort 80/UDP (IPv4)", "NodePort 80/UDP (IPv6)"},
        ),
    ],
    ids=["Service", "port", "other port", "half a name", "place", "place of nobody"],
)
def test_who_is_asked_for(only: Only, expected: set[str]) -> None:
    """By a place: all that its Service has in that family, and the place, whoever has it."""
    assert {words(frontend) for frontend in asked(HELD, only)} == expected


def test_endpoints_are_looked_for_where_rules_lead_and_one_slot_beyond() -> None:
    (key,) = (f for f in owners(HELD) if words(f) == "198.51.100.4:80/TCP")
    assert counts(HELD, key) == {0: 2, LOCAL_OFFSET: 1}
    prefix = key_prefix(Family.IPV4, S.ENDPOINTS) + key[1:]
    looked = windows(HELD, [key])
    assert looked == [
        Window(prefix, range(3)),
        Window(prefix, range(LOCAL_OFFSET, LOCAL_OFFSET + 2)),
    ]
    slots = {k for k in HELD if set_of(k)[1] in SLOTTED and frontend_of(k) == key}
    assert slots < {slot for window in looked for slot in window.keys}
    assert following(looked, HELD) == []
    more = HELD | dict.fromkeys(looked[0].keys, b"")
    assert following(looked, more) == [Window(prefix, range(3, 9))]


@pytest.mark.parametrize("verdict", ["drop", "goto no-endpoints", "goto odd-7", "jump pick-7"])
def test_a_verdict_of_others_names_no_endpoints(verdict: str) -> None:
    key = key_prefix(Family.IPV4, S.SERVICES) + pack("10.96.7.7") + b"\x06\0\0\0" + pack_port(80)
    assert counts({key: Verdict(verdict)}, key) == {0: 0, LOCAL_OFFSET: 0}
    huge = {key: Verdict("goto pick-9999999")}
    assert [len(window.slots) for window in windows(huge, [key])] == [1001, 1]
