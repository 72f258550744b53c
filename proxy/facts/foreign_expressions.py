"""What does one expression of nf_tables load into a register? Pure.

Numbers are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from modes.wire import attributes, words
from proxy.facts.foreign import Field
from proxy.facts.foreign_values import Loaded

_NETWORK, _TRANSPORT = 1, 2
_META = {
    4: Loaded(None, "iif", 4),
    5: Loaded(None, "oif", 4),
    6: Loaded(Field.IN_INTERFACE, "iifname", 16),
    7: Loaded(Field.OUT_INTERFACE, "oifname", 16),
    15: Loaded(Field.FAMILY, "meta nfproto", 1),
    16: Loaded(Field.PROTOCOL, "meta l4proto", 1),
}
_CT = {0: Loaded(Field.STATE, "ct state", 4), 2: Loaded(Field.STATE, "ct status", 4)}
_FIB_TYPE = 3
_FIB = {
    1: Loaded(Field.SOURCE_TYPE, "fib saddr type", 4),
    2: Loaded(Field.DESTINATION_TYPE, "fib daddr type", 4),
}
_ADDRESS = {  # by offset in the network header and size
    (12, 4): Field.SOURCE,
    (16, 4): Field.DESTINATION,
    (8, 16): Field.SOURCE,
    (24, 16): Field.DESTINATION,
}
WRITERS = ("payload", "meta", "ct")
"""With a register to load they read a field, without one they write it."""
_SIZE = struct.Struct("=H")


class Expression(NamedTuple):
    """One expression of a rule."""

    name: str
    parts: Mapping[int, bytes]
    numbers: Mapping[int, int]
    """The parts that are integers."""
    loads: tuple[Loaded, Loaded] | None = None
    """What is in the register of part 1 from now on, of an IPv4 packet and of an IPv6 one."""

    def word(self, key: int) -> int:
        """The word of four bytes at which the register of this part starts."""
        number = self.numbers.get(key, 0)
        return number - 8 if number >= 8 else (number - 1) * 4  # noqa: PLR2004 (NFT_REG32_00)


@lru_cache(maxsize=8192)
def expression(encoded: bytes) -> Expression:
    """An expression of a rule; most rules are made of the same few."""
    told = dict(attributes(encoded))
    parts = dict(attributes(told.get(2, b"")))
    numbers = {key: int.from_bytes(v, "big") for key, v in parts.items() if len(v) <= 4}  # noqa: PLR2004 (32 bits)
    name = words(told.get(1, b""))
    return Expression(name, parts, numbers, _loads(name, numbers))


def _loads(name: str, numbers: Mapping[int, int]) -> tuple[Loaded, Loaded] | None:
    if 1 not in numbers:
        return None
    key = numbers.get(2, 0)
    match name:
        case "payload":
            offset, size = numbers.get(3, 0), numbers.get(4, 0)
            return _header(key, offset, size, 4), _header(key, offset, size, 16)
        case "meta":
            what = _META.get(key) or Loaded(None, f"meta {key}", 0)
        case "ct":
            of_one_direction = 3 in numbers  # noqa: PLR2004 (NFTA_CT_DIRECTION)
            what = (not of_one_direction and _CT.get(key)) or Loaded(None, f"ct {key}", 0)
        case "fib":
            of_type = key == _FIB_TYPE
            what = (of_type and _FIB.get(numbers.get(3, 0))) or Loaded(None, "fib", 0)
        case "numgen":
            what = Loaded(None, "numgen", 0)
        case _:
            return None
    return what, what


def _header(base: int, offset: int, size: int, whole: int) -> Loaded:
    """What is there in a packet whose addresses have `whole` bytes."""
    if base == _TRANSPORT and size == 2 and offset in (0, 2):  # noqa: PLR2004 (the ports)
        field = Field.DESTINATION_PORT if offset else Field.SOURCE_PORT
        return Loaded(field, "th dport" if offset else "th sport", 2)
    if base == _NETWORK:
        if (whole, offset, size) == (4, 9, 1):
            return Loaded(Field.PROTOCOL, "ip protocol", 1)
        found = _ADDRESS.get((offset, whole))
        if found and size <= whole:
            return Loaded(found, "", whole, mask=b"\xff" * size + bytes(whole - size))
    return Loaded(None, f"@{base},{offset},{size}", size)


def payloads(data: bytes) -> list[bytes]:
    """The payloads of a list's elements: `attributes`, where time counts."""
    found, start, end = [], 0, len(data)
    while start + 4 <= end:
        size: int = _SIZE.unpack_from(data, start)[0]
        if size < 4:  # noqa: PLR2004 (a header): not attributes at all
            break
        found.append(data[start + 4 : start + size])
        start += (size + 3) & ~3
    return found
