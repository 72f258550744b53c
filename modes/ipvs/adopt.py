"""What of all that the kernel holds is ours? Pure.

Our own sets say it: they were written before a virtual server was made or an address bound, and
are cleared after it is gone, so that the answer is right whenever a headgate was killed. Where
those sets are not there, or kube-proxy ran after us, its own say what it left, and only that is
taken over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from endpoints.addresses import contains
from endpoints.names import Family, Protocol, ServicePortName
from modes.ipvs.draining import Draining, entry
from modes.ipvs.ipsets import FOREIGN, Element, Entry, Extra, FoundSet, Kind, SetName
from modes.ipvs.marks import Layout, Owner
from modes.ipvs.program import Goal, Held, HeldServer, bound, registered
from modes.ipvs.servers import FoundServer, ServerKey, Wanted

_SERVED = (
    Kind.CLUSTER_IP,
    Kind.EXTERNAL_IP,
    Kind.EXTERNAL_IP_LOCAL,
    Kind.LOAD_BALANCER,
    Kind.NODE_PORT_SCTP,
)
"""kube-proxy's sets of what has a virtual server."""
_SERVED_PORTS = {Protocol.TCP: Kind.NODE_PORT_TCP, Protocol.UDP: Kind.NODE_PORT_UDP}


OURS, KUBE_PROXY = "ours", "kube-proxy's"


class Found(msgspec.Struct):
    """Everything that the kernel holds, ours and others'."""

    servers: Mapping[ServerKey, FoundServer]
    sets: Mapping[SetName, FoundSet]
    addresses: AbstractSet[str]
    """Those on the link of ours."""
    rules_of: str = ""
    """Whose the rules are that ask the sets: OURS, KUBE_PROXY, or nobody's."""

    @property
    def is_flushed(self) -> bool:
        """Whether somebody has emptied our sets: our rules and addresses are there."""
        return (
            self.rules_of == OURS
            and bool(self.addresses)
            and not any(of.elements for of in self.sets.values())
        )


class Ownership(msgspec.Struct):
    """What of it is ours."""

    held: Held
    foreign: frozenset[ServerKey]
    marks: dict[Owner, int]
    draining: Draining


def adopt(
    found: Found,
    layout: Layout,
    node_addresses: Collection[str],
    exclude_cidrs: Collection[str],
    deadlines: tuple[float, float],
    known: Collection[ServerKey] = (),
) -> Ownership:
    """Tell ours from others'.

    `deadlines`: what time it is now, and until when a real server drains whose deadline nobody
    knows, because kube-proxy made it so. `known` are ours whatever the sets say, for those may
    have been flushed.
    """
    ours = {
        key: server
        for key, server in found.servers.items()
        if key in known or _is_ours(key, found, layout, node_addresses, exclude_cidrs)
    }
    entries = {
        Entry(name, element): extra
        for name, of in found.sets.items()
        if of.spec is not None and name.kind is not Kind.DRAINING
        for element, extra in of.elements.items()
        # Of those that are bound, their addresses speak.
        if name.kind is not Kind.IPVS_IPS or element.address not in found.addresses
    }
    held = Held(
        {
            key: HeldServer(of.server, {real: at.weight for real, at in of.reals.items()})
            for key, of in ours.items()
        },
        entries,
        frozenset(a for a in found.addresses if _is_our_address(a, found)),
    )
    return Ownership(
        held,
        frozenset(found.servers.keys() - ours.keys()),
        marks(entries, layout),
        _draining(ours, found, deadlines),
    )


def give_way(foreign: Collection[ServerKey], held: Held, goal: Goal) -> dict[ServerKey, Wanted]:
    """Leave virtual servers of others alone; returns what Services want in their place."""
    lost: dict[ServerKey, Wanted] = {}
    for key in sorted(foreign):
        held.servers.pop(key, None)
        wanted = goal.servers.pop(key, None)
        if wanted is not None:
            lost[key] = wanted
        if wanted is not None or key.address in goal.addresses:
            goal.entries[registered(key)] = FOREIGN
    return lost


def _is_ours(
    key: ServerKey,
    found: Found,
    layout: Layout,
    node_addresses: Collection[str],
    exclude_cidrs: Collection[str],
) -> bool:
    if key.mark:
        return layout.is_ours(key.mark) or any(
            extra.mark == key.mark
            for extra in _elements(found, Kind.LOCAL_BYPASS, key.family).values()
        )
    name, one = registered(key)
    registry = _elements(found, name.kind, key.family)
    if one in registry or (name in found.sets and found.rules_of != KUBE_PROXY):
        return registry.get(one, FOREIGN) != FOREIGN
    if any(contains(cidr, key.address) for cidr in exclude_cidrs):
        return False
    if any(one in _elements(found, kind, key.family) for kind in _SERVED):
        return True
    if registry:
        return False
    ports = _SERVED_PORTS.get(key.protocol)
    served = _elements(found, ports, key.family) if ports else {}
    return key.address in node_addresses and Element(port=key.port) in served


def _is_our_address(address: str, found: Found) -> bool:
    held, one = bound(address)
    return held in found.sets and one in found.sets[held].elements


def _elements(found: Found, kind: Kind, family: Family) -> Mapping[Element, Extra]:
    of = found.sets.get(SetName(kind, family))
    return of.elements if of is not None else {}


def marks(entries: Mapping[Entry, Extra], layout: Layout) -> dict[Owner, int]:
    """The marks in use, by what their elements say of themselves."""
    found: dict[Owner, int] = {}
    used: set[tuple[Family, int]] = set()
    for (name, element), extra in entries.items():
        if name.kind is Kind.LOCAL_BYPASS and layout.is_ours(extra.mark) and element.protocol:
            owner = (name.family, named(extra.comment, element.protocol))
            if (name.family, extra.mark) not in used and owner not in found:
                used.add((name.family, extra.mark))
                found[owner] = extra.mark
    return found


def named(comment: str, protocol: Protocol) -> ServicePortName:
    """The Service port that a comment names: `namespace/name:port`."""
    service, _, port = comment.partition(":")
    namespace, _, name = service.rpartition("/")
    return ServicePortName(namespace, name, port, protocol)


def _draining(
    ours: Mapping[ServerKey, FoundServer], found: Found, deadlines: tuple[float, float]
) -> Draining:
    """Whoever has no weight drains; one whose deadline has passed had its element expire."""
    now, latest = deadlines
    draining = Draining()
    for key, of in ours.items():
        for real, at in of.reals.items():
            if at.weight:
                continue
            name, element = entry(key, real)
            if name not in found.sets:
                until = latest
            else:
                left = found.sets[name].elements.get(element)
                until = now + left.timeout_seconds if left else now
            draining.begin(key, of.server, real, until)
    return draining
