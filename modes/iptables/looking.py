"""What does the kernel hold of the iptables mode now? Nothing is changed."""

from __future__ import annotations

from endpoints.names import Family
from modes.base import EnvironmentFault, ModeSettings, NotPermitted
from modes.held import EVERYTHING, Held, Only
from modes.iptables import held
from modes.iptables.held import IptablesHeld, Looked
from modes.xtables import recent
from modes.xtables.host import host_variant
from modes.xtables.kernel import Kernel, drops_invalid, installed, route_localnet
from modes.xtables.names import SERVICES, Table
from modes.xtables.script import Counted, read_counted
from modes.xtables.variant import AUTO, Variant

DEFAULTS = ModeSettings()


def look(only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Held:
    """The tables of the variant that holds Service rules, else of the one that the host uses.

    Raises EnvironmentFault where no iptables works or we may not use it, and KernelFault.
    """
    variant, other = _variants(settings.iptables_variant)
    kernel = Kernel(variant)
    saved: dict[Family, str] = {}
    for family in Family:
        if family is Family.IPV4 or installed(family, variant):
            try:
                saved[family] = kernel.save_counted(family)
            except NotPermitted:
                raise
            except EnvironmentFault:
                if family is Family.IPV4:
                    raise
    counted = {family: read_counted(text) for family, text in saved.items()}
    looked = Looked(
        variant=variant,
        saved=saved,
        only=only,
        remembered=recent.remembered(_lists(counted)),
        has_recent=recent.is_there(),
        drops_invalid=drops_invalid(),
        routes_localhost=route_localnet(),
        other_variant=other,
    )
    return IptablesHeld(looked, only, settings, counted)


def recalled(document: object, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Held:
    """What `Held.document` wrote down, or those of it that are asked for.

    Raises ValueError for a document of another version.
    """
    return IptablesHeld(held.recalled(document), only, settings)


def _variants(wanted: str) -> tuple[Variant, str]:
    """Which variant to look at, and the other one if it holds Service rules too."""
    kernels = (Kernel(variant) for variant in Variant if installed(Family.IPV4, variant))
    holding = [kernel.variant for kernel in kernels if _holds(kernel)]
    if wanted == AUTO and len(holding) == 1:
        return holding[0], ""
    variant = host_variant(wanted).variant
    return variant, next((other for other in holding if other is not variant), "")


def _holds(kernel: Kernel) -> bool:
    """Whether there are Service rules; a kernel without the variant has none."""
    try:
        return kernel.holds(Family.IPV4, Table.NAT, SERVICES)
    except NotPermitted:
        raise
    except EnvironmentFault:
        return False


def _lists(counted: dict[Family, Counted]) -> list[str]:
    """The lists of xt_recent that rules ask: they are called as the chain that they lead to."""
    marks = (" --name ", " --rcheck ")
    return sorted(
        {
            one.partition(marks[0])[2].partition(" ")[0]
            for of in counted.values()
            for specs in of.chains.values()
            for one in specs
            if all(mark in one for mark in marks)
        }
    )
