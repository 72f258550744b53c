"""Which tracked flows became lies? Pure.

A flow of UDP or SCTP that was translated keeps its endpoint for as long as packets come, and one
that was let through untranslated stays untranslated, whatever the rules say by now. Such a flow is
a lie if its first packet would not go that way today:

- it was sent to a frontend and translated to an endpoint that served it, and serves it no more;
- it was sent to a frontend untranslated while nothing served that, and something does by now.

Traffic policy and topology are ignored: an endpoint that serves keeps its flows (REFERENCE A.2).
A flow that was translated to what never was an endpoint there is somebody else's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from conntrack.flows import Destination, End, Filter, Flow
from endpoints.addresses import pack
from endpoints.names import Family, Protocol

Endpoints = frozenset[End]

FEW = 8
"""So many addresses of a port are asked for one by one, more by the port alone; and so many filters
of a protocol one by one, more by the protocol. Among 50,000 flows a filtered dump takes 19 ms and
one of everything 400 ms, 250 of them to read it (decision 0014)."""


class Reached(NamedTuple):
    """Where a Service port is reached."""

    family: Family
    protocol: Protocol
    address: str | None
    """None: the NodePort, wherever those answer."""
    port: int


class Past(NamedTuple):
    """What a frontend was before: what its flows may still believe."""

    served: Endpoints | None
    """Who served it; None: nobody knows, it was before our time."""
    bare: bool
    """Whether there was a time when nothing served it, so that packets were let through."""

    def merged(self, other: Past) -> Past:
        """What was before two changes, together."""
        if self.served is None or other.served is None:
            return Past(None, self.bare or other.bare)
        return Past(self.served | other.served, self.bare or other.bare)


UNKNOWN = Past(None, bare=True)


class Doubt(msgspec.Struct, frozen=True):
    """What is to be doubted of the flows to one frontend."""

    past: Past
    serving: Endpoints
    """Who serves it now."""

    def __bool__(self) -> bool:
        """Whether any flow can be a lie."""
        served, bare = self.past
        return served is None or not served <= self.serving or (bare and bool(self.serving))

    def refutes(self, flow: Flow) -> bool:
        """Whether a flow to this frontend is a lie."""
        answering = flow.reply.source
        if answering in self.serving:
            return False
        served, bare = self.past
        if served is not None and answering in served:
            return True
        if answering == flow.original.destination:
            return bare and bool(self.serving)
        return served is None


Doubts = Mapping[Reached, Doubt]
"""By frontend; every address of a NodePort for itself."""


def refuted(doubts: Doubts, flow: Flow) -> bool:
    """Whether a flow is a lie. Flows in other zones than 0 are nobody's but their owner's."""
    to = flow.original.destination
    doubt = doubts.get(Reached(flow.family, flow.protocol, to.address, to.port))
    return doubt is not None and flow.zone == 0 and doubt.refutes(flow)


def destinations(doubts: Iterable[Reached]) -> frozenset[Destination]:
    """The frontends, as entries of the table spell them."""
    return frozenset(
        Destination(of.protocol.number, pack(of.address), of.port) for of in doubts if of.address
    )


def filters(doubts: Iterable[Reached]) -> Iterator[Filter]:
    """What to ask the kernel for: everything that is doubted, and not much more.

    `doubts` are frontends of one family. IPv6 is asked for by port: of an IPv6 address the kernel
    lists the flows to all others (Linux 5.8 to 6.18, ctnetlink_filter_match_tuple).
    """
    addresses: defaultdict[tuple[Family, Protocol, int], list[str | None]] = defaultdict(list)
    for of in doubts:
        addresses[of.family, of.protocol, of.port].append(of.address)
    wanted: defaultdict[tuple[Family, Protocol], list[Filter]] = defaultdict(list)
    for (family, protocol, port), at in sorted(addresses.items()):
        one_by_one = family is Family.IPV4 and len(at) <= FEW
        singly = at if one_by_one else [None]
        wanted[family, protocol] += [Filter(family, protocol, a, port) for a in singly]
    for (family, protocol), listed in wanted.items():
        yield from listed if len(listed) <= FEW else [Filter(family, protocol)]
