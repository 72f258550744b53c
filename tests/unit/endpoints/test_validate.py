"""Which objects may be programmed, and how are they spelled then?"""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from endpoints.names import Protocol
from endpoints.objects import EndpointSlice, Kind, Node, Service
from tests.unit.endpoints.wire import Json, endpoint, endpoint_slice, node, page, service


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
