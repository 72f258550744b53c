"""Has each endpoint the same chance, whatever their number?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from endpoints.names import Family
from tests.lab.manifests import Document
from tests.lab.objects import Endpoint, Port, service, slice_of
from tests.packets.chance import CRITICAL, chi_square, is_uniform
from tests.packets.own_node import NODE, PORT, OwnNode, own_node, pod_address

CONNECTIONS = 2000
NODE_PORT = 30080
VIPS = {Family.IPV4: "10.96.0.1", Family.IPV6: "fd00:10:96::1"}
NODE_ADDRESSES = dict(zip(Family, NODE.addresses, strict=True))


@pytest.fixture(scope="module")
def node(mode: str) -> Iterator[OwnNode]:
    with own_node(mode) as made:
        yield made


def objects(count: int) -> list[Document]:
    ports = [Port(80, target=PORT, node_port=NODE_PORT)]
    pods = [(pod_address(Family.IPV4, n), pod_address(Family.IPV6, n)) for n in range(1, count + 1)]
    listed = [Endpoint(pod) for pod in pods]
    made = service("shop/web", list(VIPS.values()), ports)
    return [made, *(slice_of("shop/web", family, ports, listed) for family in Family)]


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("count", [3, 7])
def test_every_endpoint_is_as_likely(node: OwnNode, count: int, family: Family) -> None:
    node.apply(objects(count))
    pods = [pod_address(family, number) for number in range(1, count + 1)]
    for place in [(VIPS[family], 80), (NODE_ADDRESSES[family], NODE_PORT)]:
        seen = Counter(node.reach(*place) for _ in range(CONNECTIONS))
        counts = [seen[pod, PORT] for pod in pods]
        assert sum(counts) == CONNECTIONS, f"{place} reached {seen}"
        assert is_uniform(counts), f"{place}: {counts}, chi-square {chi_square(counts):.1f}"


@pytest.mark.parametrize(
    "shares",
    [[1, 2, 1], [0, 1, 1], [1.15, 1.15, 0.7], [1, 1, 1, 1, 1, 1, 2], [1.2, 1.2, 1.2, 1, 1, 1, 0.4]],
)
def test_an_uneven_choice_would_be_noticed(shares: list[float]) -> None:
    """A duplicate with weight, a slot never taken, the remainder of a power of two."""
    counts = [round(CONNECTIONS * share / sum(shares)) for share in shares]
    assert chi_square(counts) > CRITICAL[len(counts) - 1]
