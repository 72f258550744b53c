"""What does each malformed object cost? One clear problem, and nothing else.

Each row stands among good objects of its kind, in a list and in a stream, and goes the whole way:
bytes, watch, state, plans.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from endpoints.events import Problem, Replace
from endpoints.names import ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from proxy.sources.watch import Watch
from tests.unit.endpoints.wire import endpoint, endpoint_slice, listed, node, service
from tests.unit.proxy.watching import end, line

SERVICE, SLICE, NODE = Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NODE
PAY, MAIL = ObjectName("shop", "pay"), ObjectName("shop", "mail")
DEEP = b"[" * 60_000 + b"]" * 60_000
LONG = "x" * 100_000
SHORTENED = "x" * 77 + "..."


class Bad(NamedTuple):
    """An object, and what is said of it."""

    kind: Kind
    item: Any
    problem: str
    junk: bytes = b""
    """Stands in the place of `JUNK`: what no encoder writes."""


def bad_service(**spec: object) -> Any:  # noqa: ANN401 (JSON)
    return service("bad", **spec)


def bad_slice(*endpoints: Any, **fields: object) -> Any:  # noqa: ANN401 (JSON)
    item = endpoint_slice(*endpoints, **fields)
    return {**item, "metadata": {**item["metadata"], "name": "bad"}}


def without(item: Any, *path: str) -> Any:  # noqa: ANN401 (JSON)
    """The same without a field."""
    first, *rest = path
    if not rest:
        return {key: value for key, value in item.items() if key != first}
    return {**item, first: without(item[first], *rest)}


def ingress(*ips: object) -> Any:  # noqa: ANN401 (JSON)
    return bad_service() | {"status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}}


BAD = {
    "ports are a text": Bad(
        SERVICE, bad_service(ports="all"), "spec.ports: all: expected array | null, got str"
    ),
    "a port is a text": Bad(
        SERVICE,
        bad_service(ports=[{"port": "http"}]),
        "spec.ports[0].port: http: expected int, got str",
    ),
    "a port is null": Bad(
        SERVICE,
        bad_service(ports=[{"port": None}]),
        "spec.ports[0].port: None: expected int, got null",
    ),
    "a port is a fraction": Bad(
        SERVICE,
        bad_service(ports=[{"port": 80.5}]),
        "spec.ports[0].port: 80.5: expected int, got float",
    ),
    "a port is 0": Bad(
        SERVICE, bad_service(ports=[{"port": 0}]), "spec.ports[0].port: 0: must be 1-65535"
    ),
    "a port is too high": Bad(
        SERVICE, bad_service(ports=[{"port": 65536}]), "spec.ports[0].port: 65536: must be 1-65535"
    ),
    "a port is huge": Bad(
        SERVICE,
        bad_service(ports=[{"port": 10**30}]),
        f"spec.ports[0].port: {10**30}: must be 1-65535",
    ),
    "a node port is negative": Bad(
        SERVICE,
        bad_service(ports=[{"port": 80, "nodePort": -1}]),
        "spec.ports[0].nodePort: -1: must be 1-65535",
    ),
    "the second of two ports": Bad(
        SERVICE,
        bad_service(ports=[{"name": "a", "port": 80}, {"name": "b"}]),
        "spec.ports[1].port: is required",
    ),
    "a protocol of the future": Bad(
        SERVICE,
        bad_service(ports=[{"port": 80, "protocol": "QUIC"}]),
        "spec.ports[0].protocol: QUIC: must be TCP, UDP or SCTP",
    ),
    "a name that is a command": Bad(
        SERVICE,
        bad_service(ports=[{"port": 80, "name": "a; drop"}]),
        "spec.ports[0].name: 'a; drop': must be a DNS label (RFC 1123)",
    ),
    "a cluster IP that is none": Bad(
        SERVICE,
        bad_service(clusterIP="10.96.0.256", clusterIPs=["10.96.0.256"]),
        "spec.clusterIPs[0]: '10.96.0.256': is not an IP address",
    ),
    "a cluster IP in octal": Bad(
        SERVICE,
        bad_service(clusterIP="10.96.0.010", clusterIPs=None),
        "spec.clusterIPs[0]: '10.96.0.010': is not an IP address",
    ),
    "a cluster IP that is a list": Bad(
        SERVICE,
        bad_service(clusterIP=["10.96.0.9"]),
        "spec.clusterIP: ['10.96.0.9']: expected str | null, got array",
    ),
    "three families": Bad(
        SERVICE,
        bad_service(clusterIPs=["10.96.7.7", "fd00::7", "10.96.7.8"]),
        "spec.clusterIPs[2]: 10.96.7.8: there is a cluster IP of IPv4 already",
    ),
    "an external IP to many": Bad(
        SERVICE,
        bad_service(externalIPs=["203.0.113.1", "224.0.0.1"]),
        "spec.externalIPs[1]: 224.0.0.1: cannot be the destination of a connection",
    ),
    "an address with a zone": Bad(
        SERVICE,
        bad_service(externalIPs=["fe80::1%eth0"]),
        "spec.externalIPs[0]: 'fe80::1%eth0': is not an IP address",
    ),
    "an IPv4 address in IPv6": Bad(
        SERVICE,
        bad_service(externalIPs=["::ffff:10.0.0.1"]),
        "spec.externalIPs[0]: ::ffff:10.0.0.1: is an IPv4 address written as IPv6",
    ),
    "an ingress that is a name": Bad(
        SERVICE,
        ingress("198.51.100.9", "lb.example"),
        "status.loadBalancer.ingress[1].ip: 'lb.example': is not an IP address",
    ),
    "a source range without a prefix": Bad(
        SERVICE,
        bad_service(loadBalancerSourceRanges=["203.0.113.9"]),
        "spec.loadBalancerSourceRanges[0]: '203.0.113.9': must be a CIDR, like 203.0.113.0/24",
    ),
    "a source range too long": Bad(
        SERVICE,
        bad_service(loadBalancerSourceRanges=["203.0.113.0/33"]),
        "spec.loadBalancerSourceRanges[0]: '203.0.113.0/33': is not a CIDR",
    ),
    "a policy of the future": Bad(
        SERVICE,
        bad_service(internalTrafficPolicy="Nearby"),
        "spec.internalTrafficPolicy: 'Nearby': must be Cluster or Local",
    ),
    "an affinity of the future": Bad(
        SERVICE,
        bad_service(sessionAffinity="Cookie"),
        "spec.sessionAffinity: 'Cookie': must be None or ClientIP",
    ),
    "a type of the future": Bad(
        SERVICE,
        bad_service(type="Mesh"),
        "spec.type: 'Mesh': must be ClusterIP, NodePort, LoadBalancer or ExternalName",
    ),
    "a type that goes on and on": Bad(
        SERVICE,
        bad_service(type=LONG),
        f"spec.type: {repr(LONG)[:77]}...: must be ClusterIP, NodePort, LoadBalancer or ExternalName",
    ),
    "no spec": Bad(SERVICE, without(bad_service(), "spec"), "spec: is required"),
    "a spec that is null": Bad(
        SERVICE, bad_service() | {"spec": None}, "spec: None: expected object, got null"
    ),
    "bytes that are no text": Bad(
        SERVICE,
        bad_service(type="JUNK"),
        "'utf-8' codec can't decode byte 0xff in position",
        b"\xff\xfe",
    ),
    "half of a character": Bad(
        SERVICE, bad_service(type="JUNK"), "spec.type: '\ufffd': must be ClusterIP", b"\\ud800"
    ),
    "a depth bomb": Bad(SERVICE, bad_service(ports="JUNK"), "spec.ports[0]: ", DEEP),
    "labels that are a list": Bad(
        SERVICE,
        {**bad_service(), "metadata": {**bad_service()["metadata"], "labels": ["a"]}},
        "metadata.labels: ['a']: expected object | null, got array",
    ),
    "endpoints that are an object": Bad(
        SLICE, bad_slice(endpoints={}), "endpoints: {}: expected array | null, got object"
    ),
    "addresses that are null": Bad(
        SLICE,
        bad_slice({"addresses": None}),
        "endpoints[0].addresses: None: expected array, got null",
    ),
    "an endpoint that is a text": Bad(
        SLICE, bad_slice("10.244.1.2"), "endpoints[0]: 10.244.1.2: expected object, got str"
    ),
    "a type of addresses of the future": Bad(
        SLICE, bad_slice(addressType="MAC"), "addressType: 'MAC': must be IPv4, IPv6 or FQDN"
    ),
    "a port of a slice too high": Bad(
        SLICE, bad_slice(ports=[{"port": 70000}]), "ports[0].port: 70000: must be 1-65535"
    ),
    "a condition that is a text": Bad(
        SLICE,
        bad_slice(endpoint("10.244.1.2", conditions={"ready": "yes"})),
        "endpoints[0].conditions.ready: yes: expected bool | null, got str",
    ),
    "a pod network that is none": Bad(
        NODE,
        node(spec={"podCIDRs": ["10.244.0.0"]}),
        "spec.podCIDRs[0]: '10.244.0.0': must be a CIDR, like 203.0.113.0/24",
    ),
    "an address of a node that is none": Bad(
        NODE,
        node(status={"addresses": [{"type": "InternalIP", "address": "node-a"}]}),
        "status.addresses[0].address: 'node-a': is not an IP address",
    ),
    "a node's labels are numbers": Bad(
        NODE,
        {**node(), "metadata": {"name": "node-a", "labels": {"a": 1}}},
        "metadata.labels[...]: {'a': 1}: expected str, got int",
    ),
}
"""Rows of what the API server cannot send, or another version of it may."""

SUBJECTS = {SERVICE: "Service shop/bad", SLICE: "EndpointSlice shop/bad", NODE: "Node node-a"}


def good(name: str, number: int) -> tuple[Any, Any]:
    """A Service and its EndpointSlice."""
    of = service(name, clusterIP=f"10.96.7.{number}", clusterIPs=[f"10.96.7.{number}"])
    rows = endpoint_slice(endpoint(f"10.244.1.{number}"))
    labels = {"kubernetes.io/service-name": name}
    ports = [{"name": "", "port": 8080, "protocol": "TCP"}]
    meta = {**rows["metadata"], "name": f"{name}-1", "labels": labels}
    return of, {**rows, "metadata": meta, "ports": ports}


def around(kind: Kind, item: object) -> list[object]:
    """The object between good ones of its kind."""
    index = {SERVICE: 0, SLICE: 1}.get(kind)
    if index is None:
        return [item]
    return [good("pay", 7)[index], item, good("mail", 8)[index]]


def spelled(data: bytes, junk: bytes) -> bytes:
    return data.replace(b'"JUNK"' if junk == DEEP else b"JUNK", junk) if junk else data


def lists(kind: Kind, *, streamed: bool, bad: Bad | None) -> list[Replace | Problem]:
    """What a watch tells of all objects of a kind."""
    items = around(kind, bad.item) if bad and bad.kind is kind else around(kind, None)[::2]
    if kind is NODE and not (bad and bad.kind is NODE):
        items = [node()]
    junk = bad.junk if bad else b""
    watch = Watch(kind, lambda: 0.0)
    if not streamed:
        return watch.page(spelled(listed(kind, *items), junk))
    watch.opened()
    for item in items:
        assert watch.line(spelled(line("ADDED", item), junk)) == []
    return [m for m in watch.line(end(20)) if isinstance(m, Replace | Problem)]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_an_object_among_others(name: str, streamed: bool) -> None:
    bad = BAD[name]
    state = ClusterState(NodeSettings(name="node-a"))
    problems = []
    for kind in Kind:
        replace, *told = lists(kind, streamed=streamed, bad=bad)
        assert isinstance(replace, Replace)
        problems += told
        assert not state.fold(replace).problems
    (problem,) = problems
    assert str(problem).startswith(f"{SUBJECTS[bad.kind]}: {bad.problem}")
    assert "\n" not in str(problem)
    assert len(str(problem)) < 300
    assert state.services() == {PAY, MAIL}
    served = {service: [plan.cluster for plan in state.plans(service)] for service in (PAY, MAIL)}
    assert [[e.address for e in of] for (of,) in served.values()] == [
        ["10.244.1.7"],
        ["10.244.1.8"],
    ]


@pytest.mark.parametrize("name", BAD)
def test_an_object_that_was_good_is_kept_as_it_was(name: str) -> None:
    bad = BAD[name]
    watch = Watch(bad.kind, lambda: 0.0)
    watch.opened()
    watch.line(end(10))
    version = {"resourceVersion": "15"}
    changed = {**bad.item, "metadata": {**bad.item["metadata"], **version}}
    data = spelled(json.dumps({"type": "MODIFIED", "object": changed}).encode(), bad.junk)
    (problem,) = watch.line(data)
    assert isinstance(problem, Problem)
    assert str(problem).startswith(f"{SUBJECTS[bad.kind]}: {bad.problem}")
