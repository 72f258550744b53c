"""What in the tables that the kernel holds is not as this node's Services want it? Pure.

Each difference names its Service: the one that wants an element, or that the comment beside an
element names which nobody wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from endpoints.addresses import pack, unpack
from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.plan import Frontend, FrontendKind, ServicePlan
from modes.held import Difference, DifferenceKind, Only
from modes.nftables import affinity, delta
from modes.nftables.adopt import Misfit, TableFound, fitting_sets, misfits
from modes.nftables.codec import Found, is_catch_all, spec_of
from modes.nftables.dump import client, describe, endpoint, source_ranges
from modes.nftables.elements import (
    Elements,
    Value,
    Verdict,
    is_shared,
    key_prefix,
    render,
    render_node,
    set_of,
)
from modes.nftables.frontends import SLOTTED, UNKNOWN, address_of, frontend_of, owners, words
from modes.nftables.sets import S, set_specs
from modes.nftables.shape import shape_of
from modes.nftables.skeleton import LOCAL_OFFSET, TABLE, TABLE_FAMILY, Layout

_VALID = (
    S.AFFINITY_VALID,
    S.AFFINITY_VALID_NODEPORTS,
    S.AFFINITY_LOCAL_VALID,
    S.AFFINITY_LOCAL_VALID_NODEPORTS,
)


class Seen(msgspec.Struct, frozen=True):
    """What was read of the kernel."""

    tables: Mapping[Family, TableFound]
    """Families without one are left out."""
    elements: Elements
    """Of sets that are as this program would make them."""
    clients: tuple[Found, ...]
    """Elements of the maps that packets write to."""
    frontends: frozenset[bytes] | None
    """Those whose endpoints and clients were read; None: all."""
    lookups_can_miss: bool
    """Of the kernel that was read."""


def differences(
    seen: Seen, only: Only, node: NodeView, plans: Iterable[ServicePlan]
) -> tuple[Difference, ...]:
    """What differs of those that are asked for, and of no Service; sorted."""
    meant = [plan for plan in plans if _is_meant(plan, only)]
    wanted, whose = _wanted(seen, node, meant)
    told = set(_structure(seen, node))
    told.update(_lost(seen, wanted, whose))
    told.update(_Elements(seen, wanted, whose).differences())
    return tuple(sorted(told))


def _is_meant(plan: ServicePlan, only: Only) -> bool:
    """Whether a plan is asked for, as `Only.holds` says of what is held."""
    if only.all:
        return True
    if only.service:
        return only.names(str(plan.name))
    return plan.name.protocol == only.protocol and any(
        frontend.port == only.port and _is_at(frontend, only.address) for frontend in plan.frontends
    )


def _is_at(frontend: Frontend, address: str) -> bool:
    return frontend.kind is FrontendKind.NODE_PORT or frontend.address == address


def _wanted(
    seen: Seen, node: NodeView, plans: Iterable[ServicePlan]
) -> tuple[Elements, dict[bytes, str]]:
    """What the kernel should hold, and for which Service port; the node's own is for none."""
    wanted = render_node(node)
    whose = dict.fromkeys(wanted, "")
    for plan in plans:
        name = str(plan.name)
        held = render([plan], seen.elements, pick_refuses=not seen.lookups_can_miss)
        for key, value in held.items():
            wanted[key] = value
            whose.setdefault(key, name)
    return wanted, whose


def _table(family: Family) -> str:
    return f"table {TABLE_FAMILY[family]} {TABLE}"


def _structure(seen: Seen, node: NodeView) -> Iterator[Difference]:
    """Tables, sets, chains with their rules, and what does not belong there."""
    for family in Family:
        shape = shape_of(node, family, lookups_can_miss=seen.lookups_can_miss)
        for misfit in misfits(seen.tables.get(family), Layout(shape)):
            yield Difference("", misfit.kind, _words_of_misfit(misfit, family))


