"""How much news does an event bring, when was it caused, and what is known of the own Node?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.decode import decode_watch
from endpoints.events import Delete, Folded, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import Annotations, EndpointSlice, Kind, KubernetesObject, Node
from endpoints.slices import triggered
from endpoints.state import ClusterState
from tests.unit.endpoints.build import NODE_ADDRESSES, endpoint, endpoint_slice, node, service

NINE, ELEVEN = 1_795_168_800.0, 1_795_176_000.0


def state(*objects: KubernetesObject) -> ClusterState:
    built = ClusterState(NodeSettings("node-a"), NODE_ADDRESSES)
    for obj in objects:
        built.fold(Upsert(obj))
    return built


def caused(at: str, *ips: str, name: str = "pay-1", of: str | None = "pay") -> EndpointSlice:
    made = endpoint_slice(*map(endpoint, ips), name=name, of=of)
    made.metadata.annotations = Annotations(last_change=at)
    return made


def counts(folded: Folded) -> tuple[int, int]:
    return folded.services, folded.slices


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-20T10:00:00Z", NINE),
        ("2026-11-20T10:00:00.25Z", NINE + 0.25),
        ("2026-11-20T10:00:00.123456789Z", NINE + 0.123456),
        ("2026-11-20T12:00:00+02:00", NINE),
        ("2026-11-20T10:00:00", None),
        ("2026-11-20", None),
        ("yesterday", None),
        ("", None),
        ("2026-13-20T10:00:00Z", None),
    ],
)
def test_when_a_change_was_caused(text: str, seconds: float | None) -> None:
    assert triggered(Annotations(last_change=text)) == seconds


def test_who_says_nothing_was_caused_at_no_time() -> None:
    assert triggered(None) is None
    assert triggered(Annotations()) is None


def test_a_slice_tells_when_it_was_caused_if_it_changes_something() -> None:
    built = state(service())
    first = built.fold(Upsert(caused("2026-11-20T10:00:00Z", "10.244.1.2")))
    assert (first.triggered, counts(first)) == ((NINE,), (0, 1))
    # Only the annotation differs: that is no news.
    again = built.fold(Upsert(caused("2026-11-20T12:00:00Z", "10.244.1.2")))
    assert again == Folded(frozenset())
    second = built.fold(Upsert(caused("2026-11-20T12:00:00Z", "10.244.1.3")))
    assert (second.triggered, counts(second)) == ((ELEVEN,), (0, 1))


def test_a_time_that_cannot_be_read_costs_nothing_else() -> None:
    folded = state(service()).fold(Upsert(caused("yesterday", "10.244.1.2")))
    assert (folded.triggered, folded.problems, counts(folded)) == ((), (), (0, 1))


def test_slices_of_a_service_that_is_not_ours_are_no_news() -> None:
    built = state()
    assert built.fold(Upsert(caused("2026-11-20T10:00:00Z", "10.244.1.2"))) == Folded(frozenset())
    # The Service comes later: it is the news then, and no slice changed.
    folded = built.fold(Upsert(service()))
    assert (folded.triggered, counts(folded)) == ((), (1, 0))


def test_a_slice_that_goes_was_caused_at_no_time() -> None:
    built = state(service(), caused("2026-11-20T10:00:00Z", "10.244.1.2"))
    folded = built.fold(Delete(Kind.ENDPOINT_SLICE, ObjectName("shop", "pay-1")))
    assert (folded.triggered, counts(folded)) == ((), (0, 1))


def test_a_list_tells_of_all_that_changed() -> None:
    kept = caused("2026-11-20T10:00:00Z", "10.244.1.2", name="kept")
    gone = caused("2026-11-20T10:00:00Z", "10.244.1.3", name="gone")
    built = state(service(), kept, gone)
    new = [
        caused("2026-11-20T10:00:00Z", "10.244.1.4", name="new-1"),
        caused("2026-11-20T12:00:00Z", "10.244.1.5", name="new-2"),
        caused("2026-11-20T12:00:00Z", "10.244.1.6", name="foreign", of="ghost"),
    ]
    folded = built.fold(Replace(Kind.ENDPOINT_SLICE, (kept, *new)))
    assert (folded.triggered, counts(folded)) == ((NINE, ELEVEN), (0, 3))


def test_services_that_change_are_counted_once_each() -> None:
    built = state(service(), service("cart", cluster_ips=["10.96.0.1"]))
    assert counts(built.fold(Upsert(service()))) == (0, 0)
    folded = built.fold(Replace(Kind.SERVICE, (service(cluster_ips=["10.96.7.8"]),)))
    assert counts(folded) == (2, 0)


def test_a_change_of_the_node_is_no_change_of_services() -> None:
    folded = state(service(), node()).fold(Upsert(node(zone="eu-1b")))
    assert folded.node_changed
    assert counts(folded) == (0, 0)


def test_the_own_node_is_kept_as_it_is() -> None:
    own = node()
    assert state().own_node is None
    assert state(own, node("node-b")).own_node is own
    built = state(own)
    built.fold(Delete(Kind.NODE, ObjectName("", "node-a")))
    assert built.own_node is None


def test_taints_and_deletion_are_read_and_change_no_plan() -> None:
    line = {
        "type": "MODIFIED",
        "object": {
            "kind": "Node",
            "metadata": {"name": "node-a", "deletionTimestamp": "2026-11-20T10:00:00Z"},
            "spec": {
                "taints": [
                    {"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}
                ]
            },
        },
    }
    event = decode_watch(msgspec.json.encode(line), Kind.NODE).event
    assert isinstance(event, Upsert)
    built = state(service())
    assert built.fold(event) == Folded(frozenset())
    own = built.own_node
    assert isinstance(own, Node)
    assert own.metadata.deletion_timestamp == "2026-11-20T10:00:00Z"
    assert own.spec is not None
    assert [taint.key for taint in own.spec.taints or ()] == ["ToBeDeletedByClusterAutoscaler"]
