"""What may be missing from a host's iptables without much harm? Pure."""

from __future__ import annotations

import msgspec


class Abilities(msgspec.Struct, frozen=True):
    """Which optional extensions the host's iptables and its kernel both have, in one family."""

    comment: bool = True
    """xt_comment."""
    recent: bool = True
    """xt_recent: session affinity."""
    random_fully: bool = True
    """MASQUERADE --random-fully."""
    counters: bool = False
    """xt_nfacct, and its counters exist."""
    ipvs: bool = True
    """xt_ipvs: whether IPVS has sent a packet on already."""
