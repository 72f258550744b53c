"""Do the counters and lists of iptables, as they are told, agree with the packets that were sent?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from endpoints.names import Family
from modes.base import ModeSettings
from modes.held import DumpedService, Only
from modes.iptables.looking import look
from modes.xtables.variant import Variant
from tests.lab.objects import Endpoint, Port, service, session_affinity, slice_of
from tests.packets.own_node import NODE, PORT, OwnNode, own_node, pod_address

TIMEOUT_SECONDS = 10_800
NODE_PORT = 30080
CLIENTS = 12
PORTS = [Port(80, target=PORT, node_port=NODE_PORT)]
VIPS = {Family.IPV4: "10.96.0.1", Family.IPV6: "fd00:10:96::1"}
NODE_ADDRESSES = dict(zip(Family, NODE.addresses, strict=True))


@pytest.fixture(params=Variant)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    return found


@pytest.fixture
def node(variant: Variant) -> Iterator[OwnNode]:
    with own_node(f"iptables-{variant}") as made:
        yield made


def told(variant: Variant, name: str) -> DumpedService:
    (found,) = look(Only(service=name), ModeSettings(iptables_variant=variant)).services
    return found


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("is_sticky", [True, False], ids=["affinity", "none"])
def test_new_connections_and_clients(
    node: OwnNode, variant: Variant, family: Family, *, is_sticky: bool
) -> None:
    name = f"shop/{family.lower()}"
    pods = [pod_address(family, number) for number in (1, 2, 3)]
    spec = session_affinity(TIMEOUT_SECONDS) if is_sticky else {}
    slices = slice_of(name, family, PORTS, [Endpoint((pod, pod)) for pod in pods])
    node.apply([service(name, [VIPS[family]], PORTS, spec=spec), slices])
    before = told(variant, name)
    assert {of.new_flows for of in before.frontends} == {0}
    assert (set(before.endpoint_flows.values()), before.clients) == ({0}, ())

    clients = [pod_address(family, 1000 + number) for number in range(CLIENTS)]
    twice = [*clients, *clients[:4]]
    arrived = [(client, *node.reach(VIPS[family], 80, client)) for client in twice]
    arrived += [
        (client, *node.reach(NODE_ADDRESSES[family], NODE_PORT, client)) for client in clients[:3]
    ]
    after = told(variant, name)
    flows = {of.address: of.new_flows for of in after.frontends}
    assert flows == {VIPS[family]: len(twice), "node": 3}
    around = "[{}]:{}" if family is Family.IPV6 else "{}:{}"
    reached = Counter(around.format(pod, port) for _, pod, port in arrived)
    assert {one: n for one, n in after.endpoint_flows.items() if n} == reached
    kept = {(of.address, of.endpoint) for of in after.clients}
    if is_sticky:
        assert kept == {(client, around.format(pod, port)) for client, pod, port in arrived}
        # Our own root may see the clock of the kernel, and the test took less than a minute.
        left = {of.seconds_left for of in after.clients}
        assert all(s is not None and TIMEOUT_SECONDS - 60 < s <= TIMEOUT_SECONDS for s in left)
    else:
        assert kept == set()
