"""Which modes are there, which of them work on this machine, and which one is meant by `auto`?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from endpoints.names import ObjectName
from endpoints.node import NodeView
from modes.base import EnvironmentFault, Feature, Mode, Plans, Rendered

AUTO = "auto"
MODES = ("nftables", "iptables", "ipvs")
BUILT = frozenset({"nftables"})


class NotBuilt(Exception):
    """A mode that is planned and not there."""

    def __init__(self, mode: str) -> None:
        super().__init__(f"mode {mode} is not built yet; built: {', '.join(sorted(BUILT))}")


def create(mode: str) -> Mode:
    """A mode by its name; nothing is opened yet. Raises NotBuilt; ValueError if there is none."""
    require(mode)
    from modes.nftables.mode import NftablesMode  # noqa: PLC0415 (only the mode that is used)

    return NftablesMode()


def render(mode: str, services: Mapping[ObjectName, Plans], node: NodeView) -> Rendered:
    """What a mode would write for these Services; no kernel is asked. Raises as `create`."""
    require(mode)
    from modes.nftables.listing import tables, text  # noqa: PLC0415 (likewise)

    program = tables(services, node)
    return Rendered(program, tuple(text(program)))


def probe() -> tuple[Feature, ...]:
    """What this kernel can do of what the modes need. Changes nothing; needs CAP_NET_ADMIN."""
    from modes.nftables.probe import probe as nftables  # noqa: PLC0415 (likewise)

    return nftables()


def working(features: Iterable[Feature]) -> tuple[str, ...]:
    """The modes that are built and whose features are all there."""
    return ("nftables",) if all(feature.state == "yes" for feature in features) else ()


def choose(wanted: str, features: Iterable[Feature]) -> str:
    """The mode to use: the wanted one, for `auto` nftables where the kernel can, else iptables.

    Raises NotBuilt, EnvironmentFault if the kernel cannot or we may not ask it, and ValueError if
    there is no mode of that name.
    """
    features = tuple(features)
    if wanted == AUTO:
        unknown = next((f for f in features if f.state == "unknown"), None)
        if unknown is not None:
            raise EnvironmentFault(unknown.hint)
        wanted = "nftables" if working(features) else "iptables"
    require(wanted)
    missing = next((f for f in features if f.state != "yes"), None)
    if missing is not None:
        raise EnvironmentFault(missing.hint or f"this kernel has no {missing.name}")
    return wanted


def require(mode: str) -> None:
    """Refuse what `create` refuses, before any work is done for it. Raises as `create`."""
    if mode not in MODES:
        raise ValueError(f"{mode!r} is no mode; modes: {', '.join(MODES)}")
    if mode not in BUILT:
        raise NotBuilt(mode)
