"""Is an operator told what the kernel's elements mean?"""

from __future__ import annotations

from endpoints.names import Protocol, ServicePortName
from modes.held import DumpedFrontend, DumpedService
from modes.nftables.dump import services_in
from modes.nftables.elements import Elements, Verdict, render
from tests.unit.modes.nftables.build import (
    LOCAL,
    balancer,
    cluster_ip,
    node_port,
    plan_of,
    pods,
)

BOTH = pods("10.244.1.2", "10.244.2.2")
SHOWN = ("10.244.1.2:8080", "10.244.2.2:8080")


def test_a_service_with_all_frontends() -> None:
    ranges = ["203.0.113.0/24", "198.18.0.0/25"]
    made = plan_of(
        node_port(30080, LOCAL),
        balancer("198.51.100.4", policy=LOCAL, ranges=ranges),
        cluster_ip("10.96.7.7"),
        cluster=BOTH,
        affinity_seconds=90,
    )
    (told,) = services_in(render([made], {}))
    assert told == DumpedService(
        name="shop/pay:http",
        protocol="TCP",
        family="IPv4",
        frontends=(
            DumpedFrontend("10.96.7.7", 80, "Cluster", "services -> sticky-pick-2", SHOWN),
            DumpedFrontend(
                "198.51.100.4",
                80,
                "Local (pods: Cluster)",
                "external-local -> sticky-local-1; services -> sticky-pick-2",
                SHOWN,
                SHOWN[:1],
                ("198.18.0.0/25", "203.0.113.0/24"),
            ),
            DumpedFrontend(
                "node",
                30080,
                "Local (pods: Cluster)",
                "nodeport-local -> np-sticky-local-1; nodeports -> np-sticky-pick-2",
                SHOWN,
                SHOWN[:1],
            ),
        ),
        affinity_seconds=90,
    )


def test_a_cluster_ip_with_policy_local() -> None:
    made = plan_of(cluster_ip("10.96.7.7", policy=LOCAL), cluster=BOTH)
    (told,) = services_in(render([made], {}))
    assert told.frontends == (
        DumpedFrontend("10.96.7.7", 80, "Local", "services -> local-1", (), SHOWN[:1]),
    )


def test_who_refuses_and_who_drops() -> None:
    refusing = plan_of(cluster_ip("10.96.7.7"))
    dropping = plan_of(cluster_ip("10.96.7.8", policy=LOCAL), cluster=BOTH[1:])
    (told,) = services_in(render([refusing, dropping], {}))
    assert [(f.policy, f.rule) for f in told.frontends] == [
        ("Cluster", "services -> no-endpoints"),
        ("Local", "services -> drop"),
    ]


def test_a_choice_among_none_is_told_to_refuse_where_it_does() -> None:
    served = plan_of(cluster_ip("10.96.7.7"), node_port(30080), cluster=BOTH)
    nobody = plan_of(cluster_ip("10.96.7.7"), node_port(30080))
    held = render([nobody], render([served], {}), pick_refuses=True)
    (told,) = services_in(held, pick_refuses=True)
    assert [(f.rule, f.endpoints) for f in told.frontends] == [
        ("services -> pick-2 -> no-endpoints", ()),
        ("nodeports -> np-pick-2 -> no-endpoints", ()),
    ]
    (silent,) = services_in(held)
    assert [f.rule for f in silent.frontends] == ["services -> pick-2", "nodeports -> np-pick-2"]
    (of_served,) = services_in(render([served], {}), pick_refuses=True)
    assert [f.rule for f in of_served.frontends] == [
        "services -> pick-2",
        "nodeports -> np-pick-2",
    ]


def test_services_are_told_apart_by_name_protocol_and_family() -> None:
    dns = [ServicePortName("kube-system", "dns", "dns", p) for p in (Protocol.UDP, Protocol.TCP)]
    made = [
        plan_of(cluster_ip("fd00:10:96::a", 53), cluster=pods("fd00:10:244:1::2"), name=dns[0]),
        plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[0]),
        plan_of(cluster_ip("10.96.0.10", 53), cluster=BOTH, name=dns[1]),
    ]
    told = services_in(render(made, {}))
    assert [(s.name, s.protocol, s.family) for s in told] == [
        ("kube-system/dns:dns", "TCP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv4"),
        ("kube-system/dns:dns", "UDP", "IPv6"),
    ]
    assert told[2].frontends[0].endpoints == ("[fd00:10:244:1::2]:8080",)


def test_an_element_without_a_name_is_shown_as_unknown() -> None:
    fragment: Elements = render([plan_of(cluster_ip("10.96.7.7"), cluster=BOTH)], {})
    for key, value in fragment.items():
        if isinstance(value, Verdict):
            fragment[key] = Verdict(value.verdict)
    assert [s.name for s in services_in(fragment)] == ["?"]
