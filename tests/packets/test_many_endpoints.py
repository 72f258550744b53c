"""Is a Service with 2,000 endpoints served by all of them, and does it shrink and grow?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from endpoints.names import Family
from tests.lab.manifests import Document
from tests.lab.objects import Endpoint, Port, service, slice_of
from tests.packets.chance import chi_square, is_uniform
from tests.packets.own_node import PORT, OwnNode, own_node, pod_address

ENDPOINTS = 2000
PER_SLICE = 100
CONNECTIONS = 10_000
VIPS = {Family.IPV4: "10.96.0.1", Family.IPV6: "fd00:10:96::1"}
PORTS = [Port(80, target=PORT)]


@pytest.fixture(scope="module")
def node(mode: str) -> Iterator[OwnNode]:
    with own_node(mode) as made:
        yield made


def slices(family: Family, count: int) -> list[Document]:
    """`count` endpoints in all, as the endpoint controller fills slices; the rest are empty."""
    pods = [pod_address(family, number) for number in range(1, count + 1)]
    listed = [Endpoint((pod, pod)) for pod in pods]
    return [
        slice_of("shop/big", family, PORTS, listed[part : part + PER_SLICE], part=part)
        for part in range(0, ENDPOINTS, PER_SLICE)
    ]


@pytest.mark.parametrize("family", Family)
def test_two_thousand_endpoints(node: OwnNode, family: Family) -> None:
    vip = VIPS[family]
    pods = [pod_address(family, number) for number in range(1, ENDPOINTS + 1)]
    node.apply([service("shop/big", [vip], PORTS), *slices(family, ENDPOINTS)])
    seen = Counter(node.reach(vip, 80)[0] for _ in range(CONNECTIONS))
    # 10,000 throws at 2,000 leave out 13.5 of them on average, with a deviation of 3.6.
    assert 1950 < len(seen) <= ENDPOINTS
    assert seen.keys() <= set(pods)
    # Slots are filled in some order of the plan's; twenty parts of a hundred get equal shares.
    ordered = sorted(pods)
    parts = [sum(seen[pod] for pod in ordered[n : n + 100]) for n in range(0, ENDPOINTS, 100)]
    assert is_uniform(parts), f"{parts}, chi-square {chi_square(parts):.1f}"


@pytest.mark.parametrize("family", Family)
def test_it_shrinks_and_grows(node: OwnNode, family: Family) -> None:
    vip = VIPS[family]
    node.apply([service("shop/big", [vip], PORTS), *slices(family, ENDPOINTS)])
    for count in (1, 257, 300):
        node.apply(slices(family, count))
        seen = {node.reach(vip, 80)[0] for _ in range(20 * count)}
        # A pod in 300 is missed by 6,000 connections with a chance of 300 / e^20.
        assert seen == {pod_address(family, number) for number in range(1, count + 1)}
