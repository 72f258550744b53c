"""Who is to blame for a transaction that the kernel refused?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from endpoints.names import Family, ObjectName
from modes.base import KernelFault
from modes.nftables import delta
from modes.nftables import netlink as nl
from modes.nftables.adopt import Observed
from modes.nftables.dump import describe
from modes.nftables.elements import Fragment
from modes.nftables.kernel import Failure

NODE = ObjectName("", "")
"""Owner of the elements that belong to the node and to no Service."""


def raise_any(failures: Sequence[Failure]) -> None:
    """Raises KernelFault for the first of them, where no Service is to blame."""
    for failure in failures:
        raise KernelFault(f"the kernel refused a change: {failure}")


def isolate(
    failures: Sequence[Failure],
    fragments: dict[ObjectName, Fragment],
    before: Mapping[ObjectName, Fragment],
    failed: dict[ObjectName, str],
) -> bool:
    """Take back the Services that the kernel refused: to what they were, then to nothing.

    False if none can be blamed. What cannot be deleted is no Service's fault.
    """
    blamed = False
    for failure in failures:
        if failure.message is None or failure.message.kind != nl.NEWSETELEM:
            continue
        owner = delta.owner_of(fragments, failure.key) if failure.key else None
        if owner is None or owner == NODE:
            continue
        blamed = True
        fallback = before.get(owner) if owner not in failed else None
        failed[owner] = f"{describe(failure.key or b'')}: {failure}"
        fragments.pop(owner)
        if fallback:
            fragments[owner] = fallback
    return blamed


def in_the_way(failures: Sequence[Failure], found: Observed) -> set[Family]:
    """Families in whose tables something keeps us from changing them, as they were left.

    Raises KernelFault if no table is left that could be made anew.
    """
    blocked = {failure.message.family for failure in failures if failure.message}
    blocked &= found.present.difference(found.made_anew)
    if not blocked:
        raise_any(failures)
    return blocked
