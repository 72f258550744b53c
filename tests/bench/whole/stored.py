"""What is in an API server, and in etcd behind a real one, that holds a cluster? Pure.

A real server takes milliseconds for each object that it creates, and more for each address the
more are given out: minutes for 10,000 Services. So etcd is given what the server would have written,
as JSON, which it reads like its own form (k8s.io/apiserver, UniversalDeserializer).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.requests import NAMESPACE, named_in
from tests.bench import cluster
from tests.bench.cluster import Json, Size
from tests.bench.whole import content

_ADDRESS = "IPAddress"
_KEYS = {
    Kind.SERVICE: "services/specs",
    Kind.ENDPOINT_SLICE: "endpointslices",
    Kind.NODE: "minions",
    NAMESPACE: "namespaces",
    _ADDRESS: "ipaddresses",
}


def everything(of: Size) -> Iterator[Json]:
    """All objects: the node, and the namespaces of all Services, also of those that are to come."""
    yield content.node(content.NOWHERE)
    for name in cluster.namespaces(Size(cluster.NAMESPACES, 1)):
        yield content.namespace(name)
    yield from content.objects(of)


def stored(of: Size) -> Iterator[tuple[str, bytes]]:
    """What etcd holds of them, by key."""
    for document in everything(of):
        yield _stored(document)
    for number in range(of.services):
        yield _stored(_address(number))


def _stored(document: Json) -> tuple[str, bytes]:
    name = named_in(document)
    key = f"/registry/{_KEYS[str(document['kind'])]}/{name}"
    return key, msgspec.json.encode(document | {"metadata": _metadata(document, name)})


def _metadata(document: Json, name: ObjectName) -> Json:
    """With what a server gives to each object; the version is etcd's."""
    given = document["metadata"]
    assert isinstance(given, dict)
    made = {
        "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{document['kind']}/{name}")),
        "creationTimestamp": "2024-05-01T08:00:00Z",
    }
    return made | {key: value for key, value in given.items() if key != "resourceVersion"}


def _address(number: int) -> Json:
    """That a Service has its cluster IP; a server that finds none gives it out, one by one."""
    name = cluster.service_port(number)
    parent = {"group": "", "resource": "services", "namespace": name.namespace, "name": name.name}
    labels = {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": _ADDRESS,
        "metadata": {"name": cluster.cluster_ip(number), "labels": labels},
        "spec": {"parentRef": parent},
    }