def _words_of_misfit(misfit: Misfit, family: Family) -> str:
    subject = f"{misfit.what} of {_table(family)}" if misfit.what else _table(family)
    return f"{subject} {misfit.how}".rstrip()


def _readable(seen: Seen) -> frozenset[int]:
    """The bytes that lead the keys of sets whose elements could be read."""
    return frozenset(
        key_prefix(family, set_id)[0]
        for family, table in seen.tables.items()
        for set_id in fitting_sets(table, family)
    )


def _lost(seen: Seen, wanted: Elements, whose: Mapping[bytes, str]) -> Iterator[Difference]:
    """What Services lack because a table or a set is not there, or is of another layout.

    One difference for each Service and set, however many elements it has there: the set itself is
    told with the structure.
    """
    readable = _readable(seen)
    if len(readable) == sum(len(set_specs(family)) for family in Family):
        return
    for key in wanted:
        if key[0] in readable or not whose[key]:
            continue
        family, _ = set_of(key)
        what = f"every rule of it ({_table(family)} is missing)"
        if family in seen.tables:
            what = f"everything of it in {spec_of(*set_of(key)).words} of {_table(family)}"
        yield Difference(whose[key], DifferenceKind.MISSING, what)


class _Elements:
    """The comparison of the elements of sets that could be read."""

    def __init__(self, seen: Seen, wanted: Elements, whose: Mapping[bytes, str]) -> None:
        self._whose = whose
        self._held = owners(seen.elements)
        self._by_address: dict[bytes, str] | None = None
        self._all_wanted = wanted
        readable = _readable(seen)
        self._found = seen.elements
        self._wanted = {key: value for key, value in wanted.items() if key[0] in readable}
        self._clients: Iterable[Found] = seen.clients
        self._read = seen.frontends
        if seen.frontends is not None:
            self._narrow(seen.frontends)

    def _narrow(self, read: frozenset[bytes]) -> None:
        """Leave out what was not asked for, and what nobody looked at."""
        meant = read | {frontend_of(key) for key in self._wanted}
        self._found = {k: v for k, v in self._found.items() if self._is_meant(k, meant)}
        self._wanted = {
            key: value
            for key, value in self._wanted.items()
            if set_of(key)[1] not in SLOTTED or frontend_of(key) in read
        }
        self._clients = [entry for entry in self._clients if frontend_of(entry.key) in meant]

    def _is_meant(self, key: bytes, frontends: AbstractSet[bytes]) -> bool:
        if is_catch_all(key) or set_of(key)[1] is S.NODEPORT_IPS:
            return True
        if is_shared(key):  # whether others want it, only they can tell
            return key in self._wanted
        return frontend_of(key) in frontends

    def differences(self) -> Iterator[Difference]:
        """What is missing, what is there too much, and what differs."""
        changes = delta.difference(self._found, self._wanted)
        if changes:
            deletes = changes.deletes - changes.adds.keys()
            yield from self._missing_or_different(changes.adds)
            yield from self._told(DifferenceKind.EXTRA, {k: self._found[k] for k in deletes})
        by_key = {entry.key: entry for entry in self._clients}
        for key in affinity.lies(by_key.values(), self._all_wanted):
            what = _words_of_client(by_key[key])
            yield Difference(self._owner(key), DifferenceKind.EXTRA, what)

    def _missing_or_different(self, adds: Elements) -> Iterator[Difference]:
        missing: Elements = {}
        for key, wanted in adds.items():
            have = self._found.get(key)
            if have is None:
                missing[key] = wanted
            else:
                what = _words_of_both(key, have, wanted)
                yield Difference(self._owner(key), DifferenceKind.DIFFERENT, what)
        yield from self._told(DifferenceKind.MISSING, missing)

    def _told(self, kind: DifferenceKind, elements: Elements) -> Iterator[Difference]:
        """Elements that are on one side only; of frontends that are, all elements at once."""
        other = self._found if kind is DifferenceKind.MISSING else self._wanted
        on_both = {frontend_of(key) for key in other} if elements else set()
        for key, value in elements.items():
            frontend = frontend_of(key)
            what = _words(key, value)
            if frontend and frontend not in on_both and self._is_read(frontend):
                what = f"{words(frontend)} and all that belongs to it"
            yield Difference(self._owner(key), kind, what)

    def _is_read(self, frontend: bytes) -> bool:
        """Whether its endpoints were looked at: they are not where the kernel names no Service."""
        return self._read is None or frontend in self._read

    def _owner(self, key: bytes) -> str:
        """Who wants an element, or wanted it once; nobody, as far as one can tell."""
        if key in self._whose:
            return self._whose[key]
        frontend = frontend_of(key)
        if set_of(key)[1] in (S.CLUSTER_IPS, S.SPECIAL_IPS):
            return self._owner_of_address(key_prefix(set_of(key)[0], S.CLUSTER_IPS) + key[1:])
        held = self._held.get(frontend)
        if held is not None and held.name != UNKNOWN:
            return held.name
        return self._whose.get(frontend, "")

    def _owner_of_address(self, key: bytes) -> str:
        if self._by_address is None:
            wanted = {f: name for f, name in self._whose.items() if frontend_of(f) == f}
            held = {f: owner.name for f, owner in self._held.items() if owner.name != UNKNOWN}
            self._by_address = {_address(f): name for f, name in {**wanted, **held}.items()}
        return self._by_address.get(key, "")


