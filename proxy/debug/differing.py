"""How does an operator read what the kernel does not hold as it should? Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modes.held import Difference, DifferenceKind
from proxy.debug.screen import Screen, Style
from proxy.desired.desired import Desired, LastForeign, Running

_ROWS = 50
_BEHIND = (
    "the running headgate has news that it has not written yet, or that the kernel refuses: its log"
    " tells, and minSyncPeriod says how long news may wait"
)
_STYLES = {
    DifferenceKind.MISSING: Style.BAD,
    DifferenceKind.DIFFERENT: Style.BAD,
    DifferenceKind.EXTRA: Style.DOUBT,
}


class Differing(msgspec.Struct, frozen=True):
    """What `headgate diff -o json` says."""

    mode: str
    node: str
    origin: str
    """Who says what should be."""
    services: int
    """How many were compared."""
    differences: tuple[Difference, ...]
    is_running: bool = False
    """Whether a headgate runs, which repairs."""
    is_synced: bool = True
    """Whether it has written all that it knows; if not, what it will write is not compared."""
    last_foreign: LastForeign | None = None
    refused: Mapping[str, str] = {}
    """Services that differ since the kernel refuses them, each with its reason."""

    @property
    def differing(self) -> int:
        """How many Services differ."""
        return len({service_of(of) for of in self.differences if of.service})


def differing(wanted: Desired, services: int, found: tuple[Difference, ...]) -> Differing:
    """What was found, with what a running headgate says of it."""
    running = wanted.running or Running("", 0, is_synced=True)
    names = {service_of(of) for of in found}
    return Differing(
        wanted.mode,
        wanted.node.name,
        wanted.origin,
        services,
        found,
        is_running=wanted.running is not None,
        is_synced=running.is_synced,
        last_foreign=running.last_foreign,
        refused={name: why for name, why in running.refused.items() if name in names},
    )


def service_of(difference: Difference) -> str:
    """`namespace/name`, without the port."""
    return difference.service.partition(":")[0]


def text(found: Differing, shown: Screen) -> list[str]:
    """The answer, each difference, and what to do."""
    if not found.differences:
        lines = shown.table([(shown.painted("SAME", Style.GOOD), _same(found))])
        return lines + ([] if found.is_synced else shown.prose(_BEHIND))
    lines = shown.table([(shown.painted("DRIFT", Style.BAD), _drift(found))])
    rows = [
        (of.service or "(rules of no Service)", shown.painted(of.kind, _STYLES[of.kind]), of.what)
        for of in found.differences[:_ROWS]
    ]
    lines += shown.table(rows, "  ")
    if len(found.differences) > _ROWS:
        lines.append(f"  and {len(found.differences) - _ROWS:,} more: -o json has all")
    for name, reason in sorted(found.refused.items()):
        lines += shown.prose(f"{name} is refused by the kernel: {reason}")
    return lines + shown.prose(_advice(found) if found.is_synced else _BEHIND)


def _same(found: Differing) -> str:
    if found.services == 1:
        count = "the Service is in the kernel as it should be"
    else:
        count = f"all {found.services:,} Services are in the kernel as they should be"
    return f"{count} ({found.mode}; says {found.origin})"


def _drift(found: Differing) -> str:
    count = found.differing
    if not count:
        what = "rules that belong to no Service"
        return f"{what} differ from what should be in the kernel ({found.mode})"
    verb = "differs" if count == 1 else "differ"
    noun = "Service" if found.services == 1 else "Services"
    return f"{count:,} of {found.services:,} {noun} {verb} from what should be in the kernel"


def _advice(found: Differing) -> str:
    last = found.last_foreign
    if last is None:
        told = ""
    else:
        pid = f" (pid {last.change.pid})" if last.change.pid else ""
        author = f"{last.change.author or 'somebody unknown'}{pid}"
        told = f"last foreign change {last.seconds_ago:.0f} s ago by {author}; "
    if found.is_running:
        watch = "if this stays, see `headgate diff --watch`"
        return f"{told}the running headgate repairs within a second: {watch}"
    return (
        f"nobody repairs this while no headgate runs here (says {found.origin}); what was written"
        " with other flags than these, --cluster-cidr for one, differs as well"
    )
