"""Which packets are sent at a random cluster, and what may be seen of each? Pure.

Half of them go to places where Services are, the others close by: a port, a protocol or an address
that is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from endpoints.addresses import family
from endpoints.explain import Drop, Explanation, Forward, Hook, Packet, Reject
from endpoints.names import Family, Protocol
from endpoints.nodeports import is_loopback
from endpoints.plan import ServicePlan
from tests.lab.probes import Answer, Outcome
from tests.lab.servers import PORTS
from tests.laws.places import (
    BRIDGE_ADDRESSES,
    CABLED,
    CLIENTS,
    ENDPOINTS,
    HERE,
    LOCAL_ADDRESSES,
    NODE,
    NODE_ADDRESSES,
    Place,
)

SENT = (Protocol.TCP, Protocol.UDP)
"""The protocols that a kernel without SCTP can send."""
Destination = tuple[str, int, Protocol]

_NODES_OWN = {
    Family.IPV4: (NODE_ADDRESSES[0], BRIDGE_ADDRESSES[0], "127.0.0.1"),
    Family.IPV6: (NODE_ADDRESSES[1], BRIDGE_ADDRESSES[1], "::1"),
}
_ELSEWHERE: tuple[Destination, ...] = (
    ("10.96.0.99", 80, Protocol.TCP),
    ("fd00:10:96::99", 80, Protocol.UDP),
    ("198.51.100.99", 80, Protocol.TCP),
    *((place.addresses[of], 8080, p) for place in ENDPOINTS[:3] for of in Family for p in SENT),
    *((place.addresses[of], 9, p) for place in ENDPOINTS[:3] for of in Family for p in SENT),
)


def packets(plans: Iterable[ServicePlan], random: Random, number: int) -> list[Packet]:
    """So many packets, three of four of them to a frontend."""
    reached = sorted({d for plan in plans for d in _frontends(plan)})
    beside = [*sorted({near for d in reached for near in _near(d)} - {*reached}), *_ELSEWHERE]
    wanted: list[Packet] = []
    while len(wanted) < number:
        group = reached if reached and random.random() < 0.75 else beside
        destination, source = random.choice(group), random.choice(CLIENTS)
        if _sensible(source, destination[0]):
            wanted.append(_packet(source, *destination))
    return wanted


def _frontends(plan: ServicePlan) -> Iterator[Destination]:
    if plan.name.protocol not in SENT:
        return
    for frontend in plan.frontends:
        for address in [frontend.address] if frontend.address else _NODES_OWN[plan.family]:
            yield address, frontend.port, plan.name.protocol


def _near(destination: Destination) -> Iterator[Destination]:
    address, port, protocol = destination
    yield address, port + 7, protocol
    yield address, port, SENT[protocol is SENT[0]]


def _sensible(source: Place, destination: str) -> bool:
    """Loopback is asked by the node only; nobody asks its own address but the node."""
    if source is NODE:
        return True
    return not is_loopback(destination) and destination not in source.addresses.values()


def _packet(source: Place, destination: str, port: int, protocol: Protocol) -> Packet:
    address = source.addresses[family(destination)]
    if source is not NODE:
        return Packet(address, destination, port, protocol, Hook.PREROUTING, source.link)
    # What goes to an address of the node itself comes from that address.
    address = destination if destination in LOCAL_ADDRESSES else address
    return Packet(address, destination, port, protocol, Hook.OUTPUT)


def disagreement(told: Explanation, packet: Packet, seen: Answer) -> str:
    """What was seen although the specification does not allow it; empty if it does."""
    match told.verdict:
        case Forward(hops):
            allowed = {
                (_server(hop.endpoint.address, hop.endpoint.port), hop.masqueraded) for hop in hops
            }
            right = seen.kind is Outcome.ANSWERED and (seen.by, _is_masked(packet, seen)) in allowed
            if not right and packet.source in LOCAL_ADDRESSES and seen.saw in LOCAL_ADDRESSES:
                # The node's own packet comes from the node, masqueraded or not.
                right = seen.by in {by for by, _ in allowed}
        case Reject():
            right = seen.kind is Outcome.REFUSED
        case Drop():
            right = seen.kind is Outcome.TIMEOUT
        case _:
            right = _is_routed(packet, seen)
    if right:
        return ""
    steps = "".join(f"\n    {step.place}: {step.text}" for step in told.steps)
    return f"{packet}\n  was {seen}\n  but {told.verdict}{steps}"


def _server(address: str, port: int) -> str:
    (name,) = [place.name for place in ENDPOINTS if address in place.addresses.values()]
    return f"{name}:{port}"


def _is_masked(packet: Packet, seen: Answer) -> bool | None:
    """Whether the endpoint saw the node for the client; None if it saw a third."""
    if seen.saw == packet.source:
        return False
    return True if seen.saw in LOCAL_ADDRESSES else None


def _is_routed(packet: Packet, seen: Answer) -> bool:
    """Whether a packet went where routing takes it: to the node, to a machine, to the sink."""
    here = packet.destination in LOCAL_ADDRESSES
    owner = next((p for p in CABLED if packet.destination in p.addresses.values()), None)
    name = HERE if here else owner.name if owner else ""
    if not name:
        return seen.kind is Outcome.UNREACHABLE
    serves = name in {place.name for place in ENDPOINTS} and packet.port in PORTS
    if not serves:
        return seen.kind is Outcome.REFUSED
    return (seen.by, seen.saw) == (f"{name}:{packet.port}", packet.source)
