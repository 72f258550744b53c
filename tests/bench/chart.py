"""What does one look at instead of the tables? A panel for each quantity that matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.cluster import Size
from tests.bench.panel import Line, Panel
from tests.bench.path import results as path_results
from tests.bench.whole import targets
from tests.bench.whole.results import Whole

KINDS = ("svg", "png")


class UnknownKind(ValueError):
    """A file whose name does not end in what can be drawn."""


def draw(panels: Sequence[Panel], path: Path, machine: str) -> None:
    """Write the panels, two in a row, as what the path's suffix says; 1,200 pixels wide.

    The same panels give the same bytes. Raises UnknownKind, and ValueError without a panel.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        known = " or ".join(f".{one}" for one in KINDS)
        raise UnknownKind(f"chart {path}: its name must end in {known}")
    if not panels:
        raise ValueError(f"chart {path}: there is nothing to draw")
    # A second and 60 MB that the measurements do not need.
    from tests.bench import drawing  # noqa: PLC0415

    caption = f"by Services x endpoints of each; lower is better · {machine}"
    drawing.draw(panels, path, kind, caption)


def panels(wholes: Sequence[Whole], paths: Sequence[path_results.Path] = ()) -> list[Panel]:
    """What whole proxies cost, and packets on their way; none of what was not measured."""
    return [*(_of_wholes(wholes) if wholes else ()), *(_of_paths(paths) if paths else ())]


def _of_wholes(wholes: Sequence[Whole]) -> list[Panel]:
    sizes = in_order([whole.size for whole in wholes])
    x = [str(size) for size in sizes]
    found = {(_name(whole), whole.size): whole for whole in wholes}
    names = dict.fromkeys(_name(whole) for whole in wholes)
    judged = any(whole.back_end == targets.MODE for whole in wholes)

    def lines(of: Callable[[Whole], float]) -> dict[str, Line]:
        return {
            one: [of(found[one, size]) if (one, size) in found else None for size in sizes]
            for one in names
        }

    return [
        Panel("From start to all rules in the kernel", "s", x, lines(lambda w: w.start)),
        Panel(
            "Restart with the rules in place",
            "s",
            x,
            lines(lambda w: w.restart),
            limit=targets.RESTART_SECONDS if judged else None,
        ),
        Panel(
            "One endpoint change: median, whiskers to p99",
            "ms",
            x,
            lines(lambda w: w.changed.p50),
            limit=targets.CHANGE_MILLISECONDS if judged else None,
            upper=lines(lambda w: w.changed.p99),
        ),
        Panel("CPU time of one endpoint change", "ms", x, lines(lambda w: w.changed.cpu)),
        Panel("Peak memory of all processes", "MB", x, lines(lambda w: w.memory.whole)),
    ]


def _of_paths(paths: Sequence[path_results.Path]) -> list[Panel]:
    """Ratios to no proxy at all: of that itself there is nothing to show."""
    shown = [path for path in paths if path.variant != path_results.NONE]
    services = sorted({path.services for path in shown})
    x = [f"{count:,} Service{'s' * (count > 1)}" if count else "no proxy" for count in services]
    found = {(_name(path), path.services): path.datagram.to_none for path in shown}
    names = dict.fromkeys(_name(path) for path in shown)

    def lines(of: Callable[[path_results.Spread], float]) -> dict[str, Line]:
        return {
            one: [of(found[one, count]) if (one, count) in found else None for count in services]
            for one in names
        }

    title = "First UDP packet, times no proxy; whiskers to p75"
    return [Panel(title, "", x, lines(lambda s: s.median), upper=lines(lambda s: s.high))]


def _name(of: Whole | path_results.Path) -> str:
    """How the line of a proxy is called."""
    program = of.program if isinstance(of, Whole) else of.variant
    return f"{program} {of.back_end}".rstrip()


def in_order(sizes: Sequence[Size]) -> list[Size]:
    """Each once; first those with as many endpoints as most have, then the others."""
    each = {*sizes}
    alike = Counter(size.endpoints for size in each)
    return sorted(each, key=lambda size: (-alike[size.endpoints], size.endpoints, size.services))
