"""How does a test write flows, Services and a kernel that tracks them, in a few lines?"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from conntrack.flows import Destination, End, Filter, Flow, Way, admits
from conntrack.kernel import Kernel
from conntrack.tracker import Cleaned, Conntrack
from endpoints.addresses import family, pack
from endpoints.names import Family, ObjectName, Protocol, ServicePortName
from endpoints.node import NodeView
from endpoints.plan import (
    Endpoint,
    EndpointState,
    Frontend,
    FrontendKind,
    ServicePlan,
    TrafficPolicy,
    UnusedEndpoint,
)
from modes.base import Delta, Plans
from modes.wire import attr, be32, nested

V4, V6 = Family.IPV4, Family.IPV6
UDP, SCTP, TCP = Protocol.UDP, Protocol.SCTP, Protocol.TCP
VIP, OTHER_VIP = "10.96.7.7:53", "10.96.8.8:53"
A, B, C = "10.244.1.2:5353", "10.244.2.3:5353", "10.244.3.4:5353"
STRANGER = "192.0.2.99:5353"
NODE = "192.168.0.11"
"""Who serves, what never did, and the address of this node."""
CLIENT = {4: "203.0.113.7", 6: "2001:db8:203::7"}
NAT = 1 << 3 | 1 << 1 | 1 << 5  # CONFIRMED, SEEN_REPLY, DST_NAT
_ORIGINAL, _REPLY, _STATUS, _TIMEOUT, _ID, _ZONE = 1, 2, 3, 7, 12, 18
_numbers = itertools.cycle(range(30000, 60000))


def end(text: str) -> End:
    """`10.96.7.7:53`, `[fd00::7]:53`."""
    address, _, port = text.rpartition(":")
    return End(address.strip("[]"), int(port))


def flow(
    to: str,
    by: str | None = None,
    protocol: Protocol = UDP,
    *,
    port: int | None = None,
    zone: int = 0,
) -> Flow:
    """A flow from the client to an address and port, answered by another; None: untranslated.

    Each comes from another port of the client, unless it is told which.
    """
    sent_to = end(to)
    of = family(sent_to.address)
    number = next(_numbers)
    client = End(CLIENT[int(of[-1])], number if port is None else port)
    there = Way(client, sent_to)
    back = Way(end(by) if by else sent_to, client)
    return Flow(of, protocol, there, back, zone=zone, id=number, status=NAT)


def entry(of: Flow, seconds: int = 30) -> bytes:
    """What the kernel lists of a flow, without the opening; but for the id, it makes one of it."""
    zone = attr(_ZONE, of.zone.to_bytes(2, "big")) if of.zone else b""
    return b"".join(
        [
            nested(_ORIGINAL, *way(of, of.original)),
            nested(_REPLY, *way(of, of.reply)),
            zone,
            be32(_STATUS, of.status),
            be32(_TIMEOUT, seconds),
            be32(_ID, of.id),
        ]
    )


def way(of: Flow, told: Way) -> tuple[bytes, bytes]:
    """One direction of a flow: addresses, and protocol and ports."""
    numbers = (1, 2) if of.family == "IPv4" else (3, 4)
    addresses = [attr(n, pack(at.address)) for n, at in zip(numbers, told, strict=True)]
    ports = [attr(n, at.port.to_bytes(2, "big")) for n, at in zip((2, 3), told, strict=True)]
    return nested(1, *addresses), nested(2, attr(1, bytes((of.protocol.number,))), *ports)


def endpoint(
    text: str, state: EndpointState = EndpointState.READY, *, local: bool = False
) -> Endpoint:
    """`10.244.1.2:5353`."""
    return Endpoint(*end(text), is_local=local, state=state)


def plan(
    *frontends: str,
    by: Iterable[str] = (),
    local: Iterable[str] = (),
    unused: Iterable[Endpoint] = (),
    protocol: Protocol = UDP,
    name: str = "dns",
    of: str = "10.",
) -> ServicePlan:
    """A plan with frontends `address:port`, or `node:port` for a NodePort, served by endpoints.

    `of` is an address of the family, where frontends do not tell it.
    """
    fronts = tuple(
        Frontend(
            FrontendKind.NODE_PORT if text.startswith("node:") else FrontendKind.CLUSTER_IP,
            None if text.startswith("node:") else end(text).address,
            end(text).port,
            TrafficPolicy.CLUSTER,
        )
        for text in frontends
    )
    addressed = [front.address for front in fronts if front.address]
    cluster = tuple(sorted(endpoint(text) for text in by))
    return ServicePlan(
        name=ServicePortName("shop", name, "p", protocol),
        family=family(addressed[0] if addressed else of),
        frontends=fronts,
        cluster=cluster,
        local=tuple(sorted(endpoint(text, local=True) for text in local)),
        has_any=bool(cluster),
        unused=tuple(UnusedEndpoint(each, "because") for each in unused),
    )


def name(of: str = "dns") -> ObjectName:
    """A Service in namespace shop."""
    return ObjectName("shop", of)


class FakeKernel(Kernel):
    """A table of flows in memory, that is listed and forgotten as the kernel does it."""

    def __init__(self, *tracked: Flow, knows_filters: bool = True) -> None:
        """These flows are tracked; a kernel before Linux 5.8 knows no filters."""
        self.table = list(tracked)
        self.asked: list[Filter] = []
        self.fault: Exception | None = None
        self.messages = self.dumps = 0
        self.knows_filters = knows_filters
        self.opened = 0

    def open(self) -> Kernel:
        """To be given to Conntrack."""
        self.opened += 1
        return self

    def close(self) -> None:
        """Nothing to give back."""

    def dump(self, of: Filter) -> Iterator[bytes]:
        """As the kernel; see `stale.filters` for IPv6 addresses."""
        assert of.family is V4 or of.address is None
        self.asked.append(of)
        self.dumps += 1
        self.messages += 1
        if self.fault:
            raise self.fault
        for each in self.table:
            told = each.original.destination
            to = Destination(each.protocol.number, pack(told.address), told.port)
            if each.family is of.family and (not self.knows_filters or admits(of, to)):
                yield entry(each)

    def delete(self, lies: Sequence[Flow]) -> int:
        """As the kernel."""
        before = len(self.table)
        forgotten = {each.id for each in lies}
        self.table = [each for each in self.table if each.id not in forgotten]
        self.messages += len(lies)
        return before - len(self.table)


def changed(of: ServicePlan, **fields: object) -> ServicePlan:
    """The plan with other fields."""
    return msgspec.structs.replace(of, **fields)


class AtOnce:
    """Tells of the rules and forgets in one step."""

    def __init__(self, tracker: Conntrack) -> None:
        self._tracker = tracker
        self.close = tracker.close

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],
        node: NodeView,
        refused: Collection[ObjectName],
        *,
        doubtful: bool = False,
    ) -> Cleaned:
        """What was forgotten. Raises as `Conntrack.forget`."""
        self._tracker.replaced(services, node, refused, doubtful=doubtful)
        return self._tracker.forget()

    def applied(
        self, delta: Delta[ObjectName, Plans], node: NodeView, refused: Collection[ObjectName]
    ) -> Cleaned:
        """What was forgotten. Raises as `Conntrack.forget`."""
        self._tracker.applied(delta, node, refused)
        return self._tracker.forget()


def conntrack(kernel: FakeKernel) -> AtOnce:
    """One that works on this table; its clock ticks a second at each look."""
    ticks = iter(range(10_000))
    return AtOnce(Conntrack(lambda: float(next(ticks)), open_kernel=kernel.open))


def services(plans: Plans) -> dict[ObjectName, Plans]:
    """One Service, or none."""
    return {name(): plans} if plans else {}


def delta(plans: Plans) -> Delta[ObjectName, Plans]:
    """That the Service has these plans now, or is gone."""
    return Delta(services(plans), frozenset() if plans else frozenset({name()}))
