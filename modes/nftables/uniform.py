"""How are many elements of one size read at once? Pure.

The elements of a set without comments and verdicts differ in their keys, data and times only: the
attribute headers between them are constant. One look at those tells that a whole run is of that
kind, and the rest is slicing; a restart reads 100,000 elements, and a comparison all clients.
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
_HEADER = struct.Struct("=2H")
_TIMELESS = (repeat(0), repeat(0))

Row = tuple[bytes, bytes, int, int]


class _Layout(NamedTuple):
    """One element as the kernel dumps it: it does not mark nested attributes in elements.

    Headers and what follows them take turns: key, data of a map, timeout, expiration.
    """

    layout: struct.Struct
    headers: tuple[bytes, ...]


@cache
def _layout(spec: SetSpec) -> _Layout:
    key, data = spec.key_size, spec.data_size
    form = f">{_THREE_HEADERS.size}s{key}s"
    headers = []
    if data:
        form += f"{_TWO_HEADERS.size}s{data}s"
        headers = [_TWO_HEADERS.pack(data + 8, nl.NFTA_ELEM_DATA, data + 4, nl.NFTA_DATA_VALUE)]
    if spec.dynamic_size:
        form += "4sQ4sQ"
        headers += [_HEADER.pack(12, of) for of in (nl.NFTA_ELEM_TIMEOUT, nl.NFTA_ELEM_EXPIRATION)]
    layout = struct.Struct(form)
    return _Layout(layout, (_head(layout.size, key), *headers))


def _head(whole: int, key: int) -> bytes:
    sizes = (whole, nl.NFTA_LIST_ELEM, key + 8, nl.NFTA_ELEM_KEY, key + 4, nl.NFTA_DATA_VALUE)
    return _THREE_HEADERS.pack(*sizes)


def rows(spec: SetSpec, prefix: bytes, listed: bytes) -> Iterator[Row] | None:
    """Key, data, timeout and expiration of each element; None if any is of another kind.

    The prefix leads each key. The data is empty in a set, the times (milliseconds) are 0 where only
    we add elements.
    """
    row = _layout(spec)
    if not listed or len(listed) % row.layout.size:
        return None
    columns = list(zip(*row.layout.iter_unpack(listed), strict=True))
    if any(set(columns[2 * n]) != {header} for n, header in enumerate(row.headers)):
        return None
    keys = map(prefix.__add__, columns[1])
    data = columns[3] if spec.data_size else repeat(b"")
    times = (columns[5], columns[7]) if spec.dynamic_size else _TIMELESS
    return zip(keys, data, *times, strict=False)
