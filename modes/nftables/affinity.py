"""Which remembered clients must be forgotten, and which carried over? Pure.

Packets put clients into the affinity maps (`learn-T` chains), one for each list of endpoints. An
entry is a lie as soon as its endpoint may no longer be chosen for that frontend, and doubtful as
soon as the frontend's policy changed: a client from outside must not go on to an endpoint of
another node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from typing import NamedTuple

from endpoints.names import Family
from modes.nftables import codec
from modes.nftables import netlink as nl
from modes.nftables.codec import Found
from modes.nftables.delta import Changes
from modes.nftables.elements import Value, key_prefix, set_of
from modes.nftables.sets import S
from modes.nftables.skeleton import TABLE

MAPS = {
    S.AFFINITY: (S.AFFINITY_VALID, S.EXTERNAL_LOCAL),
    S.AFFINITY_NODEPORTS: (S.AFFINITY_VALID_NODEPORTS, S.NODEPORT_LOCAL),
    S.AFFINITY_LOCAL: (S.AFFINITY_LOCAL_VALID, S.EXTERNAL_LOCAL),
    S.AFFINITY_LOCAL_NODEPORTS: (S.AFFINITY_LOCAL_VALID_NODEPORTS, S.NODEPORT_LOCAL),
}
"""Each map of clients, with the set of endpoints that may be learnt and the map of policies."""


class Doubts(NamedTuple):
    """What a change makes of entries of one affinity map."""

    gone: frozenset[bytes]
    """Frontend key and endpoint, joined."""
    reset: frozenset[bytes]
    """Frontend keys."""


def doubts(changes: Changes) -> dict[tuple[Family, S], Doubts]:
    """The affinity maps that a change casts doubt on."""
    out: dict[tuple[Family, S], Doubts] = {}
    deletes, adds = _of_interest(changes.deletes), _of_interest(changes.adds)
    for family in Family:
        for affinity, (valid, policy) in MAPS.items():
            leads, decides = key_prefix(family, valid)[0], key_prefix(family, policy)[0]
            gone = {key[1:] for key in deletes if key[0] == leads}
            gone.difference_update([key[1:] for key in adds if key[0] == leads])
            reset = {key[1:] for key in deletes if key[0] == decides}
            reset.symmetric_difference_update([k[1:] for k in adds if k[0] == decides])
            if gone or reset:
                out[family, affinity] = Doubts(frozenset(gone), frozenset(reset))
    return out


_INTERESTING = frozenset(
    key_prefix(family, set_id)[0] for family in Family for sets in MAPS.values() for set_id in sets
)


def _of_interest(keys: Iterable[bytes]) -> list[bytes]:
    """Most elements of most changes are slots; they are looked at once."""
    return [key for key in keys if key[0] in _INTERESTING]


def stale(found: Iterable[Found], doubt: Doubts) -> Iterator[bytes]:
    """The keys of the entries to delete."""
    for key, value, *_ in found:
        frontend = key[1 + _address_size(key) :]
        if frontend in doubt.reset or (isinstance(value, bytes) and frontend + value in doubt.gone):
            yield key


def lies(found: Iterable[Found], held: Mapping[bytes, Value]) -> Iterator[bytes]:
    """The keys of entries of one map whose endpoint may not be learnt: no packet put them there.

    `held` is what the table should hold. Whether a packet or somebody else put in an entry with an
    endpoint of its frontend's list, nothing tells.
    """
    return (entry.key for entry in found if not _is_valid(entry, held))


def _is_valid(entry: Found, held: Mapping[bytes, Value]) -> bool:
    valid, start = _valid_of(entry.key[0])
    return isinstance(entry.value, bytes) and valid + entry.key[start:] + entry.value in held


@cache
def _valid_of(leading: int) -> tuple[bytes, int]:
    """Where the endpoints are that an entry may have, and where its key names the frontend."""
    key = bytes((leading,))
    family, set_id = set_of(key)
    return key_prefix(family, MAPS[set_id][0]), 1 + _address_size(key)


def _address_size(key: bytes) -> int:
    family, set_id = set_of(key)
    return codec.spec_of(family, set_id).field_sizes[0]


def carried_over(
    found: Iterable[Found], local: AbstractSet[bytes], wanted: Mapping[bytes, Value]
) -> Iterator[nl.Message]:
    """Messages that put into a new table what the old one remembered and is still true.

    `local` are the keys of the old table's maps of policies: as when a table is changed, a
    frontend whose policy is another one now begins anew.
    """
    for entry in found:
        family, set_id = set_of(entry.key)
        policy = key_prefix(family, MAPS[set_id][1])
        frontend = entry.key[1 + _address_size(entry.key) :]
        if (policy + frontend in local) is not (policy + frontend in wanted):
            continue
        if _is_valid(entry, wanted):
            body = nl.element_list(TABLE, set_id.set_name, [codec.encode_timed(entry)])
            yield nl.Message(nl.NEWSETELEM, nl.NLM_F_CREATE, family, body, [entry.key])
