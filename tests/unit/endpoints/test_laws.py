"""Do the laws of the core hold on random clusters with random histories?

Names, addresses and ports are few, so that claims collide, slices share endpoints and move between
Services, and objects come back after they went.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from endpoints.events import Delete, Event, Replace, Upsert
from endpoints.exposure import Claim
from endpoints.names import ObjectName, Protocol
from endpoints.node import NodeSettings
from endpoints.objects import (
    KIND_OF,
    EndpointPort,
    EndpointSlice,
    Kind,
    KubernetesObject,
    Node,
    Service,
    ServicePort,
    SliceEndpoint,
    name_of,
)
from endpoints.plan import EndpointState, ServicePlan
from endpoints.state import ClusterState
from tests.unit.endpoints.build import (
    NODE_ADDRESSES,
    endpoint,
    endpoint_slice,
    node,
    service,
)
from tests.unit.endpoints.test_state import remains

Listed = TypeVar("Listed", Service, EndpointSlice, Node)

SETTINGS = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",))

SERVICE_NAMES = ("amy", "bob", "cid")
policies = st.sampled_from([None, "Cluster", "Local"])
protocols = st.sampled_from([Protocol.TCP, Protocol.UDP])
ports = st.builds(
    ServicePort,
    port=st.sampled_from([80, 81]),
    name=st.sampled_from(["http", "admin"]),
    protocol=protocols,
    node_port=st.sampled_from([None, 30080, 30081]),
)
services = st.builds(
    service,
    st.sampled_from(SERVICE_NAMES),
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    cluster_ips=st.sampled_from(
        [("10.96.0.1",), ("10.96.0.2", "fd00:10:96::2"), ("fd00:10:96::3",), ("None",)]
    ),
    ports=st.lists(ports, max_size=2, unique_by=lambda port: port.name),
    external_ips=st.lists(st.sampled_from(["203.0.113.80", "10.96.0.1"]), max_size=2),
    balancers=st.lists(st.sampled_from(["198.51.100.20", "2001:db8:198::20"]), max_size=2),
    ranges=st.lists(st.sampled_from(["203.0.113.0/24", "192.168.0.0/16", "::/0"]), max_size=2),
    internal=policies,
    external=policies,
    affinity_seconds=st.sampled_from([None, 0, 60]),
    created=st.sampled_from([None, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
)


def pods(addresses: list[str]) -> st.SearchStrategy[SliceEndpoint]:
    return st.builds(
        endpoint,
        st.sampled_from(addresses),
        st.sampled_from(["node-a", "node-b", None]),
        st.sampled_from(["unset", "ready", "terminating", "not ready"]),
        zones=st.lists(st.sampled_from(["eu-1a", "eu-1b"]), max_size=1),
        nodes=st.lists(st.sampled_from(["node-a", "node-b"]), max_size=1),
    )


slice_ports = st.builds(
    EndpointPort,
    name=st.sampled_from(["http", "admin"]),
    protocol=st.sampled_from([None, Protocol.TCP, Protocol.UDP]),
    port=st.sampled_from([None, 8080, 8081]),
)


def slices_of(family: str, addresses: list[str]) -> st.SearchStrategy[EndpointSlice]:
    return st.builds(
        lambda endpoints, name, of, ports: endpoint_slice(
            *endpoints, name=f"{name}-{family.lower()}", of=of, ports=ports, family=family
        ),
        st.lists(pods(addresses), max_size=4),
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from([*SERVICE_NAMES, None]),
        st.lists(slice_ports, max_size=2),
    )


slices = slices_of("IPv4", ["10.244.1.2", "10.244.1.3", "10.244.2.2"]) | slices_of(
    "IPv6", ["fd00:10:244:1::2", "fd00:10:244:2::2"]
)
nodes = st.builds(
    node,
    st.sampled_from(["node-a", "node-b"]),
    zone=st.sampled_from(["eu-1a", "eu-1b", None]),
)
objects: st.SearchStrategy[KubernetesObject] = services | slices | nodes


def relists(kind: Kind, of: st.SearchStrategy[Listed]) -> st.SearchStrategy[Replace]:
    listed = st.lists(of, max_size=3, unique_by=name_of)
    return listed.map(lambda objects: Replace(kind, tuple(objects)))


events: st.SearchStrategy[Event] = (
    objects.map(Upsert)
    | objects.map(lambda obj: Delete(KIND_OF[type(obj)], name_of(obj)))
    | relists(Kind.SERVICE, services)
    | relists(Kind.ENDPOINT_SLICE, slices)
    | relists(Kind.NODE, nodes)
)
histories = st.lists(events, max_size=12)


def what_is(history: list[Event]) -> dict[tuple[Kind, ObjectName], KubernetesObject]:
    """The objects that a history leaves: what an API server would list."""
    left: dict[tuple[Kind, ObjectName], KubernetesObject] = {}
    for event in history:
        match event:
            case Upsert(obj):
                left[KIND_OF[type(obj)], name_of(obj)] = obj
            case Delete(kind, name):
                left.pop((kind, name), None)
            case Replace(kind, objects):
                left = {key: obj for key, obj in left.items() if key[0] is not kind}
                left |= {(kind, name_of(obj)): obj for obj in objects}
    return left


def empty() -> ClusterState:
    return ClusterState(SETTINGS, NODE_ADDRESSES)


def folded(history: list[Event]) -> ClusterState:
    state = empty()
    for event in history:
        state.fold(event)
    return state


def own_nodes(history: list[Event]) -> list[Node]:
    """What the Node of this machine was, one after the other."""
    found: list[KubernetesObject] = []
    for event in history:
        match event:
            case Upsert(obj):
                found.append(obj)
            case Replace(_, objects):
                found += objects
    return [of for of in found if isinstance(of, Node) and of.metadata.name == "node-a"]


def all_plans(state: ClusterState) -> dict[ObjectName, tuple[ServicePlan, ...]]:
    return {name: state.plans(name) for name in state.services()}


@given(histories, st.randoms(use_true_random=False))
def test_plans_depend_on_what_is_and_not_on_how_it_came_about(
    history: list[Event], random: Random
) -> None:
    """But for the machine, which is what its Node said last, even if that is deleted."""
    listed = list(what_is(history).values())
    random.shuffle(listed)
    machine = [Upsert(node) for node in own_nodes(history)[-1:]]
    after, at_once = folded(history), folded([*machine, *map(Upsert, listed)])
    assert after.node == at_once.node
    assert all_plans(after) == all_plans(at_once)


@given(histories)
def test_whoever_is_not_dirty_has_the_plans_from_before(history: list[Event]) -> None:
    state = empty()
    before = all_plans(state)
    node_before = state.node
    for event in history:
        news = state.fold(event)
        after = all_plans(state)
        concerned = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
        assert concerned <= news.dirty
        assert news.node_changed is (state.node != node_before)
        before, node_before = after, state.node


@given(histories)
def test_the_same_news_twice_is_no_news(history: list[Event]) -> None:
    state = empty()
    for event in history:
        state.fold(event)
        again = state.fold(event)
        assert (again.dirty, again.problems, again.node_changed) == (frozenset(), (), False)


@given(histories)
def test_nothing_is_claimed_twice_and_nothing_that_is_claimed_is_lost(history: list[Event]) -> None:
    state = folded(history)
    wanted = {claim for e in state._exposures.values() for claim, _ in e.claims()}
    held = Counter(
        (frontend.address or plan.family, frontend.port, plan.name.protocol)
        for plans in all_plans(state).values()
        for plan in plans
        for frontend in plan.frontends
    )
    assert held == Counter(dict.fromkeys(wanted, 1))


@given(histories)
def test_a_loss_is_reported_when_it_begins_and_only_then(history: list[Event]) -> None:
    state = empty()
    before: set[tuple[ObjectName, Claim]] = set()
    for event in history:
        problems = state.fold(event).problems
        after = {(name, claim) for name in state.services() for claim in state._claims.lost(name)}
        assert {problem.subject for problem in problems} == {
            f"Service {name}" for name, _ in after - before
        }
        before = after


@given(histories)
def test_when_all_is_deleted_only_the_machine_is_remembered(history: list[Event]) -> None:
    state = folded(history)
    machine = state.node
    for kind, name in what_is(history):
        state.fold(Delete(kind, name))
    assert remains(state) == []
    assert state.node == machine


@given(histories)
def test_every_plan_is_consistent(history: list[Event]) -> None:
    for plans in all_plans(folded(history)).values():
        for plan in plans:
            unused = [u.endpoint for u in plan.unused]
            everyone = {*plan.cluster, *plan.local, *unused}
            assert plan.has_any is any(e.state is not EndpointState.NOT_READY for e in everyone)
            assert all(e.state is not EndpointState.NOT_READY for e in plan.cluster + plan.local)
            assert all(e.is_local for e in plan.local)
            assert not {*plan.cluster, *plan.local} & {*unused}
            assert len({(e.address, e.port) for e in everyone}) == len(everyone)
            for endpoints in (plan.cluster, plan.local):
                assert list(endpoints) == sorted(set(endpoints))
                assert len({e.state for e in endpoints}) <= 1
