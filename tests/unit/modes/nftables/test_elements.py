"""Does a plan become just the elements that NFTABLES.md's tables want?"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.plan import Endpoint, Frontend
from modes.nftables.dump import describe
from modes.nftables.elements import (
    Elements,
    Verdict,
    is_shared,
    place,
    render,
    render_node,
    set_of,
)
from modes.nftables.sets import S
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    external_ip,
    node_port,
    plan_of,
    pods,
    shown,
)

HERE, THERE = pods("10.244.1.2", "10.244.2.2")
items = st.lists(st.sampled_from([bytes((n,)) for n in range(12)]), unique=True)


def lines(*frontends: Frontend, affinity_seconds: int | None = None) -> list[str]:
    """The elements of a Service with one pod here and one elsewhere."""
    made = plan_of(*frontends, cluster=(HERE, THERE), affinity_seconds=affinity_seconds)
    return shown(render([made], {}))


def test_a_cluster_ip() -> None:
    assert lines(cluster_ip("10.96.7.7")) == [
        "ip cluster-ips 10.96.7.7",
        "ip endpoints 10.96.7.7 . tcp . 80 . 0 : 10.244.1.2 . 8080",
        "ip endpoints 10.96.7.7 . tcp . 80 . 1 : 10.244.2.2 . 8080",
        "ip hairpin 10.244.1.2 . 10.244.1.2",
        'ip services 10.96.7.7 . tcp . 80 : goto pick-2 comment "shop/pay:http"',
    ]


def test_a_cluster_ip_with_policy_local_chooses_among_local_slots_only() -> None:
    assert lines(cluster_ip("10.96.7.7", policy=LOCAL)) == [
        "ip cluster-ips 10.96.7.7",
        "ip endpoints 10.96.7.7 . tcp . 80 . 1048576 : 10.244.1.2 . 8080",
        "ip hairpin 10.244.1.2 . 10.244.1.2",
        'ip services 10.96.7.7 . tcp . 80 : goto local-1 comment "shop/pay:http"',
    ]


def test_an_external_ip_is_always_masqueraded() -> None:
    assert lines(external_ip("192.0.2.1")) == [
        "ip endpoints 192.0.2.1 . tcp . 80 . 0 : 10.244.1.2 . 8080",
        "ip endpoints 192.0.2.1 . tcp . 80 . 1 : 10.244.2.2 . 8080",
        "ip hairpin 10.244.1.2 . 10.244.1.2",
        "ip post-ext 192.0.2.1 . tcp . 80",
        'ip services 192.0.2.1 . tcp . 80 : goto pick-2 comment "shop/pay:http"',
        "ip special-ips 192.0.2.1",
    ]


def test_a_balancer_with_policy_local_has_two_lists_and_its_sources() -> None:
    assert lines(balancer("198.51.100.4", policy=LOCAL, ranges=["203.0.113.0/24"])) == [
        "ip endpoints 198.51.100.4 . tcp . 80 . 0 : 10.244.1.2 . 8080",
        "ip endpoints 198.51.100.4 . tcp . 80 . 1 : 10.244.2.2 . 8080",
        "ip endpoints 198.51.100.4 . tcp . 80 . 1048576 : 10.244.1.2 . 8080",
        'ip external-local 198.51.100.4 . tcp . 80 : goto local-1 comment "shop/pay:http"',
        "ip hairpin 10.244.1.2 . 10.244.1.2",
        "ip lb-restricted 198.51.100.4 . tcp . 80",
        "ip lb-sources 198.51.100.4 . tcp . 80 . 203.0.113.0/24",
        "ip post-extlocal 198.51.100.4 . tcp . 80",
        'ip services 198.51.100.4 . tcp . 80 : goto pick-2 comment "shop/pay:http"',
        "ip special-ips 198.51.100.4",
    ]


def test_a_source_range_reaches_from_its_first_to_its_last_address() -> None:
    made = plan_of(balancer("198.51.100.4", ranges=["203.0.113.64/26"]), cluster=(THERE,))
    (key,) = [k for k in render([made], {}) if set_of(k) == (Family.IPV4, S.LB_SOURCES)]
    low, high = key[1:17], key[17:]
    assert low[:12] == high[:12]
    assert (low[12:], high[12:]) == (bytes((203, 0, 113, 64)), bytes((203, 0, 113, 127)))


def test_a_node_port_is_known_without_an_address() -> None:
    udp = ServicePortName("shop", "dns", "", Protocol.UDP)
    made = plan_of(node_port(30053, LOCAL), cluster=(HERE, THERE), name=udp)
    assert shown(render([made], {})) == [
        "ip hairpin 10.244.1.2 . 10.244.1.2",
        "ip nodeport-endpoints udp . 30053 . 0 : 10.244.1.2 . 8080",
        "ip nodeport-endpoints udp . 30053 . 1 : 10.244.2.2 . 8080",
        "ip nodeport-endpoints udp . 30053 . 1048576 : 10.244.1.2 . 8080",
        'ip nodeport-local udp . 30053 : goto np-local-1 comment "shop/dns"',
        'ip nodeports udp . 30053 : goto np-pick-2 comment "shop/dns"',
        "ip post-extlocal-nodeports udp . 30053",
    ]


def test_affinity_says_what_may_be_learnt() -> None:
    added = set(lines(cluster_ip("10.96.7.7"), node_port(30080), affinity_seconds=90))
    assert added - set(lines(cluster_ip("10.96.7.7"), node_port(30080))) == {
        'ip services 10.96.7.7 . tcp . 80 : goto sticky-pick-2 comment "shop/pay:http"',
        'ip nodeports tcp . 30080 : goto np-sticky-pick-2 comment "shop/pay:http"',
        "ip learn 10.96.7.7 . tcp . 80 : jump learn-90",
        "ip learn-nodeports tcp . 30080 : jump np-learn-90",
        "ip affinity-valid 10.96.7.7 . tcp . 80 . 10.244.1.2 . 8080",
        "ip affinity-valid 10.96.7.7 . tcp . 80 . 10.244.2.2 . 8080",
        "ip affinity-valid-nodeports tcp . 30080 . 10.244.1.2 . 8080",
        "ip affinity-valid-nodeports tcp . 30080 . 10.244.2.2 . 8080",
        "ip special-ips 10.96.7.7",
    }


def test_the_other_family_has_the_other_table() -> None:
    made = plan_of(cluster_ip("fd00:10:96::7"), cluster=pods("fd00:10:244:1::2"))
    assert shown(render([made], {})) == [
        "ip6 cluster-ips fd00:10:96::7",
        "ip6 endpoints fd00:10:96::7 . tcp . 80 . 0 : fd00:10:244:1::2 . 8080",
        "ip6 hairpin fd00:10:244:1::2 . fd00:10:244:1::2",
        'ip6 services fd00:10:96::7 . tcp . 80 : goto pick-1 comment "shop/pay:http"',
    ]


def test_nobody_anywhere_refuses_at_every_frontend() -> None:
    made = plan_of(
        cluster_ip("10.96.7.7"), balancer("198.51.100.4", policy=LOCAL), node_port(30080)
    )
    verdicts = [line for line in shown(render([made], {})) if " : " in line]
    assert verdicts == [
        'ip nodeports tcp . 30080 : goto no-endpoints comment "shop/pay:http"',
        'ip services 10.96.7.7 . tcp . 80 : goto no-endpoints comment "shop/pay:http"',
        'ip services 198.51.100.4 . tcp . 80 : goto no-endpoints comment "shop/pay:http"',
    ]


def test_nobody_here_drops_under_policy_local() -> None:
    made = plan_of(
        cluster_ip("10.96.7.7", policy=LOCAL),
        external_ip("192.0.2.1", policy=LOCAL),
        cluster=(THERE,),
    )
    verdicts = [line for line in shown(render([made], {})) if "comment" in line]
    assert verdicts == [
        'ip external-local 192.0.2.1 . tcp . 80 : drop comment "shop/pay:http"',
        'ip services 10.96.7.7 . tcp . 80 : drop comment "shop/pay:http"',
        'ip services 192.0.2.1 . tcp . 80 : goto pick-1 comment "shop/pay:http"',
    ]


FRONTENDS = (cluster_ip("10.96.7.7"), external_ip("192.0.2.1"), node_port(30080))
SERVED = plan_of(*FRONTENDS, cluster=(HERE, THERE))
NOBODY = plan_of(*FRONTENDS)


def dispatched(fragment: Elements) -> list[str]:
    return [line for line in shown(fragment) if "comment" in line]


def test_who_loses_the_last_endpoint_keeps_the_verdict() -> None:
    first = render([SERVED], {})
    second = render([NOBODY], first, pick_refuses=True)
    assert dispatched(second) == [
        'ip nodeports tcp . 30080 : goto np-pick-2 comment "shop/pay:http"',
        'ip services 10.96.7.7 . tcp . 80 : goto pick-2 comment "shop/pay:http"',
        'ip services 192.0.2.1 . tcp . 80 : goto pick-2 comment "shop/pay:http"',
    ]
    assert not any(map(_is_slot, second))
    assert render([NOBODY], second, pick_refuses=True) == second
    # As many as before, and the verdicts are written neither way; one more, and they are.
    assert render([SERVED], second, pick_refuses=True) == first
    alone = render([plan_of(*FRONTENDS, cluster=(HERE,))], second, pick_refuses=True)
    assert alone == render([plan_of(*FRONTENDS, cluster=(HERE,))], {})


def test_where_a_choice_drops_the_verdict_changes() -> None:
    assert render([NOBODY], render([SERVED], {})) == render([NOBODY], {})


OTHERS = ["drop", "goto pick-0", "goto pick-x", "goto local-2", "goto sticky-pick-2", "jump pick-2"]


@pytest.mark.parametrize("verdict", [*OTHERS, "goto no-endpoints"])
def test_no_other_verdict_is_kept(verdict: str) -> None:
    fresh = render([NOBODY], {})
    held = {k: v._replace(verdict=verdict) for k, v in fresh.items() if isinstance(v, Verdict)}
    assert render([NOBODY], held, pick_refuses=True) == fresh


def test_a_verdict_is_kept_where_it_leads_only() -> None:
    """A NodePort has no slots in the map that `pick-2` looks into."""
    fresh = render([NOBODY], {})
    turned = {"np-pick-2": "ip services", "pick-2": "ip nodeports"}
    held = {
        key: value._replace(verdict=f"goto {chain}")
        for chain, where in turned.items()
        for key, value in fresh.items()
        if isinstance(value, Verdict) and describe(key).startswith(where)
    }
    assert len(held) == len(FRONTENDS)
    assert render([NOBODY], held, pick_refuses=True) == fresh


def test_another_service_does_not_keep_the_verdict_of_one_that_had_its_address() -> None:
    other = ServicePortName("shop", "old", "http", Protocol.TCP)
    held = render([plan_of(*FRONTENDS, cluster=(HERE,), name=other)], {})
    assert render([NOBODY], held, pick_refuses=True) == render([NOBODY], {})


@pytest.mark.parametrize("affinity_seconds", [None, 90])
def test_under_policy_local_no_verdict_is_kept(affinity_seconds: int | None) -> None:
    """Of two lists one would have to be told that there is no endpoint anywhere."""
    frontends = [cluster_ip("10.96.7.7", policy=LOCAL), external_ip("192.0.2.1", policy=LOCAL)]
    frontends += [balancer("198.51.100.4", policy=LOCAL), node_port(30080, LOCAL)]
    served = plan_of(*frontends, cluster=(HERE, THERE), affinity_seconds=affinity_seconds)
    nobody = plan_of(*frontends, affinity_seconds=affinity_seconds)
    held = render([served], {})
    assert render([nobody], held, pick_refuses=True) == render([nobody], {})


def test_with_affinity_no_verdict_is_kept() -> None:
    """Clients that are remembered would go on to the endpoint that is gone."""
    held = render([plan_of(*FRONTENDS, cluster=(HERE, THERE), affinity_seconds=90)], {})
    nobody = plan_of(*FRONTENDS, affinity_seconds=90)
    assert render([nobody], held, pick_refuses=True) == render([nobody], {})


@pytest.mark.parametrize(
    ("is_local", "node", "hairpins"),
    [(True, "node-a", 1), (False, "node-b", 0), (False, None, 1)],
    ids=["here", "elsewhere", "nobody knows where"],
)
def test_who_may_reach_itself_from_here(*, is_local: bool, node: str | None, hairpins: int) -> None:
    pod = Endpoint("10.244.1.2", 8080, is_local=is_local, node=node)
    made = plan_of(cluster_ip("10.96.7.7"), cluster=(pod,))
    assert Counter(set_of(key)[1] for key in render([made], {}))[S.HAIRPIN] == hairpins


def test_ports_of_a_service_share_what_is_of_the_address() -> None:
    https = ServicePortName("shop", "pay", "https", Protocol.TCP)
    both = [
        plan_of(cluster_ip("10.96.7.7"), cluster=(HERE,)),
        plan_of(cluster_ip("10.96.7.7", 443), cluster=pods("10.244.1.2", port=8443), name=https),
    ]
    fragment = render(both, {})
    assert sorted(shown({k: v for k, v in fragment.items() if is_shared(k)})) == [
        "ip cluster-ips 10.96.7.7",
        "ip hairpin 10.244.1.2 . 10.244.1.2",
    ]
    assert sum("pick-1" in line for line in shown(fragment)) == 2


def test_node_ports_answer_at_the_addresses_of_the_node() -> None:
    assert shown(render_node(NODE_A)) == [
        "ip nodeport-ips 192.168.0.11",
        "ip special-ips 192.168.0.11",
        "ip6 nodeport-ips fd00:192:168::11",
        "ip6 special-ips fd00:192:168::11",
    ]


@given(items, items)
def test_place_orders_what_is_wanted_and_moves_as_little_as_possible(
    previous: list[bytes], wanted: list[bytes]
) -> None:
    placed = place(previous, wanted)
    assert sorted(placed) == sorted(wanted)
    kept = sum(old == new for old, new in zip(previous, placed, strict=False))
    # Nothing can stay but what had a slot that is still there.
    assert kept == len(set(wanted) & set(previous[: len(wanted)]))


@given(items, items)
def test_place_does_not_move_what_is_placed(previous: list[bytes], wanted: list[bytes]) -> None:
    placed = place(previous, wanted)
    assert place(placed, wanted) == placed
    assert place(placed, list(reversed(wanted))) == placed


def test_a_slot_that_somebody_emptied_is_filled_and_no_other_moves() -> None:
    addresses = [f"10.244.2.{n}" for n in range(1, 6)]
    wanted = [plan_of(cluster_ip("10.96.7.7"), cluster=pods(*addresses))]
    found = render([plan_of(cluster_ip("10.96.7.7"), cluster=pods(*reversed(addresses)))], {})
    slots = [key for key in found if set_of(key)[1] is S.ENDPOINTS]
    damaged = {key: value for key, value in found.items() if key not in (slots[0], slots[2])}
    again = render(wanted, damaged)
    assert again.keys() == found.keys()
    assert {key for key in found if again[key] != found[key]} <= {slots[0], slots[2]}


@given(items, items)
def test_rendering_anew_moves_as_little_as_place(old: list[bytes], new: list[bytes]) -> None:
    before, after = (
        plan_of(
            cluster_ip("10.96.7.7"),
            external_ip("192.0.2.1", policy=LOCAL),
            node_port(30080),
            cluster=pods(*(f"10.244.1.{item[0]}" for item in listed)),
        )
        for listed in (old, new)
    )
    first = render([before], {})
    second = render([after], first)
    assert render([after], second) == second
    assert sorted(second) == sorted(render([after], {}))
    moved = sum(first[k] != second[k] for k in first.keys() & second.keys() if _is_slot(k))
    slots = min(len(old), len(new))
    stayed = len(set(new) & set(old[: len(new)]))
    assert moved == 4 * (slots - stayed)  # lists: cluster IP 1, external IP 2, NodePort 1


def _is_slot(key: bytes) -> bool:
    return set_of(key)[1] in (S.ENDPOINTS, S.NODEPORT_ENDPOINTS)