def _address(frontend: bytes) -> bytes:
    """The key in `cluster-ips` of the address of a frontend; of a NodePort one that nothing has."""
    address = address_of(frontend)
    packed = b"" if address == "node" else pack(address)
    return key_prefix(set_of(frontend)[0], S.CLUSTER_IPS) + packed


def _words(key: bytes, value: Value) -> str:
    """An element, in an operator's words: `10.96.0.10:53/UDP in map services`."""
    family, set_id = set_of(key)
    frontend, name = frontend_of(key), spec_of(family, set_id).words
    if is_catch_all(key):
        return f"* in {name} of {_table(family)}"
    if set_id in SLOTTED:
        to = endpoint(value) if isinstance(value, bytes) else ""
        return f"endpoint {to} in {_slot(key)}"
    if set_id in _VALID:
        start = len(frontend)
        return f"endpoint {endpoint(key[start:])} of {words(frontend)} in {name}"
    if set_id is S.LB_SOURCES:
        ranges = ", ".join(source_ranges(key))
        return f"source range {ranges} of {words(frontend)} in {name}"
    if frontend:
        return f"{words(frontend)} in {name}"
    address = unpack(key[1 : 1 + spec_of(family, set_id).field_sizes[0]])
    return f"{address} in {name}"


def _slot(key: bytes) -> str:
    """`slot 2 of 10.96.7.7:80/TCP`."""
    slot = int(describe(key).rpartition(" ")[2])
    of = words(frontend_of(key))
    return (
        f"slot {slot} of {of}"
        if slot < LOCAL_OFFSET
        else f"local slot {slot - LOCAL_OFFSET} of {of}"
    )


def _words_of_both(key: bytes, have: Value, wanted: Value) -> str:
    """An element with other data than it should have."""
    where = _slot(key) if set_of(key)[1] in SLOTTED else _words(key, wanted)
    said, meant = _data(have), _data(wanted)
    if said == meant:
        said, meant = _comment(have), _comment(wanted)
    return f"{where}: {said}, should be {meant}"


def _data(value: Value) -> str:
    return value.verdict if isinstance(value, Verdict) else endpoint(value)


def _comment(value: Value) -> str:
    return (
        f'comment "{value.comment}"'
        if isinstance(value, Verdict) and value.comment
        else "no comment"
    )


def _words_of_client(entry: Found) -> str:
    if is_catch_all(entry.key):
        return _words(entry.key, entry.value)
    kept = client(entry)
    place, name = words(frontend_of(entry.key)), spec_of(*set_of(entry.key)).words
    return f"client {kept.address} of {place} on {kept.endpoint} in {name}"
