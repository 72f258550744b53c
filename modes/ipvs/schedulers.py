"""Which schedulers does IPVS have, and which flags do they take? Pure.

Each is a module of the kernel (net/netfilter/ipvs); which ones there are only a kernel knows, and
is asked through what is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from endpoints.names import ServicePortName
from endpoints.plan import ServicePlan
from modes.base import EnvironmentFault, IpvsSettings, Tell
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


@lru_cache(maxsize=256)
def named(server: VirtualServer) -> tuple[str, ...]:
    """The flags of a virtual server's scheduler as `ipvsadm` has them: `sh-port`, or `flag-2`."""
    own = {bit: name for name, bit in _FLAGS.items() if name.partition("-")[0] == server.scheduler}
    bits_of_any = ((SCHEDULER_1, "flag-1"), (SCHEDULER_2, "flag-2"))
    return tuple(own.get(bit, name) for bit, name in bits_of_any if server.flags & bit)


class Offer:
    """The schedulers of this kernel; each is asked for once."""

    def __init__(self, settings: IpvsSettings, ask: Callable[[str], str], tell: Tell) -> None:
        """`ask` says why the kernel has no such scheduler; empty if it has."""
        self._settings = settings
        self._ask = ask
        self._tell = tell
        self._refusals: dict[str, str] = {}
        self._told: set[tuple[ServicePortName, str]] = set()

    def require(self) -> None:
        """Raises EnvironmentFault if there is not the one that the operator wants."""
        wanted = self._settings.scheduler
        if self._refusal(wanted):
            there = ", ".join(name for name in KNOWN if not self._refusal(name))
            reason = f"this kernel has no such scheduler; it has {there}"
            raise EnvironmentFault(f"--ipvs-scheduler: {wanted}: {reason}")

    def server(self, plan: ServicePlan) -> VirtualServer:
        """How a Service port chooses; as the node does, where the kernel has no such scheduler."""
        wanted = asked(plan, self._settings)
        if not self._refusal(wanted.scheduler):
            return wanted
        self._tell_once(plan, wanted.scheduler)
        return asked(msgspec.structs.replace(plan, scheduler=""), self._settings)

    def _tell_once(self, plan: ServicePlan, scheduler: str) -> None:
        """That a Service wants a scheduler that there is not."""
        if (plan.name, scheduler) not in self._told:
            self._told.add((plan.name, scheduler))
            reason = f"this kernel has no such scheduler; {self._settings.scheduler} serves"
            self._tell("Degraded", service=plan.name, scheduler=scheduler, reason=reason)

    def _refusal(self, scheduler: str) -> str:
        if scheduler not in self._refusals:
            self._refusals[scheduler] = self._ask(scheduler)
        return self._refusals[scheduler]
