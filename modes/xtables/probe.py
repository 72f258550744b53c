"""What can the host's iptables and its kernel do of what a mode needs?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from endpoints.names import Family
from modes.base import EnvironmentFault, Feature, NotPermitted
from modes.xtables import trials
from modes.xtables.abilities import Abilities
from modes.xtables.host import host_variant
from modes.xtables.kernel import Kernel, apart, may_administrate
from modes.xtables.trials import Trial
from modes.xtables.variant import Variant


def abilities(
    kernel: Kernel, family: Family, asked: Sequence[Trial] = trials.OPTIONAL
) -> Abilities:
    """Which optional extensions work, each tried by a rule that is removed again.

    What is not asked for counts as lacking. One program where all or all but the counters work.
    Where the counters are asked for, makes nfacct's if the kernel has them. Raises
    EnvironmentFault.
    """
    works = {*asked} - refused(kernel, family, asked)
    return Abilities(
        comment=trials.COMMENT in works,
        recent=trials.RECENT in works,
        random_fully=trials.RANDOM_FULLY in works,
        counters=trials.COUNTERS in works,
        ipvs=trials.IPVS in works,
    )


def refused(kernel: Kernel, family: Family, asked: Sequence[Trial]) -> set[Trial]:
    """Those of the trials that fail. Raises EnvironmentFault."""
    lacking: set[Trial] = set()
    if trials.COUNTERS in asked and not kernel.ensure_counters():
        lacking.add(trials.COUNTERS)
    tried = [trial for trial in asked if trial not in lacking]
    if kernel.try_out(family, tried):
        lacking |= {trial for trial in tried if kernel.try_out(family, [trial])}
    return lacking


def features(
    mode: str,
    wanted: str,
    optional: Sequence[Trial],
    required: Sequence[Trial] = trials.REQUIRED,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[Feature, ...]:
    """What this machine can do of what `mode` needs, of what is not required only `optional`.

    Everything is tried in a network namespace of its own: nothing of this machine's own network
    changes. `prepare` makes there what the trials need. One feature of state `unknown` where that
    is not permitted, one of state `no` where no iptables of the wanted variant works. A pod with
    CAP_NET_ADMIN alone can make no namespace, yet the mode works in it: then `unknown` is optional.
    """

    def ask(kernel: Kernel) -> tuple[Feature, ...]:
        prepare()
        asked = (*required, *optional)
        lacking = refused(kernel, Family.IPV4, asked)
        return (
            Feature(f"iptables ({kernel.variant})", "yes", mode),
            *(_feature(mode, trial, works=trial not in lacking) for trial in asked),
            _ip6tables(mode, kernel, required),
        )

    try:
        apart(Variant.NFT, lambda _: None)  # host_variant would try in this namespace otherwise
        return apart(host_variant(wanted).variant, ask)
    except NotPermitted as fault:
        return (untried("iptables", mode, fault),)
    except EnvironmentFault as fault:
        return (Feature("iptables", "no", mode, str(fault)),)


def untried(name: str, mode: str, fault: NotPermitted) -> Feature:
    """What is to be said where it may not be tried.

    No reason against the mode if only the namespace to try it in could not be made.
    """
    return Feature(name, "unknown", mode, str(fault), optional=may_administrate())


def _feature(mode: str, trial: Trial, *, works: bool) -> Feature:
    state, hint = ("yes", "") if works else ("no", trial.hint)
    needed_for = f"{mode}: {trial.needed_for}" if trial.needed_for else mode
    return Feature(trial.feature, state, needed_for, hint, trial.optional)


def _ip6tables(mode: str, kernel: Kernel, required: Sequence[Trial]) -> Feature:
    try:
        fault = kernel.try_out(Family.IPV6, required)
    except EnvironmentFault as missing:
        fault = str(missing)
    state = "no" if fault else "yes"
    return Feature("ip6tables", state, f"{mode}: IPv6", fault, optional=True)
