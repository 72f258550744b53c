"""What does the API server send of a cluster of a given size? Pure.

Lists in pages and watch events as JSON bytes, in the shape that a real API server gives them: with
the labels, annotations, managedFields and targetRefs that the program skips but must read past.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.node import DetectLocalMode, NodeSettings
from endpoints.objects import Kind
from proxy.config import NodePorts, on_mode

PORT, TARGET_PORT = 80, 8080
PAGE = 500
"""Objects in a page: the limit that client-go asks for."""
SLICE = 100
"""Endpoints in an EndpointSlice at most, by the control plane's default."""
PODS_PER_NODE = 100
NAMESPACES = 100
ZONES = ("eu-1a", "eu-1b", "eu-1c")
POD_NETWORK = "10.128.0.0/9"
MOST_PODS = 8_000_000
MOST_SERVICES = 65_000
"""Of a service network of 16 bits; some more come and go while it is measured."""
_FIRST_POD = int(ipaddress.IPv4Address("10.128.0.1"))
_FIRST_SPARE_POD = int(ipaddress.IPv4Address("10.192.0.1"))
_FIRST_CLUSTER_IP = int(ipaddress.IPv4Address("10.96.0.10"))
_VERSIONS = {Kind.SERVICE: "v1", Kind.ENDPOINT_SLICE: "discovery.k8s.io/v1"}

SETTINGS = NodeSettings("node-0", DetectLocalMode.CLUSTER_CIDR, cluster_cidrs=(POD_NETWORK,))
"""Without what depends on the mode."""
LOCAL_ADDRESSES = frozenset({"127.0.0.1", "192.168.0.11"})

Json = dict[str, object]


class Size(NamedTuple):
    """A cluster: how many Services, and endpoints of each."""

    services: int
    endpoints: int

    def __str__(self) -> str:
        """`10,000 x 10`."""
        return f"{self.services:,} x {self.endpoints:,}"


def settings(mode: str) -> NodeSettings:
    """The node's, as the real process has them in this mode."""
    return on_mode(SETTINGS, NodePorts(), mode)


def size(text: str) -> Size:
    """The size that `10000x10` spells. Raises ValueError."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise ValueError(f"size {text!r}: must be SERVICESxENDPOINTS, like 10000x10")
    of = Size(int(found[1]), int(found[2]))
    if of.services > MOST_SERVICES or of.services * of.endpoints > MOST_PODS:
        most = f"{MOST_SERVICES:,} Services and {MOST_PODS:,} endpoints"
        raise ValueError(f"size {text!r}: there are addresses for {most} at most")
    return of


def service_port(number: int) -> ServicePortName:
    """The one port of a Service."""
    return ServicePortName(_namespace(number), _name(number), "http", Protocol.TCP)


def cluster_ip(number: int) -> str:
    """The address of a Service."""
    return _address(_FIRST_CLUSTER_IP + number)


def namespaces(of: Size) -> list[str]:
    """The namespaces of its Services."""
    return [_namespace(number) for number in range(min(NAMESPACES, of.services))]


def pods(of: Size, number: int) -> list[str]:
    """The addresses of a Service's endpoints."""
    first = _FIRST_POD + number * of.endpoints
    return [_address(first + index) for index in range(of.endpoints)]


def lists(of: Size) -> Iterator[tuple[Kind, bytes]]:
    """The pages of both lists."""
    slices = (obj for number in range(of.services) for obj in _slices(of, number))
    yield from _pages(Kind.SERVICE, map(_service, range(of.services)))
    yield from _pages(Kind.ENDPOINT_SLICE, slices)


def service(number: int) -> Json:
    """A Service, as an API server holds it."""
    return _typed(Kind.SERVICE, _service(number))


def slices(of: Size, number: int, generation: int = 1) -> list[Json]:
    """Its EndpointSlices, likewise."""
    return [_typed(Kind.ENDPOINT_SLICE, obj) for obj in _slices(of, number, generation)]


def documents(of: Size) -> Iterator[tuple[str, bytes]]:
    """The same objects as manifest files, one for each namespace: its name and its bytes."""
    for namespace in range(len(namespaces(of))):
        items: list[Json] = []
        for number in range(namespace, of.services, NAMESPACES):
            items += [service(number), *slices(of, number)]
        document = {"apiVersion": "v1", "kind": "List", "items": items}
        yield f"{_namespace(namespace)}.json", msgspec.json.encode(document)


def replacements(of: Size, count: int) -> Iterator[bytes]:
    """Watch lines: one endpoint becomes another and, with the next line, itself again."""
    return map(_line, _modified(of, count, spare=True))


def resizings(of: Size, count: int) -> Iterator[bytes]:
    """Watch lines: one endpoint goes and, with the next line, comes back."""
    return map(_line, _modified(of, count, spare=False))


def arrivals(of: Size, count: int) -> Iterator[bytes]:
    """Watch lines, each time several: a Service comes with its endpoints."""
    return _others(of, count, "ADDED")


def departures(of: Size, count: int) -> Iterator[bytes]:
    """Watch lines, each time several: one of these Services goes with its endpoints."""
    return _others(of, count, "DELETED")


def _others(of: Size, count: int, event: str) -> Iterator[bytes]:
    for number in range(of.services, of.services + count):
        objects = [service(number), *slices(of, number)]
        yield b"\n".join(_line(one, event) for one in objects)


