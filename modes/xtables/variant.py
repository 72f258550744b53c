"""Which of its two iptables does the host use? Pure.

The same rules can lie in the kernel's old tables (`iptables-legacy`) or in nf_tables
(`iptables-nft`). Both at once work, each in its own hooks, and nobody who looks at one of them sees
the other: a Service is then answered by whichever runs first (kubernetes/kubernetes #71305).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from modes.base import EnvironmentFault
from modes.xtables import names
from modes.xtables.script import lines

AUTO = "auto"
HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
"""Chains that the kubelet makes in mangle of the variant that it was started with (KEP-3178)."""

_OF_KUBERNETES = "KUBE-"


class Variant(StrEnum):
    """The two kinds of iptables, by the name that their programs carry."""

    LEGACY = "legacy"
    NFT = "nft"


class Seen(msgspec.Struct, frozen=True):
    """What one variant holds, in both families together."""

    hint: str = ""
    """The kubelet's chain that is in mangle."""
    proxied: bool = False
    """Chains that only headgate and kube-proxy make."""
    others: int = 0
    """Rules of neither Kubernetes' chains nor into them."""

    @property
    def used(self) -> bool:
        """Whether anybody uses this variant."""
        return bool(self.hint or self.proxied or self.others)

    def __add__(self, more: Seen) -> Seen:
        """Both together."""
        return Seen(self.hint or more.hint, self.proxied or more.proxied, self.others + more.others)


class Chosen(msgspec.Struct, frozen=True):
    """The variant to use, and why."""

    variant: Variant
    reason: str
    both: str = ""
    """In words, if the other variant holds Service rules: those of a proxy that used it."""


def seen(saved: str) -> Seen:
    """What the output of iptables-save says, of one table or several."""
    hint = ""
    proxied = False
    others = 0
    for line in lines(saved):
        if line.startswith(":"):
            chain = line[1:].partition(" ")[0]
            hint = hint or (chain if chain in HINTS else "")
            proxied = proxied or _is_proxied(chain)
        elif line.startswith("-A "):
            chain = line[3:].partition(" ")[0]
            target = line.rpartition(" -j ")[2]
            others += not (chain.startswith(_OF_KUBERNETES) or target.startswith(_OF_KUBERNETES))
    return Seen(hint, proxied, others)


def choose(
    wanted: str, found: Mapping[Variant, Seen], faults: Mapping[Variant, str] | None = None
) -> Chosen:
    """The variant to use: the wanted one, or for `auto` the one that the host uses.

    `found` has the variants that work here; `faults` says of others why they do not. Raises
    EnvironmentFault where none works or the wanted one does not, ValueError for a wrong name.
    """
    faults = faults or {}
    if wanted != AUTO and wanted not in set(Variant):
        choices = ", ".join((AUTO, *Variant))
        raise ValueError(f"iptables variant {wanted!r} is none of {choices}")
    usable = [variant for variant in Variant if variant in found and wanted in (AUTO, variant)]
    if not usable:
        said = [fault for variant, fault in faults.items() if wanted in (AUTO, variant)]
        raise EnvironmentFault("; ".join(said) or f"there is no iptables ({wanted})")
    if wanted != AUTO:
        variant, reason = usable[0], "it is configured"
    elif len(usable) == 1:
        variant = usable[0]
        reason = next(iter(faults.values()), f"there is no other iptables than {variant}")
    else:
        variant, reason = _preferred(found[Variant.LEGACY], found[Variant.NFT])
    return Chosen(variant, reason, _both(variant, found))


def _both(variant: Variant, found: Mapping[Variant, Seen]) -> str:
    others = [other for other, looked in found.items() if looked.proxied and other is not variant]
    if not others:
        return ""
    return (
        f"iptables ({others[0]}) holds Service rules beside iptables ({variant}): packets meet "
        "both, and a program of one does not show those of the other"
    )


def _preferred(legacy: Seen, nft: Seen) -> tuple[Variant, str]:
    """Both work: which one, and why."""
    for variant, looked in ((Variant.NFT, nft), (Variant.LEGACY, legacy)):
        if looked.hint:
            return variant, f"the kubelet uses it (chain {looked.hint})"
    if nft.others != legacy.others:
        variant = Variant.NFT if nft.others > legacy.others else Variant.LEGACY
        most = max(nft.others, legacy.others)
        return variant, f"it holds more rules of other programs ({most})"
    if legacy.proxied and not nft.proxied:
        return Variant.LEGACY, "Service rules are in it already"
    if nft.proxied:
        return Variant.NFT, "Service rules are in it already"
    return Variant.NFT, "no program here has shown which one it uses"


def _is_proxied(chain: str) -> bool:
    """The kubelet makes some of the chains that a proxy makes, too (until Kubernetes 1.28)."""
    return chain == names.SERVICES or chain.startswith(names.OF_A_SERVICE)
