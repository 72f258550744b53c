"""Which promises do whole proxies keep, and packets on their way? Pure.

Most compare with the kube-proxy that was measured in the same run: without one they are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench.cluster import Size
from tests.bench.target import Target
from tests.bench.whole.results import Sustained, Whole

LARGE, SMALL = Size(10_000, 10), Size(1_000, 10)
HUGE = (Size(50_000, 1), Size(5_000, 50))
MODE = "nftables"
START, CHANGE, CPU, MEMORY = 6, 500, 500, 4
"""How many times as much the peer must take of each."""
CHANGE_MILLISECONDS, RESTART_SECONDS, HUGE_SECONDS = 8.0, 2.0, 10.0
RESTART_COMMITS = 1
"""The one endpoint that changed meanwhile."""
GROWTH = 1.5
"""Of a change in huge clusters, of the lag and of the memory while slices change all the time."""
RATE = 4_500.0
"""Changes a second, of 5,000 that are asked for."""


def targets(wholes: Sequence[Whole], sustained: Sequence[Sustained]) -> list[Target]:
    """The promises that these measurements can judge."""
    found = {(w.program, w.size): w for w in wholes if w.back_end == MODE}
    ours, its = (found.get((program, LARGE)) for program in ("headgate", "kube-proxy"))
    judged: list[Target] = []
    if ours:
        judged += _alone(ours)
    if ours and its:
        judged += _against(ours, its)
    small = found.get(("headgate", SMALL))
    for size in HUGE:
        if huge := found.get(("headgate", size)):
            judged += _huge(huge, small)
    for of in sustained:
        judged += _sustained(of)
    return judged


def _alone(ours: Whole) -> Iterator[Target]:
    yield _most(ours, "one endpoint, p50", ours.changed.p50, CHANGE_MILLISECONDS, "ms")
    yield _most(ours, "restart", ours.restart, RESTART_SECONDS, "s")
    if ours.restart_commits is not None:
        what = "commits of a restart, one endpoint changed meanwhile"
        yield _most(ours, what, ours.restart_commits, RESTART_COMMITS, "")


def _against(ours: Whole, its: Whole) -> Iterator[Target]:
    yield _times(ours, "start", its.start / ours.start, START)
    yield _times(ours, "one endpoint, p50", its.changed.p50 / ours.changed.p50, CHANGE)
    yield _times(ours, "CPU of one endpoint", its.changed.cpu / ours.changed.cpu, CPU)
    yield _times(ours, "peak RSS of all processes", its.memory.whole / ours.memory.whole, MEMORY)


def _huge(ours: Whole, small: Whole | None) -> Iterator[Target]:
    yield _most(ours, "start", ours.start, HUGE_SECONDS, "s")
    if small:
        ratio = ours.changed.p50 / small.changed.p50
        yield _most(ours, f"one endpoint, p50, against {small.size}", ratio, GROWTH, "times")


def _sustained(of: Sustained) -> Iterator[Target]:
    half = len(of.lags) // 2
    lag = median(of.lags[half:]) / median(of.lags[:half])
    memory = max(of.megabytes[half:]) / max(of.megabytes[:half])
    name = f"at {of.rate:,.0f} changes a second"
    met = of.rate >= RATE
    limit, figure = f">= {RATE:,.0f}", f"{of.rate:,.0f}"
    yield Target(of.back_end, str(of.size), "changes a second", limit, figure, met=met)
    yield _most(of, f"{name}: lag, second half against first", lag, GROWTH, "times")
    yield _most(of, f"{name}: memory, the same", memory, GROWTH, "times")


def _most(of: Whole | Sustained, what: str, figure: float, limit: float, unit: str) -> Target:
    texts = (f"<= {limit:g} {unit}".rstrip(), f"{figure:.3g} {unit}".rstrip())
    return Target(of.back_end, str(of.size), what, *texts, met=figure <= limit)


def _times(of: Whole, what: str, ratio: float, least: float) -> Target:
    what = f"{what}, kube-proxy / headgate"
    return Target(
        of.back_end,
        str(of.size),
        what,
        f">= {least:g} times",
        f"{ratio:.3g} times",
        met=ratio >= least,
    )
