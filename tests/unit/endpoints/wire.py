"""What do objects look like as the API server, or a manifest, spells them?"""

from __future__ import annotations

import json
from typing import Any

from endpoints.decode import Page, decode_list
from endpoints.objects import Kind

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
    return decode_list(listed(kind, *items, **meta), kind)


def listed(kind: Kind, *items: object, **meta: object) -> bytes:
    """A list as an API server writes it."""
    about = {"resourceVersion": "1", **meta}
    return json.dumps({"kind": f"{kind}List", "metadata": about, "items": items}).encode()
