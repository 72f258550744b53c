"""What did the API say, and whom does news concern?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from endpoints.events import Delete, Folded, Replace, Upsert
from endpoints.names import Family, ObjectName
from endpoints.node import DetectLocalMode, NodeSettings
from endpoints.objects import (
    Annotations,
    EndpointPort,
    EndpointSlice,
    Kind,
    KubernetesObject,
    Node,
    ObjectMeta,
    ServicePort,
)
from endpoints.state import ClusterState
from tests.unit.endpoints.build import (
    NODE_ADDRESSES,
    PAY,
    addresses,
    endpoint,
    endpoint_slice,
    node,
    service,
)

SETTINGS = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",))
SLICE = ObjectName("shop", "pay-1")
NOTHING = Folded(frozenset())


def state(*objects: KubernetesObject) -> ClusterState:
    built = ClusterState(SETTINGS, NODE_ADDRESSES)
    for obj in objects:
        built.fold(Upsert(obj))
    return built


def cluster_list(of: ClusterState, name: str = "pay") -> list[str]:
    (plan,) = of.plans(ObjectName("shop", name))
    return addresses(plan.cluster)


def test_a_service_and_its_slice_become_a_plan_in_either_order() -> None:
    forth = state(service(), endpoint_slice(endpoint("10.244.1.2")))
    back = state(endpoint_slice(endpoint("10.244.1.2")), service())
    assert forth.plans(PAY) == back.plans(PAY)
    assert cluster_list(forth) == ["10.244.1.2:8080"]


def test_an_unknown_service_has_no_plans() -> None:
    assert state().plans(PAY) == ()


def test_a_slice_of_an_unknown_service_dirties_nothing() -> None:
    assert state().fold(Upsert(endpoint_slice(endpoint("10.244.1.2")))) == NOTHING


def irrelevant(of: ObjectMeta) -> ObjectMeta:
    annotations = Annotations(last_change="2026-01-01T00:00:00Z")
    return msgspec.structs.replace(of, resource_version="2", annotations=annotations)


def test_news_that_changes_nothing_for_us_dirties_nothing() -> None:
    of, slice_ = service(), endpoint_slice(endpoint("10.244.1.2"))
    built = state(of, slice_, node())
    for obj in (of, slice_, node()):
        touched = msgspec.structs.replace(obj, metadata=irrelevant(obj.metadata))
        assert built.fold(Upsert(touched)) == NOTHING


SLICE_NEWS: dict[str, EndpointSlice] = {
    "an endpoint more": endpoint_slice(endpoint("10.244.1.2"), endpoint("10.244.1.3")),
    "an endpoint less": endpoint_slice(),
    "no longer ready": endpoint_slice(endpoint("10.244.1.2", state="not ready")),
    "on another node": endpoint_slice(endpoint("10.244.1.2", "node-a")),
    "another hint": endpoint_slice(endpoint("10.244.1.2", zones=["eu-1a"])),
    "another port": endpoint_slice(
        endpoint("10.244.1.2"), ports=[EndpointPort(name="http", port=8081)]
    ),
}


@pytest.mark.parametrize("news", SLICE_NEWS.values(), ids=SLICE_NEWS)
def test_news_of_a_slice_dirties_its_service_and_no_other(news: EndpointSlice) -> None:
    other = endpoint_slice(endpoint("10.244.2.2"), name="cart-1", of="cart")
    before = endpoint_slice(endpoint("10.244.1.2"))
    built = state(service(), service("cart", cluster_ips=["10.96.0.1"]), before, other)
    assert built.fold(Upsert(news)) == Folded(frozenset({PAY}), slices=1)
    assert built.plans(PAY) == state(service(), news).plans(PAY)


def test_a_slice_that_changes_its_label_concerns_both_services() -> None:
    built = state(
        service(),
        service("cart", cluster_ips=["10.96.0.1"]),
        endpoint_slice(endpoint("10.244.1.2")),
    )
    moved = endpoint_slice(endpoint("10.244.1.2"), of="cart")
    assert built.fold(Upsert(moved)).dirty == {PAY, ObjectName("shop", "cart")}
    assert (cluster_list(built), cluster_list(built, "cart")) == ([], ["10.244.1.2:8080"])


def test_a_slice_that_loses_its_label_is_gone() -> None:
    built = state(service(), endpoint_slice(endpoint("10.244.1.2")))
    assert built.fold(Upsert(endpoint_slice(endpoint("10.244.1.2"), of=None))).dirty == {PAY}
    assert cluster_list(built) == []


def test_slices_of_a_service_come_and_go_by_themselves() -> None:
    built = state(
        service(),
        endpoint_slice(endpoint("10.244.1.2")),
        endpoint_slice(endpoint("10.244.2.2"), name="pay-2"),
    )
    assert cluster_list(built) == ["10.244.1.2:8080", "10.244.2.2:8080"]
    assert built.fold(Delete(Kind.ENDPOINT_SLICE, SLICE)).dirty == {PAY}
    assert cluster_list(built) == ["10.244.2.2:8080"]


def test_namespaces_are_apart() -> None:
    foreign = endpoint_slice(endpoint("10.244.1.2"))
    foreign.metadata.namespace = "other"
    built = state(service(), foreign)
    assert cluster_list(built) == []


def test_deleting_what_is_unknown_is_nothing() -> None:
    for kind in Kind:
        assert state().fold(Delete(kind, ObjectName("shop", "ghost"))) == NOTHING


def test_a_deleted_service_is_dirty_and_has_no_plans() -> None:
    built = state(service())
    assert built.fold(Delete(Kind.SERVICE, PAY)).dirty == {PAY}
    assert (built.plans(PAY), list(built.services())) == ((), [])


def test_a_service_that_is_no_longer_ours_is_dirty_once() -> None:
    built = state(service())
    headless = service(labels={"service.kubernetes.io/headless": ""})
    assert built.fold(Upsert(headless)).dirty == {PAY}
    assert built.fold(Upsert(headless)) == NOTHING
    assert built.fold(Delete(Kind.SERVICE, PAY)) == NOTHING


def test_a_relist_dirties_what_differs_only() -> None:
    kept = service("kept", cluster_ips=["10.96.0.1"])
    changed = service("changed", cluster_ips=["10.96.0.2"])
    gone = service("gone", cluster_ips=["10.96.0.3"])
    made = service("made", cluster_ips=["10.96.0.4"])
    built = state(kept, changed, gone)
    changed_now = service(
        "changed", cluster_ips=["10.96.0.2"], ports=[ServicePort(port=81, name="http")]
    )
    folded = built.fold(Replace(Kind.SERVICE, (kept, changed_now, made)))
    assert {name.name for name in folded.dirty} == {"changed", "gone", "made"}
    assert {name.name for name in built.services()} == {"kept", "changed", "made"}


def test_a_relist_keeps_what_could_not_be_read() -> None:
    of, slice_ = service(), endpoint_slice(endpoint("10.244.1.2"))
    built = state(of, slice_, node())
    assert built.fold(Replace(Kind.SERVICE, (), frozenset({PAY}))) == NOTHING
    assert built.fold(Replace(Kind.ENDPOINT_SLICE, (), frozenset({SLICE}))) == NOTHING
    own = frozenset({ObjectName("", "node-a")})
    assert built.fold(Replace(Kind.NODE, (), own)) == NOTHING
    assert cluster_list(built) == ["10.244.1.2:8080"]
    assert built.node.zone == "eu-1a"


def test_a_relist_of_slices_forgets_the_others() -> None:
    built = state(service(), endpoint_slice(endpoint("10.244.1.2")))
    new = endpoint_slice(endpoint("10.244.2.2"), name="pay-2")
    assert built.fold(Replace(Kind.ENDPOINT_SLICE, (new,))).dirty == {PAY}
    assert cluster_list(built) == ["10.244.2.2:8080"]


NODE_NEWS: dict[str, Callable[[], Node]] = {
    "another zone": lambda: node(zone="eu-1b"),
    "no zone": lambda: node(zone=None),
    "another internal IP": lambda: node(internal=["10.244.1.1", "fd00:192:168::11"]),
}


@pytest.mark.parametrize("news", NODE_NEWS.values(), ids=NODE_NEWS)
def test_a_change_of_this_node_dirties_all_services(news: Callable[[], Node]) -> None:
    built = state(service(), service("cart", cluster_ips=["10.96.0.1"]), node())
    before = built.node
    folded = built.fold(Upsert(news()))
    assert folded.node_changed
    assert folded.dirty == set(built.services())
    assert built.node != before


def test_another_node_is_ignored() -> None:
    built = state(service(), node())
    assert built.fold(Upsert(node("node-b", zone="eu-1b"))) == NOTHING
    assert built.fold(Delete(Kind.NODE, ObjectName("", "node-b"))) == NOTHING
    assert built.fold(Replace(Kind.NODE, (node(), node("node-c")))) == NOTHING


def test_a_machine_serves_on_when_its_node_object_is_deleted() -> None:
    built = state(service(), node())
    before = built.node
    assert before != state().node
    assert built.fold(Delete(Kind.NODE, ObjectName("", "node-a"))) == NOTHING
    assert built.fold(Replace(Kind.NODE, ())) == NOTHING
    assert (built.own_node, built.node) == (None, before)
    assert built.fold(Upsert(node(zone="eu-1b"))).node_changed


def test_pod_cidrs_count_in_node_cidr_mode() -> None:
    built = ClusterState(NodeSettings("node-a", DetectLocalMode.NODE_CIDR), NODE_ADDRESSES)
    assert not built.node.local_traffic.known(Family.IPV4)
    assert built.fold(Upsert(node())).node_changed
    assert built.node.local_traffic.cidrs == ("10.244.1.0/24", "fd00:10:244:1::/64")


def test_observed_addresses_change_the_node() -> None:
    built = state(service(), node())
    assert built.observe_addresses(NODE_ADDRESSES) == NOTHING
    folded = built.observe_addresses(NODE_ADDRESSES | {"172.16.0.11"})
    assert folded.node_changed
    assert folded.dirty == {PAY}
    assert "172.16.0.11" in built.node.addresses


def test_the_link_local_address_of_a_pods_interface_is_no_news() -> None:
    built = state(service(), node())
    assert built.observe_addresses(NODE_ADDRESSES | {"fe80::1234"}) == NOTHING


def test_without_a_kernel_the_node_object_says_which_addresses_are_local() -> None:
    built = ClusterState(NodeSettings("node-a"))
    built.fold(Upsert(node()))
    assert built.node.addresses == {"127.0.0.1", "::1", "192.168.0.11", "fd00:192:168::11"}
    assert built.node.node_ports_v4.addresses == ("192.168.0.11",)
    assert built.node.node_ports_v6.addresses == ("fd00:192:168::11",)


def test_an_address_of_the_node_in_a_source_range_admits_the_balancer() -> None:
    of = service(type="LoadBalancer", balancers=["198.51.100.20"], ranges=["172.16.0.0/16"])
    built = state(of, node())
    built.observe_addresses(NODE_ADDRESSES | {"172.16.0.11"})
    (plan,) = built.plans(PAY)
    assert plan.frontends[1].source_ranges == ("172.16.0.0/16", "198.51.100.20/32")


def test_a_bind_address_is_the_primary_one_of_its_family() -> None:
    settings = NodeSettings("node-a", bind_address="192.168.0.99")
    cluster = ClusterState(settings, frozenset({"192.168.0.11", "192.168.0.99", "fd00::11"}))
    assert cluster.node.primary == {"192.168.0.99", "fd00::11"}
    assert cluster.node.node_ports(Family.IPV4).addresses == ("192.168.0.99",)


def test_settings_that_make_no_sense_are_refused_by_value() -> None:
    with pytest.raises(ValueError, match="primry"):
        ClusterState(NodeSettings("node-a", node_port_addresses=("primry",)))


def test_everything_is_forgotten_when_everything_is_deleted() -> None:
    balanced = service(external_ips=["203.0.113.80"])
    rival = service("rival", cluster_ips=["10.96.0.1"], external_ips=["203.0.113.80"])
    built = state(
        balanced,
        rival,
        endpoint_slice(endpoint("10.244.1.2")),
        endpoint_slice(endpoint("10.244.1.2"), name="pay-2"),
        endpoint_slice(endpoint("10.244.1.2"), name="orphan-1", of="orphan"),
        node(),
    )
    for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE):
        built.fold(Replace(kind, ()))
    assert remains(built) == []


def remains(of: ClusterState) -> list[object]:
    """What the dictionaries of a state still hold."""
    kept = (of._exposures, of._slices, of._slices_of, of._claims._claimants, of._claims._lost)
    return [held for held in kept if held] + ([of._own_node] if of._own_node else [])
