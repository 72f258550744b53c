"""Does each client stay with an endpoint of its own, and are clients spread evenly?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from endpoints.names import Family
from tests.lab.manifests import Document
from tests.lab.objects import Endpoint, Port, service, session_affinity, slice_of
from tests.packets.chance import chi_square, is_uniform
from tests.packets.own_node import NODE, PORT, OwnNode, own_node, pod_address

CLIENTS = 300
"""Fewer than 100 for each endpoint: so many addresses xt_recent keeps in a list (ip_list_tot)."""
FIRST_CLIENT = 1000
ENDPOINTS = 7
NODE_PORT = 30080
VIPS = {Family.IPV4: "10.96.0.1", Family.IPV6: "fd00:10:96::1"}
NODE_ADDRESSES = dict(zip(Family, NODE.addresses, strict=True))
PORTS = [Port(80, target=PORT, node_port=NODE_PORT)]


@pytest.fixture(scope="module")
def node(mode: str) -> Iterator[OwnNode]:
    with own_node(mode) as made:
        yield made


def sticky(name: str, family: Family) -> Document:
    return service(name, [VIPS[family]], PORTS, spec=session_affinity(10800))


def endpoints(name: str, family: Family, numbers: range) -> Document:
    pods = [pod_address(family, number) for number in numbers]
    return slice_of(name, family, PORTS, [Endpoint((pod, pod)) for pod in pods])


@pytest.mark.parametrize("family", Family)
def test_each_client_has_an_endpoint_of_its_own(node: OwnNode, family: Family) -> None:
    name = f"shop/{family.lower()}"
    node.apply([sticky(name, family), endpoints(name, family, range(1, ENDPOINTS + 1))])
    clients = [pod_address(family, FIRST_CLIENT + n) for n in range(CLIENTS)]
    for place in [(VIPS[family], 80), (NODE_ADDRESSES[family], NODE_PORT)]:
        first = {client: node.reach(*place, client)[0] for client in clients}
        again = {client: node.reach(*place, client)[0] for client in reversed(clients)}
        assert again == first
        seen = Counter(first.values())
        counts = [seen[pod_address(family, number)] for number in range(1, ENDPOINTS + 1)]
        assert is_uniform(counts), f"{counts}, chi-square {chi_square(counts):.1f}"


@pytest.mark.parametrize("family", Family)
def test_only_clients_of_an_endpoint_that_goes_must_move(node: OwnNode, family: Family) -> None:
    name = f"shop/{family.lower()}"
    node.apply([sticky(name, family), endpoints(name, family, range(1, ENDPOINTS + 1))])
    clients = [pod_address(family, FIRST_CLIENT + n) for n in range(CLIENTS)]
    before = {client: node.reach(VIPS[family], 80, client)[0] for client in clients}
    node.apply([endpoints(name, family, range(2, ENDPOINTS + 1))])
    after = {client: node.reach(VIPS[family], 80, client)[0] for client in clients}
    gone = pod_address(family, 1)
    moved = {client for client in clients if before[client] == gone}
    assert moved
    assert {client for client in clients if after[client] != before[client]} == moved
    node.apply([endpoints(name, family, range(1, ENDPOINTS + 1))])
    later = {client: node.reach(VIPS[family], 80, client)[0] for client in clients}
    assert later == after
