"""How are many elements of one size read at once? Pure.

The elements of a set without comments, timeouts and verdicts differ in their keys and data only:
the attribute headers between them are constant. One look at those tells that a whole run is of
that kind, and the rest is slicing; a restart reads 100,000 elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from itertools import repeat
from typing import NamedTuple

from modes.nftables import netlink as nl
from modes.nftables.sets import SetSpec

_THREE_HEADERS = struct.Struct("=6H")
_TWO_HEADERS = struct.Struct("=4H")


class _Row(NamedTuple):
    """One element as the kernel dumps it: it does not mark nested attributes in elements."""

    layout: struct.Struct
    head: bytes
    """The headers before the key."""
    middle: bytes
    """The headers between the key and the data of a map; empty for a set."""


@cache
def _row(spec: SetSpec) -> _Row:
    key, data = spec.key_size, spec.data_size
    if not data:
        layout = struct.Struct(f"{_THREE_HEADERS.size}s{key}s")
        return _Row(layout, _head(layout.size, key), b"")
    layout = struct.Struct(f"{_THREE_HEADERS.size}s{key}s{_TWO_HEADERS.size}s{data}s")
    middle = _TWO_HEADERS.pack(data + 8, nl.NFTA_ELEM_DATA, data + 4, nl.NFTA_DATA_VALUE)
    return _Row(layout, _head(layout.size, key), middle)


def _head(whole: int, key: int) -> bytes:
    sizes = (whole, nl.NFTA_LIST_ELEM, key + 8, nl.NFTA_ELEM_KEY, key + 4, nl.NFTA_DATA_VALUE)
    return _THREE_HEADERS.pack(*sizes)


def rows(spec: SetSpec, listed: bytes) -> Iterator[tuple[bytes, bytes]] | None:
    """Key and data (empty in a set) of each element; None if any is of another kind."""
    row = _row(spec)
    if not listed or len(listed) % row.layout.size:
        return None
    columns = list(zip(*row.layout.iter_unpack(listed), strict=True))
    if set(columns[0]) != {row.head}:
        return None
    if not row.middle:
        return zip(columns[1], repeat(b""), strict=False)
    return zip(columns[1], columns[3], strict=True) if set(columns[2]) == {row.middle} else None
