"""What does a request ask of an API server, and how is it refused? Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.store import Item, Json, Selector

NAMESPACE, SERVICE_CIDR = "Namespace", "ServiceCIDR"
"""Kinds that a server is asked for, though headgate does not watch them."""

PATHS = {
    "/api/v1/services": (Kind.SERVICE, "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": (Kind.ENDPOINT_SLICE, "discovery.k8s.io/v1"),
    "/api/v1/nodes": (Kind.NODE, "v1"),
}
"""What is listed and watched for headgate."""

_KINDS: dict[str, tuple[str, str]] = {
    **PATHS,
    "/api/v1/namespaces": (NAMESPACE, "v1"),
    "/apis/networking.k8s.io/v1/servicecidrs": (SERVICE_CIDR, "networking.k8s.io/v1"),
}
_COLLECTIONS = {kind: collection for collection, (kind, _) in _KINDS.items()}


class Refusal(Exception):
    """An answer that is a `metav1.Status`."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


class Place(NamedTuple):
    """What the path of a request names: a collection, a namespace's part of it, or an object."""

    kind: str
    api_version: str
    name: ObjectName

    @classmethod
    def parse(cls, path: str) -> Place:
        """Read a path: `/api/v1[/namespaces/NAMESPACE]/services[/NAME]`. Raises Refusal."""
        start = 3 if path.startswith("/api/") else 4
        parts = path.split("/")
        root, rest = parts[:start], parts[start:]
        namespace = ""
        if rest[0:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        known = _KINDS.get("/".join([*root, *rest[:1]]))
        if known is None or len(rest) > 2:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return cls(*known, ObjectName(namespace, "".join(rest[1:])))


def path_of(kind: str, name: ObjectName) -> str:
    """The path of an object; without a name of its own, of what its namespace has of that kind."""
    root, _, resource = _COLLECTIONS[kind].rpartition("/")
    inner = f"/namespaces/{name.namespace}" if name.namespace else ""
    return f"{root}{inner}/{resource}" + (f"/{name.name}" if name.name else "")


def named_in(document: Json) -> ObjectName:
    """What an object is called."""
    meta = document["metadata"]
    return ObjectName(meta.get("namespace", ""), meta["name"])


class _Spec(msgspec.Struct, rename={"cluster_ip": "clusterIP"}):
    cluster_ip: str = ""


class _Addressed(msgspec.Struct):
    """What is read of a Service; reading all of each would hold up who lists many."""

    spec: _Spec


_addressed = msgspec.json.Decoder(_Addressed)


class Query(NamedTuple):
    """What a GET asks for."""

    kind: str
    api_version: str
    parameters: dict[str, str]
    selects: Selector
    name: ObjectName
    """Without a name of its own: a list or a watch."""

    @classmethod
    def parse(cls, target: str) -> Query:
        """Read a request's target. Raises Refusal."""
        parts = urlsplit(target)
        kind, api_version, name = Place.parse(parts.path)
        parameters = dict(parse_qsl(parts.query))
        try:
            labels = label_selector(parameters.get("labelSelector", ""))
            fields = field_selector(parameters.get("fieldSelector", ""))
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from None

        def selects(item: Item) -> bool:
            is_here = name.namespace in ("", item.name.namespace)
            return is_here and labels(item) and fields(item)

        return cls(kind, api_version, parameters, selects, name)

    def is_true(self, name: str) -> bool:
        return self.parameters.get(name) in ("true", "1")


def label_selector(text: str) -> Selector:
    """`!key`, `key`, `key=value`, with commas between. Raises ValueError for anything else."""

    def term(part: str) -> Callable[[dict[str, str]], bool]:
        if not part or set(part) & set("() "):
            raise ValueError(f"unable to parse the label selector {text!r}")
        key, equals, value = part.partition("=")
        if equals:
            return lambda labels: labels.get(key) == value
        if part.startswith("!"):
            return lambda labels: part[1:] not in labels
        return lambda labels: part in labels

    terms = [term(part) for part in text.split(",")] if text else []
    return lambda item: all(matches(item.labels) for matches in terms)


def field_selector(text: str) -> Selector:
    """What clients ask for: an object by its name, objects of a namespace, Services with an address.

    Raises ValueError for anything else.
    """

    def term(part: str) -> Selector:
        key, _, value = part.partition("=")
        match key:
            case "metadata.name":
                return lambda item: item.name.name == value
            case "metadata.namespace":
                return lambda item: item.name.namespace == value
            case "spec.clusterIP!":  # kube-proxy from 1.34 on
                return lambda item: _addressed.decode(item.body).spec.cluster_ip != value
            case _:
                raise ValueError(f"field label not supported: {key}")

    terms = [term(part) for part in text.split(",")] if text else []
    return lambda item: all(matches(item) for matches in terms)
