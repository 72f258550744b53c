"""Where does a packet go if the node makes the addresses of Services its own, as IPVS does?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.explain import Hook, Packet, Place, walk
from endpoints.names import Protocol
from tests.unit.endpoints.build import NODE_A, service
from tests.unit.endpoints.test_explain import (
    CLIENT,
    CLUSTER_IP,
    EVERYWHERE,
    EXTERNAL_IP,
    NO_DETECTOR,
    NODE,
    NODE_PORT,
    PORT,
    RANGES,
    VIP,
    check,
    packet,
    pay,
    plans,
)

HOLDER = msgspec.structs.replace(NODE_A, holds_addresses=True)
# destination, port -> verdict where the node holds the addresses of Services
HELD = [
    (CLUSTER_IP, 81, "reject"),
    (EXTERNAL_IP, 81, "reject"),
    (VIP, 81, "reject"),
    (EXTERNAL_IP, NODE_PORT, "reject"),
    (VIP, NODE_PORT, "reject"),
    (VIP, PORT, "A1 A2 B1 masqueraded"),
    (NODE, PORT, "pass"),
    (NODE, NODE_PORT, "A1 A2 B1 masqueraded"),
    ("10.244.1.1", NODE_PORT, "pass"),
    ("198.51.100.21", 81, "pass"),
]


@pytest.mark.parametrize(("destination", "port", "expected"), HELD)
@pytest.mark.parametrize("source", [CLIENT, NODE])
def test_dispatch_where_the_node_holds_addresses(
    source: str, destination: str, port: int, expected: str
) -> None:
    check(plans(pay(), EVERYWHERE), packet(source, destination, port), expected, HOLDER)


def test_an_address_that_the_node_has_anyway_is_not_held() -> None:
    of = plans(service(external_ips=[NODE]), EVERYWHERE)
    check(of, packet(CLIENT, NODE, 81), "pass", HOLDER)
    sees = msgspec.structs.replace(HOLDER, local_traffic=NO_DETECTOR.local_traffic)
    for view in (HOLDER, sees):
        check(of, packet(NODE, NODE, PORT), "A1 A2 B1 masqueraded", view)
    (last,) = walk(of, sees, packet(NODE, NODE, PORT)).steps[-1:]
    assert "held" not in last.text


def test_what_the_node_holds_is_said_in_words() -> None:
    refused = walk(plans(pay(), EVERYWHERE), HOLDER, packet(CLIENT, VIP, 81))
    assert [(step.place, step.text) for step in refused.steps] == [
        (
            Place.PREROUTING,
            f"{VIP} is held by this node for Services, but no Service has {VIP}:81/TCP",
        ),
        (Place.UNKNOWN_PORT, "unknown port -> reject"),
    ]
    reached = walk(plans(pay(), EVERYWHERE), HOLDER, packet(NODE, CLUSTER_IP))
    assert reached.steps[-1].place is Place.POSTROUTING
    held = f"{CLUSTER_IP} is held by this node and would be the source: masqueraded"
    assert reached.steps[-1].text == held


@pytest.mark.parametrize("destination", [CLUSTER_IP, EXTERNAL_IP, VIP])
def test_the_node_is_masqueraded_on_its_way_to_what_it_holds(destination: str) -> None:
    """Whatever tells pods from others: the source would be the Service's own address."""
    blind = msgspec.structs.replace(NO_DETECTOR, holds_addresses=True)
    of = plans(pay(external="Local"), EVERYWHERE, node=blind)
    check(of, packet(NODE, destination), "A1 A2 B1 masqueraded", blind)
    bridge_address = Packet("10.244.9.1", destination, PORT, Protocol.TCP, Hook.OUTPUT)
    check(of, bridge_address, "A1 A2 B1 masqueraded", blind)
    # From elsewhere nothing is otherwise.
    check(of, packet(CLIENT, CLUSTER_IP), "A1 A2 B1", blind)
    check(of, packet(CLIENT, VIP), "A1 A2", blind)


def test_source_ranges_are_judged_the_same_where_the_node_holds_addresses() -> None:
    for ranges, source, expected in RANGES:
        of = plans(pay(external="Local", ranges=ranges), EVERYWHERE, node=HOLDER)
        check(of, packet(source, VIP), expected, HOLDER)
