"""Is a client forgotten when, and only when, its endpoint became a lie?"""

from __future__ import annotations

import pytest

from endpoints.addresses import pack
from endpoints.names import Family
from endpoints.plan import ServicePlan
from modes.nftables.affinity import carried_over, doubts, lies, stale
from modes.nftables.codec import Found
from modes.nftables.delta import Changes, difference
from modes.nftables.elements import key_prefix, pack_port, render
from modes.nftables.sets import S
from tests.unit.modes.nftables.build import (
    CLUSTER,
    LOCAL,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
)

TCP = b"\x06\0\0\0"
CLIENT, OTHER = pack("203.0.113.7"), pack("203.0.113.8")
EXTERNAL = pack("192.0.2.1") + TCP + pack_port(80)
INTERNAL = pack("10.96.7.7") + TCP + pack_port(80)
NODE_PORT = TCP + pack_port(30080)
PODS = pods("10.244.1.2", "10.244.2.2")


def remembered(client: bytes, frontend: bytes, endpoint: str) -> Found:
    """A client that goes on to an endpoint for a while."""
    set_id = S.AFFINITY_NODEPORTS if frontend == NODE_PORT else S.AFFINITY
    key = key_prefix(Family.IPV4, set_id) + client + frontend
    return Found(key, pack(endpoint) + pack_port(8080), 60_000, 30_000)


ENTRIES = [
    remembered(client, frontend, endpoint)
    for frontend in (EXTERNAL, INTERNAL, NODE_PORT)
    for client, endpoint in ((CLIENT, "10.244.1.2"), (OTHER, "10.244.2.2"))
]


def sticky(*addresses: str, external_is_local: bool = False) -> ServicePlan:
    policy = LOCAL if external_is_local else CLUSTER
    return plan_of(
        cluster_ip("10.96.7.7"),
        external_ip("192.0.2.1", policy=policy),
        node_port(30080, policy),
        cluster=pods(*addresses),
        affinity_seconds=60,
    )


def changes_between(before: ServicePlan | None, after: ServicePlan | None) -> Changes:
    first = render([before] if before else [], {})
    return difference(first, render([after] if after else [], first))


def forgotten(changes: Changes) -> list[Found]:
    """Which of ENTRIES are forgotten after a change."""
    gone: list[bytes] = []
    for (family, set_id), doubt in doubts(changes).items():
        mine = [e for e in ENTRIES if e.key.startswith(key_prefix(family, set_id))]
        gone += stale(mine, doubt)
    return [entry for entry in ENTRIES if entry.key in gone]


BOTH = ("10.244.1.2", "10.244.2.2")


def test_a_client_of_an_endpoint_that_is_gone_is_forgotten_at_every_frontend() -> None:
    gone = forgotten(changes_between(sticky(*BOTH), sticky("10.244.2.2")))
    assert gone == ENTRIES[0::2]


def test_a_new_endpoint_makes_nobody_forget() -> None:
    changes = changes_between(sticky(*BOTH), sticky(*BOTH, "10.244.1.3"))
    assert doubts(changes) == {}
    assert forgotten(changes) == []


def test_whose_frontend_changed_its_policy_is_forgotten() -> None:
    for before, after in ((False, True), (True, False)):
        changes = changes_between(
            sticky(*BOTH, external_is_local=before), sticky(*BOTH, external_is_local=after)
        )
        # Those of the cluster IP stay.
        assert forgotten(changes) == [e for e in ENTRIES if INTERNAL not in e.key]


def test_all_are_forgotten_with_their_service() -> None:
    assert forgotten(changes_between(sticky(*BOTH), None)) == ENTRIES


def test_what_another_service_takes_over_is_not_gone() -> None:
    """Of two Services that claim an address one goes; the other one has the same endpoint."""
    fragment = render([sticky(*BOTH)], {})
    moved = Changes(deletes=set(fragment), adds=dict(fragment))
    assert doubts(moved) == {}


def test_the_other_family_is_left_alone() -> None:
    v6 = plan_of(cluster_ip("fd00:10:96::7"), cluster=pods("fd00:10:244:1::2"), affinity_seconds=60)
    assert set(doubts(changes_between(v6, None))) == {(Family.IPV6, S.AFFINITY)}


def taken_over(*, was_local: bool, is_local: bool) -> list[Found]:
    """What of ENTRIES a new table gets in which only the pod elsewhere is left."""
    before = render([sticky(*BOTH, external_is_local=was_local)], {})
    wanted = render([sticky("10.244.2.2", external_is_local=is_local)], {})
    taken = [
        key for message in carried_over(ENTRIES, before.keys(), wanted) for key in message.keys
    ]
    return [entry for entry in ENTRIES if entry.key in taken]


@pytest.mark.parametrize("local", [False, True])
def test_a_new_table_takes_over_what_is_still_true(*, local: bool) -> None:
    assert taken_over(was_local=local, is_local=local) == ENTRIES[1::2]


@pytest.mark.parametrize("local", [False, True])
def test_a_new_table_takes_over_nobody_whose_frontend_changed_its_policy(*, local: bool) -> None:
    taken = taken_over(was_local=not local, is_local=local)
    assert taken == [e for e in ENTRIES[1::2] if INTERNAL in e.key]


def test_what_no_packet_can_have_put_there_is_a_lie() -> None:
    """Of every map of clients, and of frontends that have no affinity or are not there at all."""
    held = render([sticky("10.244.1.2")], {})
    gone = [entry for entry in ENTRIES if entry.key[1:5] == OTHER]
    assert list(lies(ENTRIES, held)) == [entry.key for entry in gone]
    assert len(gone) == 3
    unknown = remembered(CLIENT, pack("10.96.7.8") + TCP + pack_port(80), "10.244.1.2")
    assert list(lies([unknown], held)) == [unknown.key]
    assert list(lies(ENTRIES, {})) == [entry.key for entry in ENTRIES]
