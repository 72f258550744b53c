"""Which packet mark leads to which virtual server? Pure.

Externally, policy Local needs two virtual servers at one address and port: the one for those who
bypass the policy is known by a mark, which xt_SET gives their packets. IPVS compares all 32 bits,
so the mark is ours alone from mangle PREROUTING or OUTPUT to mangle POSTROUTING.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from endpoints.names import Family, ServicePortName

_TAG = 0x4B
"""What the first byte of all our marks is."""
_NUMBER_BITS = 23
_MOST = (1 << _NUMBER_BITS) - 1
Owner = tuple[Family, ServicePortName]


class Layout:
    """Our marks, around the bit that asks for masquerade: it stays free for others to set."""

    def __init__(self, masquerade_bit: int) -> None:
        self.masquerade = 1 << masquerade_bit
        self._bit = masquerade_bit
        self.tag = self._spread(_TAG << _NUMBER_BITS)
        self.mask = self._spread(0xFF << _NUMBER_BITS)

    def mark(self, number: int) -> int:
        """The mark of a number from 0; 0 is for trying things out."""
        return self._spread(_TAG << _NUMBER_BITS | number)

    def is_ours(self, mark: int) -> bool:
        """Whether a mark is one that we give."""
        return mark & self.mask == self.tag and not mark & self.masquerade

    def _spread(self, word: int) -> int:
        """31 bits, with a zero put in where the bit for masquerade is."""
        low = word & (1 << self._bit) - 1
        return word >> self._bit << self._bit + 1 | low


class Marks:
    """Which Service port has which mark; one keeps its mark for as long as it needs any."""

    def __init__(
        self, layout: Layout, taken: Mapping[Owner, int], held: Iterable[int] = ()
    ) -> None:
        """`taken` are those that somebody has; of `held` ones there are virtual servers."""
        self.layout = layout
        self._marks = dict(taken)
        self._used = {*self._marks.values(), *held}
        self._next = 1

    def of(self, owner: Owner) -> int:
        """The mark of a Service port, a new one if it has none yet."""
        if owner in self._marks:
            return self._marks[owner]
        mark = self._free()
        self._marks[owner] = mark
        self._used.add(mark)
        return mark

    def _free(self) -> int:
        """The next mark that nobody has."""
        while True:
            mark = self.layout.mark(self._next)
            self._next = self._next % _MOST + 1
            if mark not in self._used:
                return mark

    def keep(self, owners: set[Owner]) -> None:
        """Forget all others."""
        for owner in [owner for owner in self._marks if owner not in owners]:
            self.forget(owner)

    def forget(self, owner: Owner) -> None:
        """The Service port needs no mark any more; one that has none needs none either.

        The mark comes back when all others have been used: connections may still go by it.
        """
        mark = self._marks.pop(owner, None)
        if mark is not None:
            self._used.discard(mark)


def as_address(mark: int, family: Family) -> str:
    """A mark where a set has addresses."""
    if family is Family.IPV4:
        return str(ipaddress.IPv4Address(mark))
    return str(ipaddress.IPv6Address(mark))
