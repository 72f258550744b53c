"""Which objects do bytes of the API server and documents of manifests stand for?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from endpoints.decode import Page, decode_list, decode_watch
from endpoints.documents import from_documents, read_documents
from endpoints.events import Delete, Upsert
from endpoints.names import ObjectName, Protocol
from endpoints.objects import Kind, Service
from tests.unit.endpoints.wire import Json, endpoint, endpoint_slice, listed, node, page, service


def line(kind: str, obj: object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class TestList:
    def test_the_list_itself(self) -> None:
        found = page(
            Kind.SERVICE, service(), resourceVersion="77", remainingItemCount=3, **{"continue": "c"}
        )
        assert (found.resource_version, found.continue_token, found.remaining) == ("77", "c", 3)
        (pay,) = found.objects
        assert isinstance(pay, Service)
        assert (pay.metadata.name, pay.metadata.resource_version) == ("pay", "12")
        assert pay.spec.ports is not None
        assert (pay.spec.ports[0].port, pay.spec.ports[0].protocol) == (80, Protocol.TCP)

    @pytest.mark.parametrize("items", ["[]", "null"])
    def test_an_empty_list(self, items: str) -> None:
        head = '"kind": "ServiceList", "metadata": {"resourceVersion": "7"}'
        data = f'{{{head}, "items": {items}}}'.encode()
        assert decode_list(data, Kind.SERVICE) == Page((), frozenset(), (), "7")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"<html>",
            b"[]",
            b'{"items": [{"metadata"',
            b"{}",
            b'{"kind": "Status", "metadata": {"resourceVersion": "7"}, "status": "Failure"}',
            b'{"kind": "NodeList", "metadata": {"resourceVersion": "7"}, "items": []}',
            b'{"kind": "ServiceList", "items": []}',
            b'{"kind": "ServiceList", "metadata": {"resourceVersion": "0"}, "items": []}',
            b'{"kind": "ServiceList", "metadata": {"resourceVersion": "0"}, "items": [1]}',
            b'{"kind": "ServiceList", "metadata": {"resourceVersion": "\xff"}, "items": []}',
            b'{"a": ' + b"[" * 100_000,
        ],
    )
    def test_a_list_that_is_none_is_an_error(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode_list(data, Kind.SERVICE)

    def test_lists_that_go_writes_as_null(self) -> None:
        nulls: Json = dict.fromkeys(["ports", "externalIPs", "loadBalancerSourceRanges"])
        ingress = {"status": {"loadBalancer": {"ingress": None}}}
        for kind, item in (
            (Kind.SERVICE, service(**nulls) | ingress),
            (Kind.ENDPOINT_SLICE, endpoint_slice(endpoints=None, ports=None)),
            (Kind.NODE, node(spec={"podCIDRs": None}, status={"addresses": None})),
        ):
            found = page(kind, item)
            assert len(found.objects) == 1
            assert found.problems == ()

    def test_one_bad_object_costs_itself_only(self) -> None:
        bad = service("bad", ports=[{"port": "http"}])
        found = page(Kind.SERVICE, service("one"), bad, service("two"), resourceVersion="9")
        assert [obj.metadata.name for obj in found.objects] == ["one", "two"]
        assert found.unreadable == {ObjectName("shop", "bad")}
        assert [str(problem) for problem in found.problems] == [
            "Service shop/bad: spec.ports[0].port: http: expected int, got str"
        ]
        assert found.resource_version == "9"

    def test_an_object_without_a_name_is_a_problem_too(self) -> None:
        found = page(Kind.SERVICE, {"metadata": {}, "spec": {}}, "text")
        assert found.unreadable == frozenset()
        assert [str(problem) for problem in found.problems] == [
            "Service (no name): metadata.name: is required",
            "Service (no name): text: expected object, got str",
        ]

    def test_bytes_that_are_no_text(self) -> None:
        bad = json.dumps(service("bad", type="XX")).encode().replace(b"XX", b"\xff")
        data = listed(Kind.SERVICE, "bad", service()).replace(b'"bad"', bad, 1)
        found = decode_list(data, Kind.SERVICE)
        assert found.unreadable == {ObjectName("shop", "bad")}
        assert [obj.metadata.name for obj in found.objects] == ["pay"]
        assert "invalid start byte" in found.problems[0].reason

    def test_long_values_are_cut(self) -> None:
        assert len(page(Kind.SERVICE, service(type="x" * 500)).problems[0].value) == 80


class TestWatch:
    @pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
    def test_a_change(self, kind: str) -> None:
        seen = decode_watch(line(kind, service()), Kind.SERVICE)
        assert (seen.type, seen.resource_version, seen.problem) == (kind, "12", None)
        assert isinstance(seen.event, Upsert)
        assert seen.event.object.metadata.name == "pay"

    @pytest.mark.parametrize("data", [b'{"type": "ADDED", "object": ' + b"[" * 100_000, b"\xff"])
    def test_a_line_that_is_none_is_an_error(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode_watch(data, Kind.SERVICE)

    def test_a_deletion_needs_only_the_name(self) -> None:
        gone = line("DELETED", service(ports="nonsense"))
        seen = decode_watch(gone, Kind.SERVICE)
        assert seen.event == Delete(Kind.SERVICE, ObjectName("shop", "pay"))
        assert seen.resource_version == "12"

    def test_a_deleted_node_has_no_namespace(self) -> None:
        seen = decode_watch(line("DELETED", node()), Kind.NODE)
        assert seen.event == Delete(Kind.NODE, ObjectName("", "node-a"))

    def test_a_refused_change_still_moves_the_resource_version(self) -> None:
        seen = decode_watch(line("MODIFIED", service(ports=[{"port": 0}])), Kind.SERVICE)
        assert (seen.event, seen.resource_version) == (None, "12")
        assert "spec.ports[0].port: 0" in str(seen.problem)

    def test_a_slice_with_a_bad_endpoint_is_an_event_and_a_problem(self) -> None:
        changed = line("ADDED", endpoint_slice(endpoint("x"), endpoint("10.244.1.2")))
        seen = decode_watch(changed, Kind.ENDPOINT_SLICE)
        assert isinstance(seen.event, Upsert)
        assert seen.problem is not None

    def test_a_bookmark(self) -> None:
        bookmark = {"kind": "Service", "metadata": {"resourceVersion": "99"}, "spec": {}}
        seen = decode_watch(line("BOOKMARK", bookmark), Kind.SERVICE)
        assert (seen.event, seen.resource_version) == (None, "99")
        assert not seen.initial_events_end

    def test_the_bookmark_that_ends_the_initial_events(self) -> None:
        annotations = {"k8s.io/initial-events-end": "true"}
        bookmark = {"metadata": {"resourceVersion": "99", "annotations": annotations}}
        assert decode_watch(line("BOOKMARK", bookmark), Kind.SERVICE).initial_events_end

    def test_an_error(self) -> None:
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        seen = decode_watch(line("ERROR", status), Kind.SERVICE)
        assert (seen.type, seen.code, seen.message) == ("ERROR", 410, "too old")

    def test_a_type_of_the_future_changes_nothing(self) -> None:
        seen = decode_watch(line("SHUFFLED", service()), Kind.SERVICE)
        assert (seen.event, seen.resource_version, seen.problem) == (None, "", None)

    @pytest.mark.parametrize(
        "data",
        [
            b'{"type": "ADDED", "obj',
            b"",
            b"[]",
            b"{}",
            b'{"type":"DELETED","object":{"metadata":{}}}',
        ],
    )
    def test_a_line_that_is_no_event_is_an_error(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode_watch(data, Kind.SERVICE)


class TestDocuments:
    def test_objects_lists_and_what_is_not_ours(self) -> None:
        documents: list[tuple[object, str]] = [
            (service("one"), "a.yaml:1"),
            (None, "a.yaml:20"),
            ({"apiVersion": "v1", "kind": "List", "items": [service("two"), node()]}, "a.yaml:30"),
            ({"kind": "ServiceList", "items": [{"metadata": {"name": "three"}, "spec": {}}]}, "b"),
            ({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}, "c"),
            (service("four") | {"apiVersion": "serving.knative.dev/v1"}, "d"),
            ({"kind": "NodeList", "items": None}, "e"),
        ]
        objects, problems = from_documents(documents)
        assert problems == ()
        assert [obj.metadata.name for obj in objects] == ["one", "two", "node-a", "three"]

    def test_a_problem_names_its_file_and_line(self) -> None:
        documents: list[tuple[object, str]] = [
            (service(ports=[{"port": 70000}]), "pay.yaml:1"),
            (service(ports=[{"port": "http"}]), "pay.yaml:12"),
            ({"kind": "List", "items": [service(), service("bad", type=1)]}, "pay.yaml:20"),
            ("text", "pay.yaml:30"),
            ({"metadata": {}}, "pay.yaml:31"),
            ({"kind": "Service", "metadata": {}, "spec": {}}, "pay.yaml:32"),
            ({"kind": "ServiceList", "items": "x"}, "pay.yaml:33"),
            (endpoint_slice() | {"apiVersion": "discovery.k8s.io/v1beta1"}, "pay.yaml:34"),
        ]
        found = read_documents(documents)
        assert [obj.metadata.name for obj in found.objects] == ["pay"]
        assert [str(problem) for problem in found.problems] == [
            "pay.yaml:1: Service shop/pay: spec.ports[0].port: 70000: must be 1-65535",
            "pay.yaml:12: Service shop/pay: spec.ports[0].port: http: expected int, got str",
            "pay.yaml:20 items[1]: Service shop/bad: spec.type: 1: expected str, got int",
            "pay.yaml:30: text: is no Kubernetes object",
            "pay.yaml:31: kind: is required",
            "pay.yaml:32: Service (no name): metadata.name: is required",
            "pay.yaml:33: items: x: must be a list",
            (
                "pay.yaml:34: EndpointSlice shop/pay-1: apiVersion: discovery.k8s.io/v1beta1:"
                " must be discovery.k8s.io/v1"
            ),
        ]
        names = {ObjectName("shop", "pay"), ObjectName("shop", "bad"), ObjectName("shop", "pay-1")}
        assert found.unreadable == names

    def test_a_timestamp_that_yaml_read_as_a_time(self) -> None:
        item = service()
        moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
        item["metadata"]["creationTimestamp"] = moment
        (pay,), problems = from_documents([(item, "a")])
        assert problems == ()
        assert pay.metadata.creation_timestamp == "2026-01-01T00:00:00Z"
        assert item["metadata"]["creationTimestamp"] == moment.astimezone(UTC)
