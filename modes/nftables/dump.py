"""What do the elements that the kernel holds mean to an operator? Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_address, summarize_address_range

from endpoints.addresses import bracketed, unpack
from endpoints.names import Family, Protocol
from endpoints.plan import TrafficPolicy
from modes.held import DumpedClient, DumpedFrontend, DumpedService
from modes.nftables.codec import Found, is_catch_all, spec_of
from modes.nftables.elements import Value, Verdict, key_prefix, set_of
from modes.nftables.expressions import native32
from modes.nftables.frontends import (
    Owner,
    address_of,
    counts,
    frontend_of,
    owners,
    port_of,
)
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET, TABLE_FAMILY

_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}
_LEARNING = re.compile(r"jump (?:np-)?learn-(\d+)")


def describe(key: bytes) -> str:
    """An element in nft's notation: `ip services 10.96.7.7 . tcp . 80`."""
    family, set_id = set_of(key)
    spec = spec_of(family, set_id)
    if is_catch_all(key):
        return f"{TABLE_FAMILY[family]} {set_id.set_name} *"
    words: list[str] = []
    position = 1
    for field, size in zip(spec.fields, spec.field_sizes, strict=True):
        words.append(_field(field, key[position : position + size]))
        position += size
    if spec.interval:
        words[-1] = ", ".join(_networks(key[position - spec.field_sizes[-1] : position], key))
    return f"{TABLE_FAMILY[family]} {set_id.set_name} {' . '.join(words)}"


def _field(kind: str, raw: bytes) -> str:
    if kind == "inet_proto":
        known = _PROTOCOLS.get(raw[0])
        return known.lower() if known else str(raw[0])
    if kind == "inet_service":
        return str(int.from_bytes(raw[:2], "big"))
    if kind == "mark":
        return str(int.from_bytes(raw, sys.byteorder))
    return unpack(raw)


def services_in(
    elements: Mapping[bytes, Value],
    clients: Iterable[Found] = (),
    frontends: AbstractSet[bytes] | None = None,
    *,
    pick_refuses: bool = False,
) -> tuple[DumpedService, ...]:
    """Services, sorted by name, protocol and family; frontends as in the kernel's maps.

    `clients` are entries of affinity maps; `frontends` those that are asked for, or None for all.
    Where `pick_refuses`, a list without endpoints leads to a refusal, and that is told.
    """
    reader = _Reader(elements, pick_refuses=pick_refuses)
    found: dict[Owner, list[DumpedFrontend]] = {}
    affinity: dict[Owner, int] = {}
    held = owners(elements)
    for key, owner in held.items():
        if frontends is None or key in frontends:
            found.setdefault(owner, []).append(reader.frontend(key))
            seconds = reader.affinity_seconds(key)
            if seconds:
                affinity[owner] = seconds
    kept: dict[Owner, set[DumpedClient]] = {}
    for entry in clients:
        known = held.get(frontend_of(entry.key))
        if known in found:
            kept.setdefault(known, set()).add(client(entry))
    return tuple(
        DumpedService(
            *owner,
            tuple(sorted(listed, key=_order)),
            affinity.get(owner),
            tuple(sorted(kept.get(owner, ()), key=_by_address)),
        )
        for owner, listed in sorted(found.items())
    )


def client(entry: Found) -> DumpedClient:
    """An entry of an affinity map, in which a packet or somebody else put it."""
    family, set_id = set_of(entry.key)
    size = spec_of(family, set_id).field_sizes[0]
    to = endpoint(entry.value) if isinstance(entry.value, bytes) else ""
    seconds_left = entry.expiration_ms // 1000 if entry.timeout_ms else None
    return DumpedClient(unpack(entry.key[1 : 1 + size]), to, seconds_left)


def endpoint(data: bytes) -> str:
    """The endpoint that a slot or a client has: `10.244.1.2:8080`, `[fd00::2]:8080`."""
    return f"{bracketed(unpack(data[:-4]))}:{int.from_bytes(data[-4:-2], 'big')}"


def source_ranges(key: bytes) -> list[str]:
    """The networks of an element of `lb-sources`."""
    spec = spec_of(*set_of(key))
    end = 1 + spec.key_size
    return _networks(key[end - spec.field_sizes[-1] : end], key)


