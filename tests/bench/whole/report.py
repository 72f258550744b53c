"""How does one read what whole proxies cost? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tests.bench.tables import table
from tests.bench.whole.results import Calls, Latency, Sustained, Whole

_Cell = tuple[str, Callable[[Whole], str], Callable[[Whole], float | None]]
"""Heading, text, and the figure that ratios are made of."""

_KINDS: tuple[tuple[str, Callable[[Whole], Latency | None]], ...] = (
    ("one endpoint", lambda w: w.changed),
    ("one Service added", lambda w: w.added),
    ("100 Services", lambda w: w.hundred),
    ("zone of the node", lambda w: w.zone),
)


def text(wholes: Sequence[Whole], sustained: Sequence[Sustained]) -> list[str]:
    """The tables; none of what was not measured."""
    parts = []
    if wholes:
        names = sorted({f"{whole.program} {whole.version.split()[-1]}" for whole in wholes})
        servers = sorted({whole.server for whole in wholes})
        parts.append(f"whole proxies, {', '.join(names)}, followed from: {', '.join(servers)}")
        parts += [table([*_rows(wholes, columns)], left=3) for columns in (_START, _CHANGES, _CPU)]
        if any(whole.calls for whole in wholes):
            parts.append(table([*_rows(wholes, _CALLS)], left=3))
    if sustained:
        parts.append(table([*_sustained(sustained)], left=3))
    return parts


def ratio(ours: float | None, its: float | None) -> str:
    """How many times as much the other one takes; `-` where that says nothing."""
    if not ours or its is None:
        return "-"
    times = its / ours
    return f"{times:,.0f} x" if times >= 10 else f"{times:.1f} x"


def _rows(wholes: Sequence[Whole], columns: Sequence[_Cell]) -> Iterator[list[str]]:
    """A row for each proxy and size, and one of ratios below each peer."""
    yield ["back end", "Services x endpoints", "proxy", *(heading for heading, _, _ in columns)]
    ours = {(w.back_end, w.size): w for w in wholes if w.program == "headgate"}
    for whole in wholes:
        name = [whole.back_end, str(whole.size)]
        yield [*name, whole.program, *(cell(whole) for _, cell, _ in columns)]
        own = ours.get((whole.back_end, whole.size))
        if own is not None and own is not whole:
            ratios = [ratio(figure(own), figure(whole)) for _, _, figure in columns]
            yield ["", "", f"{whole.program} / headgate", *ratios]


def _latency(kind: Callable[[Whole], Latency | None]) -> Callable[[Whole], str]:
    def cell(whole: Whole) -> str:
        found = kind(whole)
        if found is None:
            return "-"
        return " / ".join(f"{value:,.1f}" for value in (found.p50, found.p90, found.p99))

    return cell


def _figure(
    kind: Callable[[Whole], Latency | None], of: Callable[[Latency], float]
) -> Callable[[Whole], float | None]:
    return lambda w: None if (found := kind(w)) is None else of(found)


def _number(of: Callable[[Whole], float | None], digits: int) -> Callable[[Whole], str]:
    return lambda w: "-" if (found := of(w)) is None else f"{found:,.{digits}f}"


def _called(of: Callable[[Calls], float]) -> Callable[[Whole], float | None]:
    return lambda w: None if w.calls is None else of(w.calls)


def _column(heading: str, of: Callable[[Whole], float | None], digits: int) -> _Cell:
    return heading, _number(of, digits), of


_START: tuple[_Cell, ...] = (
    _column("start s", lambda w: w.start, 2),
    _column("its CPU s", lambda w: w.start_cpu, 2),
    _column("restart s", lambda w: w.restart, 2),
    _column("its CPU s", lambda w: w.restart_cpu, 2),
    (
        "commits",
        lambda w: "-" if w.restart_commits is None else str(w.restart_commits),
        lambda _: None,
    ),
    _column("peak RSS MB", lambda w: w.memory.own, 0),
    _column("of children MB", lambda w: w.memory.children, 0),
    _column("of all MB", lambda w: w.memory.whole, 0),
)
_CHANGES: tuple[_Cell, ...] = tuple(
    (f"{name}: p50 / p90 / p99 ms", _latency(kind), _figure(kind, lambda of: of.p50))
    for name, kind in _KINDS
)
_CPU: tuple[_Cell, ...] = tuple(
    _column(f"{name}: CPU ms", _figure(kind, lambda of: of.cpu), 1) for name, kind in _KINDS
)
_CALLS: tuple[_Cell, ...] = (
    _column("one endpoint: sends", _called(lambda of: of.sends), 1),
    _column("netlink messages", _called(lambda of: of.messages), 1),
    _column("bytes", _called(lambda of: of.bytes_sent), 0),
    _column("child processes", _called(lambda of: of.child_processes), 1),
)


def _sustained(found: Sequence[Sustained]) -> Iterator[list[str]]:
    yield [
        *("back end", "Services x endpoints", "proxy", "changes/s", "for s"),
        *("lag, first half ms", "second half", "most", "RSS, first MB", "last", "% of a CPU"),
    ]
    for of in found:
        half = len(of.lags) // 2
        lags = (median(of.lags[:half]), median(of.lags[half:]), max(of.lags))
        yield [
            *(of.back_end, str(of.size), of.program, f"{of.rate:,.0f}", f"{of.seconds:.0f}"),
            *(f"{lag:.1f}" for lag in lags),
            *(f"{megabytes:.0f}" for megabytes in (of.megabytes[0], of.megabytes[-1])),
            f"{of.cpu_percent:.0f}",
        ]
