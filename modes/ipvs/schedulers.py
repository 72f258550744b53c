"""Which schedulers does IPVS have, and which flags do they take? Pure.

Each is a module of the kernel (net/netfilter/ipvs); which ones there are only a kernel knows.
"""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.plan import ServicePlan
from modes.base import IpvsSettings
from modes.ipvs.servers import SCHEDULER_1, SCHEDULER_2, VirtualServer

KNOWN = (
    *("rr", "wrr", "lc", "wlc", "lblc", "lblcr"),
    *("sh", "dh", "sed", "nq", "fo", "ovf", "mh", "twos"),
)
"""Those of Linux 6.18, to be tried out; another name may exist on another kernel."""

_FLAGS = {
    "sh-fallback": SCHEDULER_1,
    "sh-port": SCHEDULER_2,
    "mh-fallback": SCHEDULER_1,
    "mh-port": SCHEDULER_2,
}


def asked(plan: ServicePlan, settings: IpvsSettings) -> VirtualServer:
    """How a Service port wants to be served; where it says nothing, as the node does."""
    scheduler = plan.scheduler or settings.scheduler
    flags = plan.scheduler_flags or settings.scheduler_flags
    return VirtualServer(scheduler, bits(scheduler, flags))


def bits(scheduler: str, flags: Iterable[str]) -> int:
    """The flags of a virtual server; those of another scheduler mean nothing to this one.

    Without any flag mh looks at the source's port too, as kube-proxy has it (REFERENCE D).
    """
    own = [flag for flag in flags if flag.startswith(f"{scheduler}-")]
    if scheduler == "mh" and not own:
        return SCHEDULER_2
    return sum({_FLAGS[flag] for flag in own})


def named(server: VirtualServer) -> tuple[str, ...]:
    """The flags of a virtual server's scheduler as `ipvsadm` has them: `sh-port`, or `flag-2`."""
    own = {bit: name for name, bit in _FLAGS.items() if name.partition("-")[0] == server.scheduler}
    bits_of_any = ((SCHEDULER_1, "flag-1"), (SCHEDULER_2, "flag-2"))
    return tuple(own.get(bit, name) for bit, name in bits_of_any if server.flags & bit)
