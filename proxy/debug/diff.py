"""Does the kernel hold what it should, Service by Service?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from endpoints.addresses import bracketed
from endpoints.plan import ServicePlan
from modes.held import Only
from proxy.debug.differing import Differing, differing, service_of, text
from proxy.debug.kernel import lasting
from proxy.debug.question import subject
from proxy.debug.screen import screen
from proxy.debug.table import as_json, wants_json
from proxy.debug.watching import watch
from proxy.desired.choice import desired
from proxy.desired.desired import Desired
from proxy.every import aside
from proxy.settings.refusal import ConfigError


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate diff`; 1 if the kernel holds anything else than it should, or for nobody.

    Raises ConfigError, EnvironmentFault and KernelFault.
    """
    json = wants_json(flags.output)
    only = subject(flags.service)
    if flags.watch and flags.snapshot:
        raise ConfigError("--watch", "", "a snapshot does not change")
    want = partial(desired, flags, only=_service(only), here=not flags.snapshot)
    if flags.watch:
        return watch(partial(compared, want, flags.snapshot, only), json=json)
    found = compared(want, flags.snapshot, only)
    if not found.services and not only.all:
        aside(f"{_asked(only)} is no Service here (says {found.origin})")
        return 1
    print(as_json(found) if json else "\n".join(text(found, screen())))
    return int(bool(found.differences))


def _service(only: Only) -> str:
    """The Service of a Service port; empty if it is not asked for by name."""
    return only.service.partition(":")[0]


def compared(want: Callable[[], Desired], snapshot: str, only: Only) -> Differing:
    """What the kernel holds against what it should hold.

    Raises as `headgate diff`.
    """
    wanted, found = lasting(want, snapshot, only)
    named = {str(plan.name.service) for plan in wanted.plans if _is_meant(only, plan)}
    named |= {service_of(of) for of in found if of.service}
    return differing(wanted, len(named), found)


def _is_meant(only: Only, plan: ServicePlan) -> bool:
    if only.service:
        return only.names(str(plan.name))
    return only.all or any(
        frontend.port == only.port
        and frontend.address in (only.address, None)
        and plan.name.protocol == only.protocol
        for frontend in plan.frontends
    )


def _asked(only: Only) -> str:
    return only.service or f"{bracketed(only.address)}:{only.port}/{only.protocol}"
