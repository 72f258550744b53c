"""Which of several Services that claim the same address, port and protocol has it?"""

from __future__ import annotations

from itertools import permutations

import pytest

from endpoints.events import Delete, Folded, Problem, Replace, Upsert
from endpoints.names import ObjectName, Protocol
from endpoints.node import NodeSettings
from endpoints.objects import Kind, Service, ServicePort
from endpoints.state import ClusterState
from tests.unit.endpoints.build import service

VIP = "203.0.113.80"
OLD, YOUNG, YOUNGEST = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", None


def claimant(name: str, created: str | None, *, cluster_ip: str = "", vip: str = VIP) -> Service:
    """A Service with a cluster IP of its own that also wants the external IP."""
    own = cluster_ip or f"10.96.0.{ord(name[0])}"
    return service(name, cluster_ips=[own], external_ips=[vip] if vip else [], created=created)


def state(*services: Service) -> ClusterState:
    built = ClusterState(NodeSettings("node-a"))
    for of in services:
        built.fold(Upsert(of))
    return built


def holders(of: ClusterState, address: str = VIP) -> list[str]:
    """The Services whose plans have the address."""
    return sorted(
        name.name
        for name in of.services()
        for plan in of.plans(name)
        if any(frontend.address == address for frontend in plan.frontends)
    )


def names(folded: Folded) -> set[str]:
    return {name.name for name in folded.dirty}


PRECEDENCE = {
    "the older": (claimant("zoe", OLD), claimant("amy", YOUNG)),
    "of the same age the first by name": (claimant("amy", OLD), claimant("zoe", OLD)),
    "any timestamp before none": (claimant("zoe", YOUNG), claimant("amy", YOUNGEST)),
    "without timestamps the first by name": (claimant("amy", None), claimant("zoe", None)),
}


