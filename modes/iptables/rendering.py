"""In which words is a plan put into rules? Pure.

What the host's iptables can do, what the operator chose, and how large the cluster is: none of it
decides where a packet goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from modes.xtables.abilities import Abilities

LARGE_CLUSTER = 1_000
"""Endpoints in total above which rules are kept short (kube-proxy's large-cluster mode)."""


def lacking(abilities: Iterable[Abilities]) -> Iterator[str]:
    """What this host's iptables cannot do in some family, a sentence each."""
    abilities = tuple(abilities)
    if not all(of.recent for of in abilities):
        yield "sessionAffinity is not given: iptables has no match recent here (xt_recent)"
    if not all(of.random_fully for of in abilities):
        yield "source ports are drawn in order: MASQUERADE has no --random-fully here"


class Rendering(msgspec.Struct, frozen=True):
    """How rules are written."""

    abilities: Abilities = Abilities()
    masquerade_bit: int = 14
    large: bool = False
    """More than LARGE_CLUSTER endpoints: comments only where `dump` needs them, and no chain for
    an endpoint that is just an address (decision 0008)."""

    @property
    def masquerade_mark(self) -> int:
        """The bit of the packet mark that asks for masquerade."""
        return 1 << self.masquerade_bit
