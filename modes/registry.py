"""Which modes are there, which of them work on this machine, and which one is meant by `auto`?

Only the mode that is used is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from endpoints.explain import Explanation
from endpoints.names import ObjectName
from endpoints.node import NodeView
from modes.base import (
    EnvironmentFault,
    Feature,
    Mode,
    ModeSettings,
    Plans,
    Rendered,
    Tell,
    silence,
)
from modes.held import EVERYTHING, Held, Only

AUTO = "auto"
MODES = ("nftables", "iptables", "ipvs")
"""In the order in which `auto` prefers them."""
DEFAULTS = ModeSettings()


def create(mode: str, settings: ModeSettings = DEFAULTS, tell: Tell = silence) -> Mode:
    """A mode by its name; nothing is opened yet. `tell` takes what it says while it works.

    Raises ValueError if there is none.
    """
    require(mode)
    if mode == "iptables":
        from modes.iptables.mode import IptablesMode  # noqa: PLC0415 (see above)

        return IptablesMode(settings, tell)
    if mode == "ipvs":
        from modes.ipvs.mode import IpvsMode  # noqa: PLC0415 (see above)

        return IpvsMode(settings, tell)
    from modes.nftables.mode import NftablesMode  # noqa: PLC0415 (see above)

    return NftablesMode(tell)


def render(
    mode: str,
    services: Mapping[ObjectName, Plans],
    node: NodeView,
    settings: ModeSettings = DEFAULTS,
) -> Rendered:
    """What a mode would write for these Services; no kernel is asked. Raises as `create`."""
    require(mode)
    if mode == "iptables":
        from modes.iptables import listing as iptables  # noqa: PLC0415 (see above)

        rules = iptables.tables(services, node, settings)
        return Rendered(rules, tuple(iptables.text(rules)))
    if mode == "ipvs":
        from modes.ipvs import listing as ipvs  # noqa: PLC0415 (see above)

        servers = ipvs.tables(services, node, settings)
        return Rendered(servers, tuple(ipvs.text(servers)))
    from modes.nftables import listing as nftables  # noqa: PLC0415 (see above)

    program = nftables.tables(services, node)
    return Rendered(program, tuple(nftables.text(program)))


def places(mode: str, explanation: Explanation) -> tuple[str, ...]:
    """What a mode calls the place of each step: its chains. Raises as `create`."""
    require(mode)
    if mode == "iptables":
        from modes.iptables.places import chain  # noqa: PLC0415 (see above)
    elif mode == "ipvs":
        from modes.ipvs.places import chain  # noqa: PLC0415 (see above)
    else:
        from modes.nftables.places import chain  # noqa: PLC0415 (see above)
    return tuple(chain(step.place, explanation) for step in explanation.steps)


def look(mode: str, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS) -> Held:
    """What the kernel holds of a mode, whoever wrote it; nothing is changed.

    The less is asked for, the less is read. Raises as `create`, EnvironmentFault, Missing among
    them where the kernel lacks what a mode is made of, and KernelFault.
    """
    require(mode)
    if mode == "iptables":
        from modes.iptables.looking import look as iptables  # noqa: PLC0415 (see above)

        return iptables(only, settings)
    if mode == "ipvs":
        from modes.ipvs.looking import look as ipvs  # noqa: PLC0415 (see above)

        return ipvs(only, settings)
    from modes.nftables.looking import look as nftables  # noqa: PLC0415 (see above)

    return nftables(only)


def recalled(
    mode: str, document: object, only: Only = EVERYTHING, settings: ModeSettings = DEFAULTS
) -> Held:
    """What a kernel held, as `Held.document` wrote it down; read back from JSON.

    Raises ValueError if there is no such mode, or if the document is of another version.
    """
    require(mode)
    if mode == "iptables":
        from modes.iptables.looking import recalled as iptables  # noqa: PLC0415 (see above)

        return iptables(document, only, settings)
    if mode == "ipvs":
        from modes.ipvs.looking import recalled as ipvs  # noqa: PLC0415 (see above)

        return ipvs(document, only, settings)
    from modes.nftables.looking import recalled as nftables  # noqa: PLC0415 (see above)

    return nftables(document, only)


def probe(mode: str, settings: ModeSettings = DEFAULTS) -> tuple[Feature, ...]:
    """What this machine can do of what a mode needs, the most telling feature first.

    Changes nothing; needs CAP_NET_ADMIN, without it states are `unknown`. Raises as `create`.
    """
    require(mode)
    if mode == "iptables":
        from modes.iptables.probe import features  # noqa: PLC0415 (see above)

        return features(settings.iptables_variant)
    if mode == "ipvs":
        from modes.ipvs.probe import features as ipvs  # noqa: PLC0415 (see above)

        return ipvs(settings)
    from modes.nftables.probe import probe as nftables  # noqa: PLC0415 (see above)

    return nftables()


def prepare(mode: str, node: NodeView, settings: ModeSettings = DEFAULTS) -> tuple[str, ...]:
    """Set the sysctls that a mode needs, which it does by itself where it may.

    Works in the network namespace of the calling thread. Returns why one could not be set, a
    sentence each. Raises as `create`.
    """
    require(mode)
    if mode == "ipvs":
        from modes.ipvs.mode import prepare as ipvs  # noqa: PLC0415 (see above)

        return ipvs(settings)
    if mode == "iptables":
        from modes.iptables.localnet import prepare  # noqa: PLC0415 (see above)
    else:
        from modes.nftables.mode import prepare  # noqa: PLC0415 (see above)
    return prepare(node)


def counted(mode: str) -> Mapping[str, int]:
    """Packets that the kernel counted for a mode, by metric; any thread may ask.

    Raises as `create`.
    """
    require(mode)
    if mode == "iptables":
        from modes.iptables.probe import counted as iptables  # noqa: PLC0415 (see above)

        return iptables()
    return {}


def lacking(features: Iterable[Feature]) -> Feature | None:
    """The first feature that keeps a mode from working here, or that we may not ask for."""
    return next((f for f in features if f.state != "yes" and not f.optional), None)


def choose(
    wanted: str, ask: Callable[[str], Iterable[Feature]] = probe, origin: str = "--mode"
) -> str:
    """The mode to use: the wanted one, for `auto` the first that works here.

    `ask` tells the features of a mode; no mode is asked for that another one is preferred to.
    `origin` is who wanted it, to be named where it cannot be.
    Raises EnvironmentFault if the machine cannot or we may not ask it, and ValueError if there is
    no mode of that name.
    """
    if wanted != AUTO:
        require(wanted)
        if missing := lacking(ask(wanted)):
            raise EnvironmentFault(f"{origin}: {wanted}: {_reason(missing)}")
        return wanted
    reasons = []
    for mode in MODES:
        missing = lacking(ask(mode))
        if missing is None:
            return mode
        if missing.state == "unknown":
            raise EnvironmentFault(_reason(missing))
        reasons.append(f"{mode}: {_reason(missing)}")
    raise EnvironmentFault(f"no mode works here; {'; '.join(reasons)}")


def require(mode: str) -> None:
    """Refuse what `create` refuses, before any work is done for it. Raises as `create`."""
    if mode not in MODES:
        raise ValueError(f"{mode!r} is no mode; modes: {', '.join(MODES)}")


def _reason(missing: Feature) -> str:
    return missing.hint or f"this kernel has no {missing.name}"
