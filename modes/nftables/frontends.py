"""Which frontend does an element belong to, and which frontends are asked for? Pure.

A frontend is told by the key that it has in `services`, or in `nodeports`: family, address,
protocol and port, all of which stand in the key of every element that serves it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from endpoints.addresses import bracketed, pack, unpack
from endpoints.addresses import family as family_of
from endpoints.names import Family, Protocol
from modes.held import Only
from modes.nftables.codec import is_catch_all, spec_of
from modes.nftables.elements import Value, Verdict, key_prefix, pack_port, set_of
from modes.nftables.expressions import native32
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET

SLOTTED = (S.ENDPOINTS, S.NODEPORT_ENDPOINTS)
"""The largest maps: an element for each endpoint of each frontend."""
_DISPATCH = {S.SERVICES: S.EXTERNAL_LOCAL, S.NODEPORTS: S.NODEPORT_LOCAL}
"""The map of all frontends, and the one that precedes it for clients from outside."""
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}
_KN_SIZE = 8
_PICKED = re.compile(r"goto (?:np-)?(?:sticky-)?(pick|local)-(\d+)")
_FIRST_LOOK = 1000
"""Slots that are asked for at once, at most."""
UNKNOWN = "?"


class Owner(NamedTuple):
    """A Service port in one family, as comments of elements name it."""

    name: str
    """`namespace/name:port`; UNKNOWN where there is no comment."""
    protocol: str
    family: str


class Window(NamedTuple):
    """Slots of one list of endpoints."""

    prefix: bytes
    slots: range

    @property
    def keys(self) -> Iterator[bytes]:
        """The keys of their elements."""
        return (self.prefix + native32(slot) for slot in self.slots)


def frontend_of(key: bytes) -> bytes:
    """The frontend that an element serves alone; empty if there is none."""
    where = _place(key[0])
    if where is None or is_catch_all(key):
        return b""
    prefix, start, end = where
    return prefix + key[start:end]


@cache
def _place(leading: int) -> tuple[bytes, int, int] | None:
    """Where keys of a set name the frontend, and the byte that leads such a name."""
    family, set_id = set_of(bytes((leading,)))
    spec = spec_of(family, set_id)
    if "inet_proto" not in spec.fields:
        return None
    by_node_port = "NODEPORT" in set_id.name
    at = spec.fields.index("inet_proto")
    start = 1 + sum(spec.field_sizes[: at if by_node_port else at - 1])
    end = 1 + sum(spec.field_sizes[: at + 2])
    return key_prefix(family, S.NODEPORTS if by_node_port else S.SERVICES), start, end


def is_node_port(frontend: bytes) -> bool:
    """Whether a frontend is a NodePort, which has no address."""
    return set_of(frontend)[1] is S.NODEPORTS


def address_of(frontend: bytes) -> str:
    """The address of a frontend, or `node`."""
    return "node" if is_node_port(frontend) else unpack(frontend[1:-_KN_SIZE])


def port_of(frontend: bytes) -> int:
    """The port of a frontend."""
    return int.from_bytes(frontend[-4:-2], "big")


def protocol_of(frontend: bytes) -> str:
    """The protocol of a frontend, or the number of one that Services do not have."""
    number = frontend[-_KN_SIZE]
    return _PROTOCOLS.get(number, str(number))


def words(frontend: bytes) -> str:
    """`10.96.0.10:53/UDP`, `NodePort 30080/TCP (IPv6)`."""
    place = f"{port_of(frontend)}/{protocol_of(frontend)}"
    if is_node_port(frontend):
        return f"NodePort {place} ({set_of(frontend)[0]})"
    return f"{bracketed(address_of(frontend))}:{place}"


def owners(elements: Mapping[bytes, Value]) -> dict[bytes, Owner]:
    """All frontends that are held, and whose each of them is."""
    leads = {key_prefix(family, set_id)[0]: family for family in Family for set_id in _DISPATCH}
    return {
        key: Owner(value.comment or UNKNOWN, protocol_of(key), leads[key[0]].value)
        for key, value in elements.items()
        if key[0] in leads and isinstance(value, Verdict) and not is_catch_all(key)
    }


def asked(elements: Mapping[bytes, Value], only: Only) -> frozenset[bytes]:
    """The frontends of the Service ports that are asked for, as they are held.

    Who is asked for by a place is so with all its frontends. What is held for that place belongs
    to it even if nobody has it.
    """
    held = owners(elements)
    if only.service:
        return frozenset(key for key, owner in held.items() if only.names(owner.name))
    there = frozenset(key for key in held if _is_at(key, only))
    whose = {held[key] for key in there}
    frontends = there.union(key for key, owner in held.items() if owner in whose)
    return frontends.union(_places(only))


def _places(only: Only) -> Iterator[bytes]:
    """The frontends that a place may be, whether or not they are held."""
    rest = bytes((only.protocol.number, 0, 0, 0)) + pack_port(only.port)
    yield key_prefix(family_of(only.address), S.SERVICES) + pack(only.address) + rest
    yield from (key_prefix(family, S.NODEPORTS) + rest for family in Family)


def _is_at(frontend: bytes, only: Only) -> bool:
    return (port_of(frontend), protocol_of(frontend)) == (only.port, only.protocol) and (
        address_of(frontend) in (only.address, "node")
    )


def learns(elements: Mapping[bytes, Value], frontend: bytes) -> bool:
    """Whether clients of a frontend are remembered."""
    family, set_id = set_of(frontend)
    learn = S.LEARN if set_id is S.SERVICES else S.LEARN_NODEPORTS
    return key_prefix(family, learn) + frontend[1:] in elements


def counts(elements: Mapping[bytes, Value], frontend: bytes) -> dict[int, int]:
    """How many endpoints the rules of a frontend choose among, by the first slot of each list."""
    family, set_id = set_of(frontend)
    found = {0: 0, LOCAL_OFFSET: 0}
    for of in (set_id, _DISPATCH[set_id]):
        verdict = elements.get(key_prefix(family, of) + frontend[1:])
        picked = _PICKED.fullmatch(verdict.verdict) if isinstance(verdict, Verdict) else None
        if picked:
            found[0 if picked[1] == "pick" else LOCAL_OFFSET] = int(picked[2])
    return found


def windows(elements: Mapping[bytes, Value], frontends: Iterable[bytes]) -> list[Window]:
    """Where to look first for the endpoints of frontends: as many slots as rules name, and one."""
    found = []
    for frontend in frontends:
        family, set_id = set_of(frontend)
        slotted = S.ENDPOINTS if set_id is S.SERVICES else S.NODEPORT_ENDPOINTS
        for first, count in counts(elements, frontend).items():
            slots = range(first, first + min(count, _FIRST_LOOK) + 1)
            found.append(Window(key_prefix(family, slotted) + frontend[1:], slots))
    return found


def following(looked: Iterable[Window], found: Mapping[bytes, Value]) -> list[Window]:
    """Where to look next: beyond lists whose last slot was found."""
    return [
        Window(prefix, range(slots.stop, slots.stop + 2 * len(slots)))
        for prefix, slots in looked
        if prefix + native32(slots[-1]) in found
    ]
