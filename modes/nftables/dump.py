"""What do the elements that the kernel holds mean to an operator? Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, summarize_address_range

from endpoints.addresses import unpack
from endpoints.names import Family, Protocol
from endpoints.plan import TrafficPolicy
from modes.held import DumpedFrontend, DumpedService
from modes.nftables.codec import is_catch_all, spec_of
from modes.nftables.elements import Value, Verdict, key_prefix, set_of
from modes.nftables.sets import S
from modes.nftables.skeleton import LOCAL_OFFSET, TABLE_FAMILY

_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}
_UNKNOWN = "?"


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


def services_in(elements: Mapping[bytes, Value]) -> tuple[DumpedService, ...]:
    """All Services, sorted by name, protocol and family; frontends as in the kernel's maps."""
    reader = _Reader(elements)
    frontends: dict[tuple[str, str, str], list[DumpedFrontend]] = {}
    affinity: dict[tuple[str, str, str], int] = {}
    for key, value in elements.items():
        family, set_id = set_of(key)
        if set_id not in (S.SERVICES, S.NODEPORTS) or not isinstance(value, Verdict):
            continue
        if is_catch_all(key):
            continue
        protocol = _field("inet_proto", key[-8:-4]).upper()
        name = (value.comment or _UNKNOWN, protocol, family.value)
        frontends.setdefault(name, []).append(reader.frontend(key, value))
        seconds = reader.affinity_seconds(key)
        if seconds:
            affinity[name] = seconds
    return tuple(
        DumpedService(*name, tuple(sorted(listed, key=_order)), affinity.get(name))
        for name, listed in sorted(frontends.items())
    )


def _order(frontend: DumpedFrontend) -> tuple[bool, str, int]:
    return (frontend.address == "node", frontend.address, frontend.port)


class _Reader:
    """Lookups in the elements of both tables, as a packet makes them."""

    def __init__(self, elements: Mapping[bytes, Value]) -> None:
        self._elements = elements
        self._ranges: dict[bytes, list[str]] = {}
        for key in elements:
            family, set_id = set_of(key)
            if set_id is S.LB_SOURCES:
                frontend, cidrs = _source_range(family, key)
                self._ranges.setdefault(frontend, []).extend(cidrs)

    def frontend(self, key: bytes, value: Verdict) -> DumpedFrontend:
        """One element of `services` or `nodeports` with all that belongs to it."""
        family, set_id = set_of(key)
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
        cluster = () if internal_local else tuple(self._slots(family, slots, key[1:], 0))
        return DumpedFrontend(
            address=unpack(key[1:-8]) if by_address else "node",
            port=int.from_bytes(key[-4:-2], "big"),
            policy=policy,
            rule=rule,
            endpoints=cluster,
            local_endpoints=tuple(self._slots(family, slots, key[1:], LOCAL_OFFSET)),
            source_ranges=tuple(sorted(self._ranges.get(key, ()))),
        )

    def affinity_seconds(self, key: bytes) -> int | None:
        """The affinity timeout of a frontend."""
        family, set_id = set_of(key)
        learn = S.LEARN if set_id is S.SERVICES else S.LEARN_NODEPORTS
        found = self._elements.get(key_prefix(family, learn) + key[1:])
        return int(found.verdict.rpartition("-")[2]) if isinstance(found, Verdict) else None

    def _local_verdict(self, key: bytes) -> Verdict | None:
        family, set_id = set_of(key)
        local = S.EXTERNAL_LOCAL if set_id is S.SERVICES else S.NODEPORT_LOCAL
        found = self._elements.get(key_prefix(family, local) + key[1:])
        return found if isinstance(found, Verdict) else None

    def _slots(self, family: Family, set_id: S, key: bytes, slot: int) -> Iterator[str]:
        prefix = key_prefix(family, set_id) + key
        while True:
            found = self._elements.get(prefix + slot.to_bytes(4, sys.byteorder))
            if not isinstance(found, bytes):
                return
            address, port = unpack(found[:-4]), int.from_bytes(found[-4:-2], "big")
            yield f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            slot += 1


def _is_local(value: Verdict) -> bool:
    """Only policy Local picks from a local list, or drops where the list is empty."""
    return value.verdict == "drop" or "local-" in value.verdict


def _target(value: Verdict) -> str:
    return value.verdict.rpartition(" ")[2]


def _source_range(family: Family, key: bytes) -> tuple[bytes, list[str]]:
    """The frontend that a source range belongs to, as a key of `services`, and the range."""
    size = (len(key) - 1) // 2
    address = 4 if family is Family.IPV4 else 16
    frontend = key_prefix(family, S.SERVICES) + key[1 : 1 + size - address]
    return frontend, _networks(key[1 + size - address : 1 + size], key)


def _networks(first: bytes, key: bytes) -> list[str]:
    """The networks from a first address to the one that ends an interval's key."""
    last = ip_address(key[-len(first) :])
    return [str(net) for net in summarize_address_range(ip_address(first), last)]
