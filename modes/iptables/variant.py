"""Which of its two iptables does the host use? Pure.

The same rules can lie in the kernel's old tables (`iptables-legacy`) or in nf_tables
(`iptables-nft`). Both at once work, each in its own hooks, and nobody who looks at one of them sees
the other: a Service is then answered by whichever runs first (kubernetes/kubernetes #71305).
"""

from __future__ import annotations

from enum import StrEnum


class Variant(StrEnum):
    """The two kinds of iptables, by the name that their programs carry."""

    LEGACY = "legacy"
    NFT = "nft"
