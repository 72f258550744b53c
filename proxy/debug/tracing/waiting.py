"""What is said while packets are waited for, and when none came? Pure, but for the announcement."""

from __future__ import annotations

import sys

from modes.tracing.program import Aim
from proxy.debug.tracing.traced import place

_ELSEWHERE = (
    "Does the client send, and to this address and port? Does its packet reach this node? Trace on"
    " the node where the client runs, or to which the load balancer sends."
)


def announce(aim: Aim, seconds: float) -> None:
    """Say on standard error that packets are waited for: whoever is asked to send some may now."""
    by = f" from {aim.source}" if aim.source else ""
    print(f"waiting up to {seconds:g} s for a packet{by} to {place(aim)}", file=sys.stderr)
    sys.stderr.flush()


def waited(aim: Aim, seconds: float) -> list[str]:
    """What was waited for in vain, and what to look at next."""
    by = f" from {aim.source}" if aim.source else ""
    seen = f"no packet{by} to {place(aim)} came into this kernel, and none was sent by it"
    route = f"ip route get {aim.address}"
    return [
        f"In {seconds:g} s {seen}.",
        _ELSEWHERE,
        f"A process of this node without a route to it sends nothing either: `{route}`.",
    ]
