"""How do the rules of a proxy leave the host when another mode serves?

No connection lives on them: a translation stands in conntrack. So they go at once, in an order in
which no packet meets half of them (`transaction`).
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.names import Family
from modes.base import EnvironmentFault, NotPermitted, Tell
from modes.xtables.chains import LOCAL_POLICY, ROUTE_LOCALNET_WAS_OFF
from modes.xtables.cleanup import leave
from modes.xtables.kernel import Kernel, installed, route_localnet
from modes.xtables.rules import ChainName
from modes.xtables.script import read
from modes.xtables.variant import Variant

IN_IPTABLES = frozenset({"iptables", "ipvs"})
"""The modes that have rules of iptables."""

LOCK_SECONDS = 1
"""How long to wait for the xtables lock: others have to be served meanwhile, and there will be
another attempt."""


def give_way(tell: Tell, *, stay: bool) -> None:
    """Remove the rules of headgate and kube-proxy in both variants and families.

    `stay`: but for those of our own IPVS mode, which serves. The sysctl route_localnet stays as it
    is, and where it is on, KUBE-FIREWALL stays to guard localhost, with the note by which a cleanup
    can forbid it again. Raises KernelFault and NotPermitted.
    """
    guards = route_localnet()
    for kernel, family, found in observed(tell):
        if stay and LOCAL_POLICY in found:
            continue
        if guards:
            found.pop(ROUTE_LOCALNET_WAS_OFF, None)
        if leave(kernel, family, found, guards_localhost=guards):
            tell("Removed what a proxy left", routine=True, variant=kernel.variant, family=family)


def observed(tell: Tell) -> Iterator[tuple[Kernel, Family, dict[ChainName, list[str]]]]:
    """What each variant holds that is installed, and that the kernel has, in each family.

    Raises KernelFault and NotPermitted.
    """
    for variant in Variant:
        kernel = Kernel(variant, tell, patience_seconds=LOCK_SECONDS)
        for family in Family:
            if not installed(family, variant):
                continue
            try:
                found = read(kernel.save(family))
            except NotPermitted:
                raise
            except EnvironmentFault:
                continue  # the kernel lacks this variant, and so holds nothing of it
            yield kernel, family, found
