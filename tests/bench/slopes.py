"""How does each step grow with the number of Services? Pure.

A slope is the exponent of the power of the size that fits best: 1 is proportional, 0 does not grow,
2 grows with the square. It is the straight line of least squares through the logarithms. What is
looked at is the processor's time, which other work on the machine leaves nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import linear_regression

import msgspec

from tests.bench.cluster import Size
from tests.bench.results import Measured
from tests.bench.worker import Changes, Load

MINIMUM_SIZES = 3
"""A line through two points fits always, whatever they are."""
CHANGES: tuple[tuple[str, Callable[[Measured], Changes]], ...] = (
    ("endpoint replaced", lambda m: m.loaded.replaced),
    ("endpoint removed, added", lambda m: m.loaded.resized),
    ("Service added", lambda m: m.loaded.arrived),
    ("Service removed", lambda m: m.loaded.departed),
)
_LOAD: tuple[tuple[str, Callable[[Load], float]], ...] = (
    ("decode", lambda load: load.work.decode),
    ("fold, plan", lambda load: load.work.fold_and_plan),
    ("encode", lambda load: load.work.encode),
    ("{writer}", lambda load: load.work.kernel),
    ("all", lambda load: load.cpu),
)


class Slope(msgspec.Struct):
    """How the processor's time of one step grows, in one back end, at one number of endpoints."""

    back_end: str
    endpoints: int
    step: str
    services: list[int]
    """The sizes that were measured."""
    milliseconds: list[float]
    """At each of these."""
    exponent: float
    off: float
    """How far the worst measurement is from the line: the larger by the smaller, 1 is on it."""

    @property
    def sizes(self) -> list[Size]:
        """The sizes that were measured."""
        return [Size(services, self.endpoints) for services in self.services]


def slopes(measured: Sequence[Measured]) -> list[Slope]:
    """The slope of each step, where one back end was measured at three sizes or more.

    Sizes with as many endpoints for a Service belong together; a step that took no time has none.
    """
    found: list[Slope] = []
    ordered = sorted(measured, key=_kin)
    for (back_end, endpoints), kin in groupby(ordered, key=_kin):
        alike = sorted(kin, key=lambda m: m.services)
        services = [m.services for m in alike]
        if len(set(services)) < MINIMUM_SIZES:
            continue
        for step, milliseconds in _steps(back_end):
            times = [milliseconds(m) for m in alike]
            if min(times) > 0:
                exponent, off = fit(services, times)
                found.append(Slope(back_end, endpoints, step, services, times, exponent, off))
    return found


def fit(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float]:
    """The exponent of the power that fits best, and the factor by which the worst time is off."""
    x, y = [math.log(size) for size in sizes], [math.log(time) for time in times]
    line = linear_regression(x, y)
    distance = max(abs(b - line.intercept - line.slope * a) for a, b in zip(x, y, strict=True))
    return line.slope, math.exp(distance)


def rows(found: Sequence[Slope]) -> list[list[str]]:
    """A table of slopes that share back end and sizes, with its head."""
    first = found[0]
    head = [f"{first.back_end}: the processor's ms", *map(str, first.sizes), "slope", "off"]
    out = [head]
    for of in found:
        times = [f"{time:,.2f}" if time < 100 else f"{time:,.0f}" for time in of.milliseconds]
        out.append([of.step, *times, f"{of.exponent:.2f}", f"x {of.off:.1f}"])
    return out


def tables(found: Sequence[Slope]) -> list[list[list[str]]]:
    """A table for each back end and number of endpoints."""
    kin = groupby(found, key=lambda of: (of.back_end, of.services, of.endpoints))
    return [rows(list(alike)) for _, alike in kin]


def _kin(of: Measured) -> tuple[str, int]:
    return of.back_end, of.endpoints


def _steps(back_end: str) -> Iterator[tuple[str, Callable[[Measured], float]]]:
    writer = "iptables" if back_end.startswith("iptables") else "the kernel"
    for step, seconds in _LOAD:
        name = f"load: {step.format(writer=writer)}"
        yield name, lambda m, seconds=seconds: 1000 * seconds(m.loaded.load)  # type: ignore[misc]
    yield "restart: all", lambda m: 1000 * m.restarted.load.cpu
    for kind, changes in CHANGES:
        yield f"{kind}: ours", lambda m, of=changes: of(m).ours_cpu_p50  # type: ignore[misc]
        yield f"{kind}: {writer}", lambda m, of=changes: of(m).kernel_cpu_p50  # type: ignore[misc]
