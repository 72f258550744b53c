"""Which objects do bytes of the API server and documents of manifests stand for?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import msgspec
import pytest

from endpoints.decode import Page, decode_list, decode_watch, from_documents, read_documents
from endpoints.events import Delete, Upsert
from endpoints.names import ObjectName, Protocol
from endpoints.objects import EndpointSlice, Kind, Node, Service

Json = dict[str, Any]


def service(name: str = "pay", **spec: Any) -> Json:
    ports = [{"port": 80, "protocol": "TCP", "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "12"},
        "spec": {"clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"], "ports": ports} | spec,
    }


def endpoint(address: str, **fields: object) -> Json:
    return {"addresses": [address], "targetRef": {"kind": "Pod", "name": "p"}} | fields


def endpoint_slice(*endpoints: Json, **fields: object) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "pay-1", "namespace": "shop", "resourceVersion": "13"},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    } | fields


def node(**fields: object) -> Json:
    meta = {"name": "node-a", "labels": {"topology.kubernetes.io/zone": "eu-1a", "x": "y"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta} | fields


def page(kind: Kind, *items: object, **meta: object) -> Page:
    return decode_list(json.dumps({"metadata": meta, "items": items}).encode(), kind)


def services(*items: object) -> tuple[Service, ...]:
    found = page(Kind.SERVICE, *items)
    assert found.problems == ()
    return cast("tuple[Service, ...]", found.objects)


def slices(*items: object) -> tuple[EndpointSlice, ...]:
    return cast("tuple[EndpointSlice, ...]", page(Kind.ENDPOINT_SLICE, *items).objects)


def refusal(kind: Kind, item: object) -> str:
    found = page(kind, item)
    assert found.objects == ()
    (problem,) = found.problems
    return str(problem)


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

    @pytest.mark.parametrize("data", [b"{}", b'{"metadata": {}, "items": null}', b'{"items": []}'])
    def test_an_empty_list(self, data: bytes) -> None:
        assert decode_list(data, Kind.SERVICE) == Page((), frozenset(), ())

    @pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"items": [{"metadata"'])
    def test_a_list_that_is_none_is_an_error(self, data: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            decode_list(data, Kind.SERVICE)

    def test_lists_that_go_writes_as_null(self) -> None:
        nulls: Json = dict.fromkeys(["ports", "externalIPs", "loadBalancerSourceRanges"])
        (pay,) = services(service(**nulls) | {"status": {"loadBalancer": {"ingress": None}}})
        assert pay.spec.external_ips is None
        (empty,) = slices(endpoint_slice(endpoints=None, ports=None))
        assert (empty.endpoints, empty.ports) == ([], [])
        found = page(
            Kind.NODE,
            node(spec={"podCIDRs": None}, status={"addresses": None}),
        )
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
        data = b'{"items": [%b, %b]}' % (bad, json.dumps(service()).encode())
        found = decode_list(data, Kind.SERVICE)
        assert found.unreadable == {ObjectName("shop", "bad")}
        assert [obj.metadata.name for obj in found.objects] == ["pay"]
        assert "invalid start byte" in found.problems[0].reason

    def test_long_values_are_cut(self) -> None:
        assert len(page(Kind.SERVICE, service(type="x" * 500)).problems[0].value) == 80


class TestService:
    def test_addresses_are_canonical(self) -> None:
        (pay,) = services(
            service(
                clusterIP="FD00:10:96:0::7",
                clusterIPs=["FD00:10:96:0::7", "10.96.7.7"],
                externalIPs=["2001:DB8::0:1"],
                loadBalancerSourceRanges=[" 203.0.113.9/24 ", "2001:DB8::1/32"],
            )
            | {"status": {"loadBalancer": {"ingress": [{"ip": "2001:DB8:198::01"}, {"ip": ""}]}}}
        )
        assert pay.spec.cluster_ip == "fd00:10:96::7"
        assert pay.spec.cluster_ips == ["fd00:10:96::7", "10.96.7.7"]
        assert pay.spec.external_ips == ["2001:db8::1"]
        assert pay.spec.load_balancer_source_ranges == ["203.0.113.0/24", "2001:db8::/32"]
        assert pay.status is not None
        assert pay.status.load_balancer is not None
        assert [i.ip for i in pay.status.load_balancer.ingress or ()] == ["2001:db8:198::1", None]

    @pytest.mark.parametrize("given", [{"clusterIPs": None}, {"clusterIP": None}])
    def test_either_spelling_of_the_cluster_ip_will_do(self, given: Json) -> None:
        (pay,) = services(service(**given))
        assert (pay.spec.cluster_ip, pay.spec.cluster_ips) == ("10.96.7.7", ["10.96.7.7"])

    @pytest.mark.parametrize(
        "given",
        [
            {"clusterIP": "None", "clusterIPs": ["None"]},
            {"clusterIP": "", "clusterIPs": None},
            {"type": "ExternalName", "clusterIP": None, "clusterIPs": None},
        ],
    )
    def test_what_is_never_programmed_is_not_judged(self, given: Json) -> None:
        (pay,) = services(service(ports=[{"port": 0}], **given))
        assert pay.spec.cluster_ip == given["clusterIP"]

    def test_zero_and_the_empty_string_mean_unset(self) -> None:
        ports = [{"port": 80, "nodePort": 0}]
        (pay,) = services(service(ports=ports, healthCheckNodePort=0, externalTrafficPolicy=""))
        assert pay.spec.ports is not None
        assert pay.spec.ports[0].node_port is None
        assert pay.spec.health_check_node_port is None
        assert pay.spec.external_traffic_policy is None

    def test_one_number_may_be_open_for_two_protocols(self) -> None:
        ports = [{"name": "dns", "port": 53, "protocol": p} for p in ("UDP", "TCP", "SCTP")]
        (dns,) = services(service(ports=ports))
        assert [port.protocol for port in dns.spec.ports or ()] == ["UDP", "TCP", "SCTP"]

    def test_an_unknown_ip_mode_is_left_to_the_plan(self) -> None:
        ingress = [{"ip": "198.51.100.9", "ipMode": "Future"}]
        (pay,) = services(service() | {"status": {"loadBalancer": {"ingress": ingress}}})
        assert pay.status is not None

    def test_only_labels_and_annotations_that_are_read_are_kept(self) -> None:
        item = service()
        item["metadata"]["labels"] = {"service.kubernetes.io/headless": "", "app": "pay"}
        item["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied": "x" * 999}
        (pay,) = services(item)
        assert pay.metadata.labels == {"service.kubernetes.io/headless": ""}
        assert pay.metadata.annotations is None

    @pytest.mark.parametrize(
        ("spec", "problem"),
        [
            ({"ports": [{"port": 70000}]}, "spec.ports[0].port: 70000: must be 1-65535"),
            ({"ports": [{"port": 0}]}, "spec.ports[0].port: 0: must be 1-65535"),
            ({"ports": [{"port": -1}]}, "spec.ports[0].port: -1: must be 1-65535"),
            (
                {"ports": [{"port": 80, "nodePort": 65536}]},
                "spec.ports[0].nodePort: 65536: must be 1-65535",
            ),
            ({"ports": [{"name": "x"}]}, "spec.ports[0].port: is required"),
            (
                {"ports": [{"port": 80, "protocol": "ICMP"}]},
                "spec.ports[0].protocol: ICMP: must be TCP, UDP or SCTP",
            ),
            (
                {"ports": [{"port": 80, "name": 'x"; drop'}]},
                "spec.ports[0].name: 'x\"; drop': must be a DNS label (RFC 1123)",
            ),
            (
                {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
                "spec.ports[1].name: 'a': is the name of an earlier port too",
            ),
            (
                {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
                "spec.ports[1].port: 80: there is a TCP port like it",
            ),
            (
                {"clusterIP": "10.96.0.300", "clusterIPs": None},
                "spec.clusterIPs[0]: '10.96.0.300': is not an IP address",
            ),
            (
                {"clusterIP": "10.96.0.01", "clusterIPs": None},
                "spec.clusterIPs[0]: '10.96.0.01': is not an IP address",
            ),
            (
                {"clusterIP": "10.96.0.8"},
                "spec.clusterIPs[0]: 10.96.7.7: must be clusterIP, 10.96.0.8",
            ),
            (
                {"clusterIPs": ["10.96.7.7", "10.96.7.8"]},
                "spec.clusterIPs[1]: 10.96.7.8: there is a cluster IP of IPv4 already",
            ),
            ({"externalIPs": ["x"]}, "spec.externalIPs[0]: 'x': is not an IP address"),
            (
                {"externalIPs": ["224.0.0.1"]},
                "spec.externalIPs[0]: 224.0.0.1: cannot be the destination of a connection",
            ),
            (
                {"externalIPs": ["::ffff:10.0.0.1"]},
                "spec.externalIPs[0]: ::ffff:10.0.0.1: is an IPv4 address written as IPv6",
            ),
            (
                {"loadBalancerSourceRanges": ["203.0.113.0/33"]},
                "spec.loadBalancerSourceRanges[0]: '203.0.113.0/33': is not a CIDR",
            ),
            (
                {"loadBalancerSourceRanges": ["203.0.113.9"]},
                "spec.loadBalancerSourceRanges[0]: '203.0.113.9': must be a CIDR, like 203.0.113.0/24",
            ),
            (
                {"sessionAffinity": "Cookie"},
                "spec.sessionAffinity: 'Cookie': must be None or ClientIP",
            ),
            (
                {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0: must be 1-86400",
            ),
            (
                {"externalTrafficPolicy": "local"},
                "spec.externalTrafficPolicy: 'local': must be Cluster or Local",
            ),
            (
                {"internalTrafficPolicy": "Node"},
                "spec.internalTrafficPolicy: 'Node': must be Cluster or Local",
            ),
            (
                {"healthCheckNodePort": 70000},
                "spec.healthCheckNodePort: 70000: must be 1-65535",
            ),
            (
                {"type": "Balancer"},
                "spec.type: 'Balancer': must be ClusterIP, NodePort, LoadBalancer or ExternalName",
            ),
        ],
    )
    def test_a_refusal_names_object_field_and_value(self, spec: Json, problem: str) -> None:
        assert refusal(Kind.SERVICE, service(**spec)) == f"Service shop/pay: {problem}"

    def test_a_bad_load_balancer_address(self) -> None:
        item = service() | {"status": {"loadBalancer": {"ingress": [{"ip": "lb.example"}]}}}
        place = "status.loadBalancer.ingress[0].ip"
        assert refusal(Kind.SERVICE, item).endswith(f"{place}: 'lb.example': is not an IP address")

    @pytest.mark.parametrize(("field", "value"), [("name", 'a"b'), ("namespace", "a/b")])
    def test_names_are_fit_for_comments_in_the_kernel(self, field: str, value: str) -> None:
        item = service()
        item["metadata"][field] = value
        assert f"metadata.{field}: '{value}'" in refusal(Kind.SERVICE, item)


class TestEndpointSlice:
    def test_defaults_of_the_api_server(self) -> None:
        (pay,) = slices(endpoint_slice(endpoint("10.244.1.2"), ports=[{"port": 8080}]))
        assert pay.ports is not None
        assert (pay.ports[0].name, pay.ports[0].protocol) == ("", Protocol.TCP)

    def test_ports_without_a_number_are_left_out_silently(self) -> None:
        ports = [{"name": "a"}, {"name": "b", "port": 0}, {"name": "c", "port": 1}]
        found = page(Kind.ENDPOINT_SLICE, endpoint_slice(ports=ports))
        assert found.problems == ()
        (pay,) = cast("tuple[EndpointSlice, ...]", found.objects)
        assert [port.name for port in pay.ports or ()] == ["c"]

    def test_only_endpoints_with_bad_addresses_are_left_out(self) -> None:
        bad = [endpoint("fd00::1"), endpoint("10.244.1.999"), endpoint("0.0.0.0")]
        found = page(
            Kind.ENDPOINT_SLICE,
            endpoint_slice(endpoint("10.244.1.2"), *bad, endpoint("10.244.1.3")),
        )
        (pay,) = cast("tuple[EndpointSlice, ...]", found.objects)
        assert [e.addresses for e in pay.endpoints or ()] == [["10.244.1.2"], ["10.244.1.3"]]
        assert found.unreadable == frozenset()
        assert [str(problem) for problem in found.problems] == [
            (
                "EndpointSlice shop/pay-1: endpoints[1].addresses[0]: fd00::1: must be of addressType"
                " IPv4; this endpoint is left out, and 2 more like it"
            )
        ]

    def test_an_endpoint_without_address(self) -> None:
        found = page(Kind.ENDPOINT_SLICE, endpoint_slice(endpoint("x", addresses=[])))
        assert "endpoints[0].addresses[0]: '': is not an IP address" in str(found.problems[0])

    def test_only_the_first_address_counts(self) -> None:
        (pay,) = slices(endpoint_slice(endpoint("x", addresses=["10.244.1.2", "10.244.1.3"])))
        assert pay.endpoints is not None
        assert pay.endpoints[0].addresses == ["10.244.1.2"]

    def test_ipv6_is_canonical(self) -> None:
        item = endpoint_slice(endpoint("FD00:10:244:1:0::2"), addressType="IPv6")
        (pay,) = slices(item)
        assert pay.endpoints is not None
        assert pay.endpoints[0].addresses == ["fd00:10:244:1::2"]

    def test_equal_parts_are_stored_once(self) -> None:
        conditions = {"ready": True, "serving": True, "terminating": False}
        hints = {"forZones": [{"name": "eu-1a"}], "forNodes": [{"name": "node-a"}]}
        common = {"conditions": conditions, "hints": hints, "nodeName": "node-a", "zone": "eu-1a"}
        one, two = (
            (pay.endpoints or [])[0]
            for pay in slices(
                endpoint_slice(endpoint("10.244.1.2", **common)),
                endpoint_slice(endpoint("10.244.1.3", **common)),
            )
        )
        assert one.conditions is two.conditions
        assert one.hints is two.hints
        assert one.node_name is two.node_name
        assert one.zone is two.zone
        assert msgspec.to_builtins(one.conditions) == conditions
        assert msgspec.to_builtins(one.hints) == hints

    def test_a_condition_that_is_unknown_stays_unknown(self) -> None:
        (pay,) = slices(endpoint_slice(endpoint("10.244.1.2", conditions={"ready": None})))
        assert pay.endpoints is not None
        assert pay.endpoints[0].conditions is not None
        assert pay.endpoints[0].conditions.ready is None

    def test_names_in_an_fqdn_slice_are_no_concern_of_ours(self) -> None:
        found = page(
            Kind.ENDPOINT_SLICE, endpoint_slice(endpoint("pay.example"), addressType="FQDN")
        )
        assert found.problems == ()

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"addressType": ""}, "addressType: '': must be IPv4, IPv6 or FQDN"),
            ({"ports": [{"port": 70000}]}, "ports[0].port: 70000: must be 1-65535"),
            (
                {"ports": [{"port": 1, "protocol": "GRE"}]},
                "ports[0].protocol: GRE: must be TCP, UDP or SCTP",
            ),
            ({"endpoints": [{}]}, "endpoints[0].addresses: is required"),
            (
                {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}]},
                "endpoints[0].conditions.ready: yes: expected bool | null, got str",
            ),
        ],
    )
    def test_a_refusal_names_object_field_and_value(self, fields: Json, problem: str) -> None:
        found = refusal(Kind.ENDPOINT_SLICE, endpoint_slice(**fields))
        assert found == f"EndpointSlice shop/pay-1: {problem}"


class TestNode:
    def test_labels_and_pod_cidrs(self) -> None:
        addresses = [
            {"type": "InternalIP", "address": "FD00::0b"},
            {"type": "Hostname", "address": "node-a"},
        ]
        (here,) = page(
            Kind.NODE, node(spec={"podCIDR": "10.244.1.0/24"}, status={"addresses": addresses})
        ).objects
        assert isinstance(here, Node)
        assert here.metadata.labels == {"topology.kubernetes.io/zone": "eu-1a", "x": "y"}
        assert here.spec is not None
        assert here.spec.pod_cidrs == ["10.244.1.0/24"]
        assert here.status is not None
        assert [a.address for a in here.status.addresses or ()] == ["fd00::b", "node-a"]

    def test_a_refusal_has_no_namespace(self) -> None:
        found = refusal(Kind.NODE, node(spec={"podCIDRs": ["10.244.1.0"]}))
        assert found.startswith("Node node-a: spec.podCIDRs[0]: '10.244.1.0': must be a CIDR")


class TestWatch:
    @pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
    def test_a_change(self, kind: str) -> None:
        seen = decode_watch(line(kind, service()), Kind.SERVICE)
        assert (seen.type, seen.resource_version, seen.problem) == (kind, "12", None)
        assert isinstance(seen.event, Upsert)
        assert seen.event.object.metadata.name == "pay"

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