def _by_address(of: DumpedClient) -> tuple[str, str, int]:
    return of.address, of.endpoint, of.seconds_left or 0


def _order(frontend: DumpedFrontend) -> tuple[bool, str, int]:
    return (frontend.address == "node", frontend.address, frontend.port)


class _Reader:
    """Lookups in the elements of both tables, as a packet makes them."""

    def __init__(self, elements: Mapping[bytes, Value], *, pick_refuses: bool) -> None:
        self._elements = elements
        self._pick_refuses = pick_refuses
        self._ranges: dict[bytes, list[str]] = {}
        leads = {key_prefix(family, S.LB_SOURCES)[0] for family in Family}
        for key in elements:
            if key[0] in leads:
                self._ranges.setdefault(frontend_of(key), []).extend(source_ranges(key))

    def frontend(self, key: bytes) -> DumpedFrontend:
        """One element of `services` or `nodeports` with all that belongs to it."""
        family, set_id = set_of(key)
        value = self._verdict(key)
        by_address = set_id is S.SERVICES
        slots = S.ENDPOINTS if by_address else S.NODEPORT_ENDPOINTS
        outside = self._local_verdict(key)
        internal_local = outside is None and _is_local(value)
        rule, policy = f"{set_id.set_name} -> {_target(value)}", TrafficPolicy.CLUSTER.value
        if internal_local:
            policy = TrafficPolicy.LOCAL.value
        elif outside is not None:
            local_set = S.EXTERNAL_LOCAL if by_address else S.NODEPORT_LOCAL
            rule = f"{local_set.set_name} -> {_target(outside)}; {rule}"
            policy = f"{TrafficPolicy.LOCAL} (pods: {TrafficPolicy.CLUSTER})"
        first = key_prefix(family, slots) + key[1:]
        named = counts(self._elements, key)
        cluster = () if internal_local else tuple(self._slots(first, 0, named[0]))
        if named[0] and not cluster and self._pick_refuses:
            rule += " -> no-endpoints"
        return DumpedFrontend(
            address=address_of(key),
            port=port_of(key),
            policy=policy,
            rule=rule,
            endpoints=cluster,
            local_endpoints=tuple(self._slots(first, LOCAL_OFFSET, named[LOCAL_OFFSET])),
            source_ranges=tuple(sorted(self._ranges.get(key, ()))),
        )

    def affinity_seconds(self, key: bytes) -> int | None:
        """The affinity timeout of a frontend."""
        family, set_id = set_of(key)
        learn = S.LEARN if set_id is S.SERVICES else S.LEARN_NODEPORTS
        found = self._elements.get(key_prefix(family, learn) + key[1:])
        learning = _LEARNING.fullmatch(found.verdict) if isinstance(found, Verdict) else None
        return int(learning[1]) if learning else None

    def _verdict(self, key: bytes) -> Verdict:
        found = self._elements[key]
        if not isinstance(found, Verdict):
            raise TypeError(f"{found!r} in a verdict map")
        return found

    def _local_verdict(self, key: bytes) -> Verdict | None:
        family, set_id = set_of(key)
        local = S.EXTERNAL_LOCAL if set_id is S.SERVICES else S.NODEPORT_LOCAL
        found = self._elements.get(key_prefix(family, local) + key[1:])
        return found if isinstance(found, Verdict) else None

    def _slots(self, prefix: bytes, slot: int, count: int) -> Iterator[str]:
        """The endpoints of a list of so many; there are none where somebody emptied a slot."""
        end = slot + min(count, len(self._elements))
        while True:
            found = self._elements.get(prefix + native32(slot))
            if isinstance(found, bytes):
                yield endpoint(found)
            elif slot >= end:
                return
            slot += 1


def _is_local(value: Verdict) -> bool:
    """Only policy Local picks from a local list, or drops where the list is empty."""
    return value.verdict == "drop" or "local-" in value.verdict


def _target(value: Verdict) -> str:
    return value.verdict.rpartition(" ")[2]


def _networks(first: bytes, key: bytes) -> list[str]:
    """The networks from a first address to the one that ends an interval's key."""
    last = ip_address(key[-len(first) :])
    return [str(net) for net in summarize_address_range(ip_address(first), last)]
