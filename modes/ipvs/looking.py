"""What does this machine's kernel hold of the IPVS mode? Looks only: nothing is written."""

from __future__ import annotations

from contextlib import closing, suppress

from endpoints.names import Family
from modes.base import EnvironmentFault, Missing, ModeSettings, NotPermitted
from modes.held import EVERYTHING, Only
from modes.ipvs import links
from modes.ipvs.dump import servers_meant
from modes.ipvs.held import DEFAULTS, IpvsHeld, recalled
from modes.ipvs.machine import Machine, kernel_version
from modes.ipvs.marks import Layout
from modes.ipvs.seen import Seen, SeenRules
from modes.ipvs.servers import PERSISTENT
from modes.xtables.chains import IPVS_FILTER
from modes.xtables.kernel import Kernel
from modes.xtables.names import Table
from modes.xtables.variant import AUTO, Variant

__all__ = ["look", "recalled"]


def look(only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> IpvsHeld:
    """What is held now, in the network namespace of the calling thread.

    Where not all Services are meant, the kernel is asked for the real servers of just those virtual
    ones that may be theirs; sets and the link tell all that they hold, or nothing.

    Raises Missing where nobody has loaded IPVS, EnvironmentFault without CAP_NET_ADMIN, and
    KernelFault.
    """
    if not links.is_loaded():
        raise Missing("this kernel has no IPVS, or nobody uses it: the module ip_vs is not loaded")
    with closing(Machine.open()) as machine:
        sets = machine.sets()
        meant = servers_meant(sets, Layout(settings.masquerade_bit), only)
        servers = machine.ipvs.servers(wanted=meant)
        addresses = machine.link.addresses()
    is_persistent = any(of.server.flags & PERSISTENT for of in servers.values())
    seen = Seen(
        only,
        servers,
        sets,
        addresses,
        _rules(settings.iptables_variant),
        links.read_sysctls(),
        links.loaded_schedulers(),
        kernel_version(),
        links.persistent_clients() if is_persistent else (),
    )
    return IpvsHeld(seen, settings)


def _rules(wanted: str) -> SeenRules:
    """Those of the variant that holds the mode's; if none does, nft's where it can be read.

    Which one the mode would choose on such a host, cannot be known without trying out.
    """
    variants = (Variant.NFT, Variant.LEGACY) if wanted == AUTO else (Variant(wanted),)
    faults: list[str] = []
    works: list[Kernel] = []
    for kernel in map(Kernel, variants):
        try:
            if kernel.holds(Family.IPV4, Table.FILTER, IPVS_FILTER.name):
                return SeenRules(kernel.variant, _saved(kernel))
            works.append(kernel)
        except NotPermitted:
            raise
        except EnvironmentFault as fault:
            faults.append(str(fault))
    if not works:
        return SeenRules(fault="; ".join(faults))
    return SeenRules(works[0].variant, _saved(works[0]))


def _saved(kernel: Kernel) -> dict[Family, str]:
    """Both families, or IPv4 alone where nothing of IPv6 works here."""
    saved = {Family.IPV4: kernel.save_counted(Family.IPV4)}
    with suppress(EnvironmentFault):  # of privilege, IPv4 would have raised it
        saved[Family.IPV6] = kernel.save_counted(Family.IPV6)
    return saved
