"""How do the rules of a proxy, whichever mode it was in, leave the host?"""

from __future__ import annotations

from endpoints.names import Family
from modes.base import EnvironmentFault, NotPermitted, Tell
from modes.xtables import adopt
from modes.xtables.adopt import Found
from modes.xtables.chains import MARK_MASQ, Skeleton
from modes.xtables.delta import Program
from modes.xtables.kernel import (
    Kernel,
    installed,
    route_localnet,
    set_route_localnet,
)
from modes.xtables.script import read
from modes.xtables.transaction import Order, script
from modes.xtables.variant import HINTS, Variant


def clean_up(tell: Tell) -> bool:
    """Remove the rules of any mode in both variants, and only those; True if there were any.

    Raises EnvironmentFault if there is no iptables, or if we may not use it.
    """
    there = [(Kernel(v, tell), f) for v in Variant for f in Family if installed(f, v)]
    if not there:
        raise EnvironmentFault("there is no iptables on this host")
    held = [(k, f, found) for k, f in there if (found := _readable(k, f, tell)) is not None]
    if any(adopt.says_localnet_was_off(found) for _, _, found in held):
        set_route_localnet(on=False)
    guards = route_localnet()
    removed = [
        leave(k, f, found, guards_localhost=guards, masquerades=False) for k, f, found in held
    ]
    if any(removed) and guards:
        reason = "packets from localhost are routed here, and were before us"
        tell("Kept KUBE-FIREWALL", reason=reason)
    there[0][0].remove_counters()
    return any(removed)


def leave(
    kernel: Kernel,
    family: Family,
    found: Found,
    *,
    guards_localhost: bool,
    masquerades: bool = True,
) -> bool:
    """Remove what is ours of what was found in one variant; True if there was anything.

    `guards_localhost`: nothing else keeps others from it, though the kernel routes it.
    `masquerades`: what rules of others mark for it (hostports of the kubelet or of CRI-O do).
    """
    kept = adopt.masquerades_for_others(found) if masquerades else frozenset()
    keeps = guards_localhost or any(kernel.holds(family, "mangle", hint) for hint in HINTS)
    changes = adopt.removal(family, found, keeps_martian_rule=keeps, kept=kept)
    if changes:
        nothing = Program(family, Skeleton({}, ()))
        in_blocks = kernel.variant is Variant.NFT
        # IPVS may be who serves now.
        text = script(nothing, changes, in_blocks=in_blocks, order=Order.BEFORE)
        kernel.restore(family, text.text)
        if kept:
            reason = f"rules of others lead to {MARK_MASQ.name}"
            kernel.tell("Kept what masquerades for others", variant=kernel.variant, reason=reason)
    return bool(changes)


def _readable(kernel: Kernel, family: Family, tell: Tell) -> Found | None:
    """What is there; None if this kernel has no such variant. Raises NotPermitted."""
    try:
        return read(kernel.save(family))
    except NotPermitted:
        raise
    except EnvironmentFault as fault:
        reason = str(fault)
        tell("Not looked at", variant=kernel.variant, family=family, reason=reason)
        return None