def _modified(of: Size, count: int, *, spare: bool) -> Iterator[Json]:
    """Pairs of a change and its undoing, each pair at another Service chosen at random."""
    choice = random.Random(of.services)
    for pair in range((count + 1) // 2):
        number = choice.randrange(of.services)
        before = next(_slices(of, number, generation=2 * pair + 3))
        after = next(_slices(of, number, generation=2 * pair + 2))
        listed = after["endpoints"]
        assert isinstance(listed, list)
        index = choice.randrange(len(listed))
        if spare:
            listed[index] = _endpoint(number, index, _FIRST_SPARE_POD + pair, of)
        else:
            del listed[index]
        yield _typed(Kind.ENDPOINT_SLICE, after)
        yield _typed(Kind.ENDPOINT_SLICE, before)


def _line(obj: Json, event: str = "MODIFIED") -> bytes:
    return msgspec.json.encode({"type": event, "object": obj})


def _typed(kind: Kind, obj: Json) -> Json:
    return {"kind": kind, "apiVersion": _VERSIONS[kind], **obj}


def _pages(kind: Kind, objects: Iterable[Json]) -> Iterator[tuple[Kind, bytes]]:
    page: list[Json] = []
    for obj in objects:
        if len(page) == PAGE:
            yield kind, _page(kind, page, "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ")
            page = []
        page.append(obj)
    yield kind, _page(kind, page, "")


def _page(kind: Kind, items: list[Json], following: str) -> bytes:
    metadata = {"resourceVersion": "4711", "continue": following}
    typed = {"kind": f"{kind}List", "apiVersion": _VERSIONS[kind]}
    return msgspec.json.encode({**typed, "metadata": metadata, "items": items})


def _namespace(number: int) -> str:
    return f"team-{number % NAMESPACES}"


def _name(number: int) -> str:
    return f"service-{number}"


def _uid(*numbers: int) -> str:
    return f"6b1f{numbers[0]:04x}-7c1d-4f0a-9e5b-{sum(n << 24 * i for i, n in enumerate(numbers)):012x}"


def _address(number: int) -> str:
    return str(ipaddress.IPv4Address(number))


def _metadata(number: int, name: str, uid: str) -> Json:
    return {
        "name": name,
        "namespace": _namespace(number),
        "uid": uid,
        "resourceVersion": str(100_000 + number),
        "creationTimestamp": "2024-05-01T08:00:00Z",
        "labels": {
            "app.kubernetes.io/name": _name(number),
            "app.kubernetes.io/part-of": "shop",
            "app.kubernetes.io/managed-by": "Helm",
            "helm.sh/chart": "shop-1.4.2",
        },
    }


def _service(number: int) -> Json:
    name, address = _name(number), cluster_ip(number)
    selector = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": "shop"}
    notes = {
        "meta.helm.sh/release-name": "shop",
        "meta.helm.sh/release-namespace": _namespace(number),
    }
    port = {"name": "http", "protocol": "TCP", "port": PORT, "targetPort": "http"}
    fields = {
        "f:metadata": {
            "f:annotations": {".": {}, **{f"f:{key}": {} for key in notes}},
            "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:helm.sh/chart": {}},
        },
        "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}},
            "f:selector": {},
            "f:sessionAffinity": {},
            "f:type": {},
        },
    }
    return {
        "metadata": {
            **_metadata(number, name, _uid(number)),
            "annotations": notes,
            "managedFields": [_managed("helm", "v1", fields)],
        },
        "spec": {
            "ports": [port],
            "selector": selector,
            "clusterIP": address,
            "clusterIPs": [address],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": [Family.IPV4],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }


def _managed(by: str, version: str, fields: Mapping[str, object]) -> Json:
    return {
        "manager": by,
        "operation": "Update",
        "apiVersion": version,
        "time": "2024-05-01T08:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _slices(of: Size, number: int, generation: int = 1) -> Iterator[Json]:
    """The EndpointSlices of a Service."""
    name = _name(number)
    for part, first in enumerate(range(0, of.endpoints, SLICE)):
        metadata = _metadata(number, f"{name}-{part:05x}", _uid(number, part))
        labels = {
            "app.kubernetes.io/name": name,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": name,
        }
        trigger = f"2024-05-01T08:{generation // 60 % 60:02d}:{generation % 60:02d}Z"
        owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": _uid(number)}
        fields: Json = {
            "f:addressType": {},
            "f:endpoints": {},
            "f:metadata": {"f:generateName": {}, "f:labels": {".": {}}, "f:ownerReferences": {}},
            "f:ports": {},
        }
        last = min(of.endpoints, first + SLICE)
        yield {
            "metadata": {
                **metadata,
                "generateName": f"{name}-",
                "generation": generation,
                "labels": labels,
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": trigger},
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
                "managedFields": [
                    _managed("kube-controller-manager", "discovery.k8s.io/v1", fields)
                ],
            },
            "addressType": Family.IPV4,
            "endpoints": [
                _endpoint(number, i, _FIRST_POD + number * of.endpoints + i, of)
                for i in range(first, last)
            ],
            "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
        }


def _endpoint(number: int, index: int, address: int, of: Size) -> Json:
    nodes = max(3, of.services * of.endpoints // PODS_PER_NODE)
    node = (number * of.endpoints + index) % nodes
    pod = {"kind": "Pod", "namespace": _namespace(number), "name": f"{_name(number)}-{index:05x}"}
    return {
        "addresses": [_address(address)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {**pod, "uid": _uid(number, index)},
        "nodeName": f"node-{node}",
        "zone": ZONES[node % len(ZONES)],
    }
