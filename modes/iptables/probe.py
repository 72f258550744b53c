"""What can the host's iptables and its kernel do of what the iptables mode needs?"""

from __future__ import annotations

from collections.abc import Sequence

from endpoints.names import Family
from modes.base import EnvironmentFault, Feature
from modes.iptables import trials
from modes.iptables.counters import METRICS
from modes.iptables.host import host_variant
from modes.iptables.kernel import Kernel, NotPermitted, apart
from modes.iptables.rendering import Abilities
from modes.iptables.trials import Trial
from modes.iptables.variant import AUTO, Variant

_MODE = "iptables mode"


def abilities(kernel: Kernel, family: Family) -> Abilities:
    """Which optional extensions work, each tried by a rule that is removed again.

    One program where all or all but the counters work. Makes nfacct's counters where the kernel
    has them. Raises EnvironmentFault.
    """
    asked = [trial for trial in trials.OPTIONAL if trial is not trials.COUNTERS]
    if kernel.ensure_counters():
        asked.append(trials.COUNTERS)
    lacking = _lacking(kernel, family, asked)
    works = {trial for trial in asked if trial not in lacking}
    return Abilities(
        comment=trials.COMMENT in works,
        recent=trials.RECENT in works,
        random_fully=trials.RANDOM_FULLY in works,
        counters=trials.COUNTERS in works,
    )


def counted() -> dict[str, int]:
    """The packets of kube-proxy's two counters, by the names of its metrics; any thread may ask.

    Empty where the kernel has no nfacct, or before a mode that has started made the counters.
    """
    packets = Kernel(Variant.NFT).counters()  # the same for both variants
    return {METRICS[name]: number for name, number in packets.items()}


def features(wanted: str = AUTO) -> tuple[Feature, ...]:
    """For `headgate probe`: everything is tried in a network namespace of its own.

    Nothing of this machine's own network changes. One feature of state `unknown` where that is
    not permitted, one of state `no` where no iptables works.
    """
    try:
        apart(Variant.NFT, lambda _: None)  # host_variant would try in this namespace otherwise
        return apart(host_variant(wanted).variant, _features)
    except NotPermitted as fault:
        return (Feature("iptables", "unknown", _MODE, str(fault)),)
    except EnvironmentFault as fault:
        return (Feature("iptables", "no", _MODE, str(fault)),)


def _features(kernel: Kernel) -> tuple[Feature, ...]:
    kernel.ensure_counters()
    asked = (*trials.REQUIRED, *trials.OPTIONAL)
    lacking = _lacking(kernel, Family.IPV4, asked)
    return (
        Feature(f"iptables ({kernel.variant})", "yes", _MODE),
        *(_feature(trial, works=trial not in lacking) for trial in asked),
        _ip6tables(kernel),
    )


def _feature(trial: Trial, *, works: bool) -> Feature:
    state, hint = ("yes", "") if works else ("no", trial.hint)
    return Feature(trial.feature, state, trial.needed_for, hint, trial.optional)


def _ip6tables(kernel: Kernel) -> Feature:
    try:
        fault = kernel.try_out(Family.IPV6, trials.REQUIRED)
    except EnvironmentFault as missing:
        fault = str(missing)
    state = "no" if fault else "yes"
    return Feature("ip6tables", state, f"{_MODE}: IPv6", fault, optional=True)


def _lacking(kernel: Kernel, family: Family, asked: Sequence[Trial]) -> set[Trial]:
    if not kernel.try_out(family, asked):
        return set()
    return {trial for trial in asked if kernel.try_out(family, [trial])}
