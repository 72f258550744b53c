"""Which ready endpoints were meant for clients on this node? Seen from node-a in zone eu-1a."""

from __future__ import annotations

import msgspec
import pytest

from endpoints.node import NodeView
from endpoints.objects import SliceEndpoint
from tests.unit.endpoints.build import NODE_A, addresses, endpoint, endpoint_slice, planned, service

ELSEWHERE = msgspec.structs.replace(NODE_A, name="node-x", zone="eu-1x")
NO_ZONE = msgspec.structs.replace(NODE_A, zone=None)

A, B, C = "10.244.1.2", "10.244.2.2", "10.244.3.2"

STORIES: dict[str, tuple[NodeView, list[SliceEndpoint], set[str]]] = {
    "no hints: everyone": (NODE_A, [endpoint(A), endpoint(C)], {A, C}),
    "zone hints: those for this zone": (
        NODE_A,
        [endpoint(A, zones=["eu-1a"]), endpoint(C, zones=["eu-1b"])],
        {A},
    ),
    "an endpoint may be meant for several zones": (
        NODE_A,
        [endpoint(A, zones=["eu-1b", "eu-1a"]), endpoint(C, zones=["eu-1b"])],
        {A},
    ),
    "one endpoint without zone hints disables them": (
        NODE_A,
        [endpoint(A, zones=["eu-1a"]), endpoint(B), endpoint(C, zones=["eu-1b"])],
        {A, B, C},
    ),
    "also if it comes first": (
        NODE_A,
        [endpoint(B), endpoint(A, zones=["eu-1a"]), endpoint(C, zones=["eu-1b"])],
        {A, B, C},
    ),
    "no endpoint for this zone: everyone": (
        ELSEWHERE,
        [endpoint(A, zones=["eu-1a"]), endpoint(C, zones=["eu-1b"])],
        {A, C},
    ),
    "a node without zone: everyone": (
        NO_ZONE,
        [endpoint(A, zones=["eu-1a"]), endpoint(C, zones=["eu-1b"])],
        {A, C},
    ),
    "node hints go before zone hints": (
        NODE_A,
        [
            endpoint(A, zones=["eu-1a"], nodes=["node-a"]),
            endpoint(B, zones=["eu-1a"], nodes=["node-b"]),
            endpoint(C, zones=["eu-1b"], nodes=["node-c"]),
        ],
        {A},
    ),
    "no endpoint for this node: by zone": (
        NODE_A,
        [
            endpoint(B, zones=["eu-1a"], nodes=["node-b"]),
            endpoint(C, zones=["eu-1b"], nodes=["node-c"]),
        ],
        {B},
    ),
    "one endpoint without node hints: by zone": (
        NODE_A,
        [
            endpoint(A, zones=["eu-1a"], nodes=["node-a"]),
            endpoint(B, zones=["eu-1a"]),
            endpoint(C, zones=["eu-1b"], nodes=["node-c"]),
        ],
        {A, B},
    ),
    "node hints alone, none for this node: everyone": (
        NODE_A,
        [endpoint(B, nodes=["node-b"]), endpoint(C, nodes=["node-c"])],
        {B, C},
    ),
    "hints of endpoints that are not ready do not count": (
        NODE_A,
        [
            endpoint(A, zones=["eu-1a"]),
            endpoint(C, zones=["eu-1b"]),
            endpoint(B, None, "not ready"),
        ],
        {A},
    ),
    "nor can they speak for this zone": (
        NODE_A,
        [endpoint(C, zones=["eu-1b"]), endpoint(A, None, "terminating", zones=["eu-1a"])],
        {C},
    ),
    "terminating endpoints take over whatever their hints": (
        NODE_A,
        [
            endpoint(A, None, "terminating", zones=["eu-1a"]),
            endpoint(C, None, "terminating", zones=["eu-1b"]),
        ],
        {A, C},
    ),
}


@pytest.mark.parametrize(("node", "endpoints", "expected"), STORIES.values(), ids=STORIES)
def test_topology(node: NodeView, endpoints: list[SliceEndpoint], expected: set[str]) -> None:
    plan = planned(service(), endpoint_slice(*endpoints), node=node)
    assert {e.address for e in plan.cluster} == expected


def test_topology_does_not_narrow_the_local_list() -> None:
    of = service(internal="Local", external_ips=["203.0.113.80"])
    endpoints = [
        endpoint(A, "node-a", zones=["eu-1b"]),
        endpoint(B, "node-b", zones=["eu-1a"]),
    ]
    plan = planned(of, endpoint_slice(*endpoints))
    assert addresses(plan.cluster) == [f"{B}:8080"]
    assert addresses(plan.local) == [f"{A}:8080"]


def test_the_reason_names_the_hint_and_where_this_node_is() -> None:
    by_zone = planned(
        service(), endpoint_slice(endpoint(A, zones=["eu-1a"]), endpoint(C, zones=["eu-1b"]))
    )
    by_node = planned(
        service(), endpoint_slice(endpoint(A, nodes=["node-a"]), endpoint(C, nodes=["node-c"]))
    )
    assert [(str(u.endpoint), u.reason) for u in (*by_zone.unused, *by_node.unused)] == [
        (f"{C}:8080", "ready, but hinted for zone eu-1b; this node is in eu-1a"),
        (f"{C}:8080", "ready, but hinted for node node-c; this node is node-a"),
    ]
