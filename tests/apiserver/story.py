"""What did a source say, put together, and is that what the server holds?"""

from __future__ import annotations

import http.client
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Protocol, Self
from urllib.parse import urlencode

from endpoints.decode import decode_list
from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import KIND_OF, Kind, KubernetesObject, name_of
from proxy.sources.api import ApiSource
from proxy.sources.base import Message
from proxy.sources.kubeconfig import ApiConfig
from tests.apiserver.store import Json
from tests.apiserver.wire import Upstream, connect

DEADLINE_SECONDS = 20.0
NODE = "node-a"
PATHS = {
    Kind.SERVICE: "/api/v1/services",
    Kind.ENDPOINT_SLICE: "/apis/discovery.k8s.io/v1/endpointslices",
    Kind.NODE: "/api/v1/nodes",
}
SELECTORS: Mapping[Kind, Mapping[str, str]] = {
    kind: {
        "labelSelector": "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"
    }
    for kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE)
} | {Kind.NODE: {"fieldSelector": f"metadata.name={NODE}"}}


class ApiServer(Upstream, Protocol):
    """The small server and the real one."""

    def create(self, document: Json) -> None:
        """Add an object."""

    def patch(self, kind: Kind, name: ObjectName, changes: Json) -> None:
        """Change an object by a merge patch."""

    def delete(self, kind: Kind, name: ObjectName) -> None:
        """Delete an object."""

    def compact(self) -> None:
        """Forget the past."""


class Follower:
    """Runs a source and folds what it says; use as a context manager."""

    def __init__(self, source: ApiSource) -> None:
        self.source = source
        self.messages: list[Message] = []
        self.objects: dict[Kind, dict[ObjectName, KubernetesObject]] = {}
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self.source.start(self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.stop()

    @property
    def problems(self) -> list[str]:
        return [str(message) for message in self.messages if isinstance(message, Problem)]

    def replaced(self, kind: Kind) -> int:
        """How often everything of a kind was listed."""
        return sum(isinstance(m, Replace) and m.kind is kind for m in self.messages)

    def until(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Fold what comes until the condition holds. Fails if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            try:
                message = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not in {seconds} s; last: {self.messages[-5:]}") from None
            self._fold(message)

    def agrees(self, server: ApiServer, seconds: float = DEADLINE_SECONDS) -> None:
        """Fold what comes until everything is as the server holds it. Fails if it never is."""
        wanted = {kind: listed(server, kind) for kind in Kind}
        self.until(lambda: self.objects == wanted, seconds)

    def take(self) -> None:
        """Fold what has come already."""
        while not self._queue.empty():
            self._fold(self._queue.get())

    def quiet(self) -> bool:
        """Whether nothing has come that was not folded yet."""
        return self._queue.empty()

    def _fold(self, message: Message) -> None:
        self.messages.append(message)
        match message:
            case Replace(kind, objects, unreadable):
                known = self.objects.get(kind, {})
                kept = {name: known[name] for name in unreadable if name in known}
                self.objects[kind] = kept | {name_of(obj): obj for obj in objects}
            case Upsert(obj):
                self.objects[KIND_OF[type(obj)]][name_of(obj)] = obj
            case Delete(kind, name):
                del self.objects[kind][name]  # a KeyError tells of a deletion that came twice
            case Problem():
                pass
            case _:
                raise AssertionError(f"unexpected: {message}")


def ask(server: Upstream, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body of a GET."""
    with closing(connect(server)) as connection:
        connection.request("GET", f"{path}?{urlencode(query)}", headers=server.headers)
        response: http.client.HTTPResponse = connection.getresponse()
        return response.status, response.read()


def listed(server: Upstream, kind: Kind) -> dict[ObjectName, KubernetesObject]:
    """What the server holds of a kind, as far as a proxy is concerned."""
    status, body = ask(server, PATHS[kind], SELECTORS[kind])
    assert status == http.client.OK, body
    return {name_of(obj): obj for obj in decode_list(body, kind).objects}


def config(url: str) -> ApiConfig:
    """Reach a server without credentials, as often as need be."""
    return ApiConfig(node_name=NODE, master=url, qps=0)


def service(name: str, **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    }


def endpoint_slice(name: str, *addresses: str) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses or ("10.244.1.2",)],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def node(name: str = NODE, zone: str = "eu-1a") -> Json:
    labels = {"topology.kubernetes.io/zone": zone}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def named(name: str) -> ObjectName:
    return ObjectName("default", name)
