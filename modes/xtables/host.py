"""Which iptables does this host use, as far as its rules tell?"""

from __future__ import annotations

from collections.abc import Sequence

from endpoints.names import Family
from modes.base import EnvironmentFault, KernelFault, NotPermitted
from modes.xtables import trials
from modes.xtables.kernel import Kernel, apart, variants
from modes.xtables.names import SERVICES, Table
from modes.xtables.variant import AUTO, Chosen, Seen, Variant, choose, seen


def host_variant(wanted: str) -> Chosen:
    """The variant to use: the wanted one, or for `auto` the one that the host uses.

    Reads little where the kubelet says it. Changes nothing, except where the process may not make
    a namespace: then an empty table of nft may remain. Raises EnvironmentFault if none works.
    """
    kernels = {variant: Kernel(variant) for variant in Variant}
    there = variants()
    found: dict[Variant, Seen] = {}
    faults: dict[Variant, str] = {}
    for variant, kernel in kernels.items():
        try:
            found[variant] = _look(kernel, there[variant])
        except NotPermitted:
            raise
        except EnvironmentFault as fault:
            faults[variant] = str(fault)
    if wanted == AUTO and not any(looked.hint for looked in found.values()):
        found = {
            variant: looked + _count(kernels[variant], there[variant])
            for variant, looked in found.items()
        }
    chosen = choose(wanted, found, faults)
    if wanted == AUTO and chosen.variant is Variant.NFT and not found[Variant.NFT].used:
        faults[Variant.NFT] = _fault_of_nft()
        if faults[Variant.NFT]:
            del found[Variant.NFT]
            chosen = choose(wanted, found, faults)
    return chosen


def _look(kernel: Kernel, families: Sequence[Family]) -> Seen:
    """What costs little to see of a variant: the kubelet's hint, and whether a proxy was there."""
    looked = Seen()
    for family in families or Family:
        mangle = _saved(kernel, family, ("mangle",))
        proxied = kernel.holds(family, Table.NAT, SERVICES)
        looked += Seen(hint=seen(mangle).hint, proxied=proxied)
    return looked


def _count(kernel: Kernel, families: Sequence[Family]) -> Seen:
    """What only all the rules of a variant tell."""
    looked = Seen()
    for family in families:
        looked += seen(_saved(kernel, family, (Table.FILTER, Table.NAT)))
    return looked


def _saved(kernel: Kernel, family: Family, tables: Sequence[str]) -> str:
    """What iptables can read; rules of nft in a table of that name are nobody's iptables."""
    try:
        return kernel.save(family, tables)
    except KernelFault:
        return ""


def _fault_of_nft() -> str:
    """Why nft's tables cannot be made here; empty if they can."""

    def try_out(kernel: Kernel) -> str:
        return kernel.try_out(Family.IPV4, trials.REQUIRED)

    try:
        return apart(Variant.NFT, try_out)
    except NotPermitted:
        pass  # without CAP_SYS_ADMIN there is no namespace to try it in
    except EnvironmentFault as fault:
        return str(fault)
    try:
        return try_out(Kernel(Variant.NFT))
    except NotPermitted:
        raise
    except EnvironmentFault as fault:
        return str(fault)
