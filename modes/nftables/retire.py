"""Which tables go when another mode serves, or kube-proxy's nftables mode has stopped? Pure.

A table goes with everything in it, in one transaction. Connections that its rules translated live
on: their translation stands in conntrack.
"""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.skeleton import TABLE

KUBE_PROXY = "kube-proxy"
"""The table of kube-proxy's nftables mode, in both families (REFERENCE A.2, nft objects). Its
chains that refuse stand before our translation: a Service that had no endpoints when kube-proxy was
stopped would be refused as long as it is there."""


def deletions(tables: Iterable[tuple[Family, str]], *, keeps_ours: bool) -> list[nl.Message]:
    """What removes kube-proxy's tables of those that are there, and ours unless they are kept."""
    leaving = {KUBE_PROXY} if keeps_ours else {KUBE_PROXY, TABLE}
    return [ruleset.delete_table(of, name) for of, name in sorted(tables) if name in leaving]