@pytest.mark.parametrize(("first", "second"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_precedence_does_not_depend_on_who_came_to_us_first(
    first: Service, second: Service
) -> None:
    assert holders(state(first, second)) == [first.metadata.name]
    assert holders(state(second, first)) == [first.metadata.name]


def test_a_loser_keeps_all_its_other_frontends() -> None:
    built = state(claimant("old", OLD), claimant("new", YOUNG))
    assert holders(built, "10.96.0.110") == ["new"]


def test_another_port_or_protocol_is_no_conflict() -> None:
    udp = service(
        "udp",
        cluster_ips=["10.96.0.1"],
        external_ips=[VIP],
        ports=[ServicePort(port=80, protocol=Protocol.UDP), ServicePort(port=81)],
    )
    assert holders(state(claimant("old", OLD), udp)) == ["old", "udp", "udp"]


def test_the_loser_is_reported_once_and_takes_over() -> None:
    built = state(claimant("old", OLD))
    newcomer = claimant("new", YOUNG)
    lost = built.fold(Upsert(newcomer))
    assert lost.problems == (
        Problem(
            "Service shop/new",
            "spec.externalIPs",
            "203.0.113.80:80/TCP",
            "Service shop/old has it: it is older, or as old and first by name",
        ),
    )
    assert names(lost) == {"new"}

    newcomer = service("new", cluster_ips=["10.96.0.99"], external_ips=[VIP], created=YOUNG)
    assert built.fold(Upsert(newcomer)).problems == ()

    gone = built.fold(Delete(Kind.SERVICE, ObjectName("shop", "old")))
    assert names(gone) == {"old", "new"}
    assert gone.problems == ()
    assert holders(built) == ["new"]


def test_an_older_one_that_comes_later_displaces_the_holder() -> None:
    built = state(claimant("new", YOUNG))
    folded = built.fold(Upsert(claimant("old", OLD)))
    assert names(folded) == {"new", "old"}
    assert [problem.subject for problem in folded.problems] == ["Service shop/new"]


def test_giving_up_the_claim_is_enough() -> None:
    built = state(claimant("old", OLD), claimant("new", YOUNG))
    assert names(built.fold(Upsert(claimant("old", OLD, vip="")))) == {"old", "new"}
    assert holders(built) == ["new"]


def test_becoming_another_proxys_is_enough() -> None:
    built = state(claimant("old", OLD), claimant("new", YOUNG))
    other = claimant("old", OLD)
    other.metadata.labels = {"service.kubernetes.io/service-proxy-name": "other"}
    assert names(built.fold(Upsert(other))) == {"old", "new"}
    assert holders(built) == ["new"]


def test_a_service_made_anew_goes_to_the_end_of_the_queue() -> None:
    built = state(claimant("one", OLD), claimant("two", YOUNG))
    folded = built.fold(Upsert(claimant("one", "2026-01-01T00:00:00Z")))
    assert names(folded) == {"one", "two"}
    assert [problem.subject for problem in folded.problems] == ["Service shop/one"]
    assert holders(built) == ["two"]


def test_the_queue_has_any_length() -> None:
    ages = {"a": "2024-01-04T00:00:00Z", "b": "2024-01-02T00:00:00Z", "c": None, "d": OLD}
    for order in permutations(ages):
        built = state(*(claimant(name, ages[name]) for name in order))
        for name in "dbac":
            assert holders(built) == [name]
            built.fold(Delete(Kind.SERVICE, ObjectName("shop", name)))


def test_a_third_loser_leaving_concerns_nobody_else() -> None:
    built = state(claimant("a", OLD), claimant("b", YOUNG), claimant("c", YOUNGEST))
    assert names(built.fold(Delete(Kind.SERVICE, ObjectName("shop", "b")))) == {"b"}
    assert holders(built) == ["a"]


def node_port(name: str, created: str, number: int, *cluster_ips: str) -> Service:
    ports = [ServicePort(port=80, node_port=number)]
    return service(name, type="NodePort", cluster_ips=cluster_ips, ports=ports, created=created)


def test_node_ports_conflict_by_number_and_are_reported_once_for_both_families() -> None:
    built = state(node_port("old", OLD, 30080, "10.96.0.1", "fd00:10:96::1"))
    folded = built.fold(Upsert(node_port("new", YOUNG, 30080, "10.96.0.2", "fd00:10:96::2")))
    assert [(problem.field, problem.value) for problem in folded.problems] == [
        ("spec.ports[].nodePort", "30080/TCP")
    ]
    assert [
        [frontend.kind for frontend in plan.frontends]
        for plan in built.plans(ObjectName("shop", "new"))
    ] == [["ClusterIP"], ["ClusterIP"]]


def test_a_cluster_ip_may_be_lost_to_an_external_ip() -> None:
    built = state(claimant("old", OLD, vip="10.96.0.110"))
    (problem,) = built.fold(Upsert(claimant("new", YOUNG, vip=""))).problems
    assert (problem.field, problem.value) == ("spec.clusterIPs", "10.96.0.110:80/TCP")
    assert built.plans(ObjectName("shop", "new")) == ()


def test_an_ipv6_address_is_reported_in_brackets() -> None:
    built = state(service("old", cluster_ips=["fd00:10:96::1"], created=OLD))
    (problem,) = built.fold(
        Upsert(service("new", cluster_ips=["fd00:10:96::1"], created=YOUNG))
    ).problems
    assert problem.value == "[fd00:10:96::1]:80/TCP"


def test_a_relist_that_hands_the_claim_over_reports_nobody() -> None:
    built = state(claimant("old", OLD), claimant("zed", YOUNG, vip=""))
    # `zed` joins before `old` leaves: for a moment it has lost.
    folded = built.fold(
        Replace(Kind.SERVICE, (claimant("zed", YOUNG), claimant("old", OLD, vip="")))
    )
    assert folded.problems == ()
    assert names(folded) == {"old", "zed"}
    assert holders(built) == ["zed"]
