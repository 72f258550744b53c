"""What does the kernel hold of the iptables mode now? Nothing is changed."""

from __future__ import annotations

from endpoints.names import Family
from modes.base import EnvironmentFault, ModeSettings, NotPermitted
from modes.held import EVERYTHING, Held, Only
from modes.iptables import held
from modes.iptables.belonging import concerning, dispatched, is_of_a_service
from modes.iptables.held import IptablesHeld, Looked
from modes.xtables import recent
from modes.xtables.host import host_variant
from modes.xtables.kernel import Kernel, Refused, drops_invalid, installed, route_localnet
from modes.xtables.names import SERVICES, Table
from modes.xtables.opaque import is_asked_for, seeming_ends
from modes.xtables.rules import ChainName
from modes.xtables.script import Counted, read_counted
from modes.xtables.variant import AUTO, Variant
from modes.xtables.witness import chains

DEFAULTS = ModeSettings()


def look(only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Held:
    """The tables of the variant that holds Service rules, else of the one that the host uses.

    Raises EnvironmentFault where no iptables works or we may not use it, and KernelFault.
    """
    glimpses = {v: _Glimpse(v) for v in Variant if installed(Family.IPV4, v)}
    holding = [variant for variant, glimpse in glimpses.items() if glimpse.holds()]
    wanted = settings.iptables_variant
    if wanted == AUTO:
        variant = holding[0] if len(holding) == 1 else host_variant(AUTO).variant
    else:
        variant = Variant(wanted)
    saved, unread = glimpses.get(variant, _Glimpse(variant)).saved(only)
    counted = {family: read_counted(text) for family, text in saved.items()}
    looked = Looked(
        variant=variant,
        saved=saved,
        only=only,
        unread=unread,
        remembered=recent.remembered(_lists(counted)),
        has_recent=recent.is_there(),
        drops_invalid=drops_invalid(),
        routes_localhost=route_localnet(),
        other_variant=next((other for other in holding if other is not variant), ""),
    )
    return IptablesHeld(looked, only, settings, counted)


def recalled(document: object, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Held:
    """What `Held.document` wrote down, or those of it that are asked for.

    Raises ValueError for a document of another version.
    """
    return IptablesHeld(held.recalled(document), only, settings)


class _Glimpse:
    """One variant; nothing of it is read twice."""

    def __init__(self, variant: Variant) -> None:
        self._kernel = Kernel(variant)
        self._saved: dict[Family, str] = {}

    def holds(self) -> bool:
        """Whether there are Service rules; a kernel without the variant has none."""
        try:
            if self._kernel.variant is Variant.NFT:
                return self._kernel.holds(Family.IPV4, Table.NAT, SERVICES)
            return f"\n:{SERVICES} " in self._text(Family.IPV4)  # nobody can read less of it
        except NotPermitted:
            raise
        except EnvironmentFault:
            return False

    def saved(self, only: Only) -> tuple[dict[Family, str], dict[Family, tuple[ChainName, ...]]]:
        """The tables of both families, and chains of them that were not read.

        Without those of IPv6 where they cannot be.
        """
        unread: dict[Family, tuple[ChainName, ...]] = {}
        for family in Family:
            if family is Family.IPV4 or installed(family, self._kernel.variant):
                try:
                    if only.all or self._kernel.variant is Variant.LEGACY:
                        self._text(family)
                    else:
                        self._saved[family], unread[family] = self._part(family, only)
                except NotPermitted:
                    raise
                except EnvironmentFault:
                    if family is Family.IPV4:
                        raise
        return self._saved, unread

    def _part(self, family: Family, only: Only) -> tuple[str, tuple[ChainName, ...]]:
        """The chains that all Services share, and then what they lead to for those asked for."""
        there = chains(family)
        wanted = {of for of in there if is_asked_for(of.name) and not is_of_a_service(of)}
        text, read = "", set[ChainName]()
        try:
            while wanted:
                text += self._kernel.save_chains(family, wanted)
                read |= wanted
                found = read_counted(text).chains
                wanted = concerning(found, only, there) - read
        except Refused:
            return self._kernel.save_counted(family), ()  # rules of nft are among them, or one went
        unread = tuple(sorted(of for of in there - read if is_of_a_service(of)))
        if seeming_ends(text) or (unread and not dispatched(read_counted(text).chains, only)):
            return self._kernel.save_counted(family), ()
        return text, unread

    def _text(self, family: Family) -> str:
        if family not in self._saved:
            self._saved[family] = self._kernel.save_counted(family)
        return self._saved[family]


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
