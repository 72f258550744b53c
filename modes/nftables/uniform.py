"""How are many elements of one size read at once? Pure.

The elements of a set without comments and verdicts differ in their keys, data and times only: the
attribute headers between them are constant. One look at those tells that a whole run is of that
kind, and the rest is slicing; a restart reads 100,000 elements, and a comparison all clients.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from itertools import repeat
from typing import NamedTuple

from modes.nftables import netlink as nl
from modes.nftables.sets import SetSpec

_THREE_HEADERS = struct.Struct("=6H")
_TWO_HEADERS = struct.Struct("=4H")
_HEADER = struct.Struct("=2H")


class Columns(NamedTuple):
    """What elements hold, side by side."""

    keys: Iterable[bytes]
    data: Iterable[bytes]
    """Empty in a set."""
    timeouts_ms: Iterable[int]
    """0 where only we add elements, as the next."""
    expirations_ms: Iterable[int]


class _Layout(NamedTuple):
    """One element as the kernel dumps it: it does not mark nested attributes in elements.

    Key, data of a map, timeout and expiration each follow a header.
    """

    values: struct.Struct
    """They alone; of the headers only how long they are."""
    headers: tuple[tuple[int, int], ...]
    """Where each of their bytes is, and what it is."""


@cache
def _layout(spec: SetSpec) -> _Layout:
    key, data = spec.key_size, spec.data_size
    parts: list[tuple[bytes, str]] = [(b"", f"{key}s")]
    if data:
        header = _TWO_HEADERS.pack(data + 8, nl.NFTA_ELEM_DATA, data + 4, nl.NFTA_DATA_VALUE)
        parts.append((header, f"{data}s"))
    if spec.dynamic_size:
        parts += [
            (_HEADER.pack(12, of), "Q") for of in (nl.NFTA_ELEM_TIMEOUT, nl.NFTA_ELEM_EXPIRATION)
        ]
    whole = _THREE_HEADERS.size + sum(
        len(header) + struct.calcsize(f">{form}") for header, form in parts
    )
    sizes = (whole, nl.NFTA_LIST_ELEM, key + 8, nl.NFTA_ELEM_KEY, key + 4, nl.NFTA_DATA_VALUE)
    parts[0] = (_THREE_HEADERS.pack(*sizes), parts[0][1])
    form, at, headers = ">", 0, []
    for header, value in parts:
        headers += list(enumerate(header, at))
        form += f"{len(header)}x{value}"
        at += len(header) + struct.calcsize(f">{value}")
    return _Layout(struct.Struct(form), tuple(headers))


def columns(spec: SetSpec, prefix: bytes, listed: bytes) -> Columns | None:
    """What each element holds; None if any of them is of another kind. The prefix leads each key.

    A header is the same in all: its first bytes are one slice, its second bytes another.
    """
    values, headers = _layout(spec)
    count, rest = divmod(len(listed), values.size)
    if not count or rest:
        return None
    if any(listed[at :: values.size] != bytes((byte,)) * count for at, byte in headers):
        return None
    found = list(zip(*values.iter_unpack(listed), strict=True))
    keys = map(prefix.__add__, found[0])
    data = found[1] if spec.data_size else repeat(b"", count)
    if not spec.dynamic_size:
        return Columns(keys, data, repeat(0, count), repeat(0, count))
    return Columns(keys, data, *found[-2:])
