"""How does one read what was measured? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.bench import floor, slopes
from tests.bench.beside import Beside
from tests.bench.commands import Answered
from tests.bench.idle import Idle
from tests.bench.path import table as path
from tests.bench.program import Ran
from tests.bench.results import Measured, Report, StandIn
from tests.bench.tables import table
from tests.bench.whole import report as whole
from tests.bench.worker import Changes

_Row = tuple[str, Callable[[Measured], str]]


def text(report: Report) -> str:
    """The report as aligned tables."""
    parts = [report.machine, *whole.text(report.wholes, report.sustained)]
    if report.paths:
        parts.append(table(path.rows(report.paths), left=2))
    for back_end in dict.fromkeys(m.back_end for m in report.sizes):
        parts += _parts(back_end, [m for m in report.sizes if m.back_end == back_end])
    if report.floors:
        parts.append(table(floor.rows(report.floors)))
    tables = (_of_runs(report.runs), _of_idle(report.idle), _of_answers(report.answers))
    parts += [table(rows) for rows in map(list, tables) if rows[1:]]
    if report.targets:
        judged = [["target", "size", "what", "limit", "measured", ""]]
        judged += [
            [t.back_end, t.size, t.what, t.limit, t.figure, "met" if t.met else "NOT MET"]
            for t in report.targets
        ]
        parts.append(table(judged, right=False))
    parts += [f"FAILED  {failed.what}\n  {failed.why}" for failed in report.failed]
    return "\n\n".join(parts)


def _parts(back_end: str, sizes: Sequence[Measured]) -> Iterator[str]:
    """What the parts of the program take in one back end, and how that grows."""
    rows = [*_rows(back_end)]
    if any(m.stand_in for m in sizes):
        rows += _STAND_IN
    if any(m.beside for m in sizes):
        rows += _BESIDE
    head = [f"{back_end}, Services x endpoints", *(str(m.size) for m in sizes)]
    yield table([head, *([name, *map(cell, sizes)] for name, cell in rows)])
    yield from (table(growth) for growth in slopes.tables(slopes.slopes(sizes)))


def _of_runs(runs: Sequence[Ran]) -> Iterator[Sequence[str]]:
    yield "headgate run --once", "Services x endpoints", "s", "peak RSS MB"
    for run in runs:
        figures = (f"{run.cost.seconds:.2f}", f"{run.cost.peak_megabytes:.0f}")
        yield run.back_end, str(run.size), *figures


def _of_idle(idle: Sequence[Idle]) -> Iterator[Sequence[str]]:
    yield "idle", "Services x endpoints", "s", "% of a CPU", "RSS MB", "PSS MB", "peak RSS MB"
    for of in idle:
        shared = of.proportional_megabytes
        memory = (of.resident_megabytes, shared, of.peak_megabytes)
        cells = ["-" if figure is None else f"{figure:.0f}" for figure in memory]
        yield of.back_end, str(of.size), f"{of.seconds:.0f}", f"{of.percent:.2f}", *cells


def _of_answers(answers: Sequence[Answered]) -> Iterator[Sequence[str]]:
    yield "headgate", "back end", "Services x endpoints", "s", "of the processor", "peak RSS MB"
    for of in answers:
        cost = of.cost
        figures = (f"{cost.seconds:.2f}", f"{cost.user + cost.system:.2f}")
        yield of.what, of.back_end, str(of.size), *figures, f"{cost.peak_megabytes:.0f}"


def _writer(back_end: str) -> str:
    return "iptables" if back_end.startswith("iptables") else "kernel"


_UNITS = {"nftables": ("elements", "messages"), "ipvs": ("servers", "messages")}
"""What is counted; rules and lines in iptables mode."""


def _rows(back_end: str) -> Iterator[_Row]:
    element, message = _UNITS.get(back_end, ("rules", "lines"))
    writer = _writer(back_end)
    is_iptables = writer == "iptables"
    yield "load: decode s", lambda m: f"{m.loaded.load.decode:.2f}"
    yield "  fold + plan s", lambda m: f"{m.loaded.load.fold_and_plan:.2f}"
    yield "  encode + commit s", lambda m: f"{m.loaded.load.encode_and_commit:.2f}"
    yield f"    of that the {writer} s", lambda m: f"{m.loaded.load.kernel:.2f}"
    yield "    longest send s", lambda m: f"{m.loaded.load.longest_send:.3f}"
    if is_iptables:
        yield "      its user, system s", lambda m: _pair(m.loaded.load.user, m.loaded.load.system)
    yield "  bytes -> kernel, whole s", lambda m: f"{m.loaded.load.whole:.2f}"
    yield "    processor's time s", lambda m: f"{m.loaded.load.cpu:.2f}"
    yield "  peak RSS MB", lambda m: f"{m.loaded.load.peak_megabytes:.0f}"
    if is_iptables:
        yield "  peak RSS of iptables MB", lambda m: f"{m.weighed.load:.0f}" if m.weighed else "-"
    if back_end != "nftables":
        yield "  child processes", lambda m: str(m.loaded.load.child_processes)
    yield f"  {element}", lambda m: f"{m.loaded.load.elements:,}"
    yield f"  {message}", lambda m: f"{m.loaded.load.messages:,}"
    if back_end != "ipvs":
        yield "  bytes", lambda m: f"{m.loaded.load.bytes_sent:,}"
    for title, kind in slopes.CHANGES:
        for name, cell in _changes(title, writer, f"{message}, {element}"):
            yield name, lambda m, cell=cell, kind=kind: cell(kind(m))  # type: ignore[misc]
    if is_iptables:
        yield (
            "peak RSS of iptables, change MB",
            lambda m: f"{m.weighed.change:.0f}" if m.weighed else "-",
        )
    yield "restart: bytes -> kernel, whole s", lambda m: f"{m.restarted.load.whole:.2f}"
    yield "    processor's time s", lambda m: f"{m.restarted.load.cpu:.2f}"
    yield f"  reading back, {writer} s", lambda m: f"{m.restarted.load.read_back:.2f}"
    yield f"  {element} written", lambda m: f"{m.restarted.load.elements:,}"
    yield "  peak RSS MB", lambda m: f"{m.restarted.load.peak_megabytes:.0f}"
    yield "peak RSS after changes MB", lambda m: f"{m.loaded.peak_megabytes:.0f}"


def _changes(title: str, writer: str, units: str) -> Iterator[tuple[str, Callable[[Changes], str]]]:
    yield f"{title}: p50 / p90 / p99 ms", lambda c: f"{c.p50:.2f} / {c.p90:.2f} / {c.p99:.2f}"
    yield "  ours, p50 ms", lambda c: f"{c.ours_p50:.2f}"
    yield f"  {writer}, p50 ms", lambda c: f"{c.kernel_p50:.2f}"
    yield (
        "  the processor's: ours, kernel, p50 ms",
        lambda c: _pair(c.ours_cpu_p50, c.kernel_cpu_p50),
    )
    yield "  longest send ms", lambda c: f"{c.longest_send:.2f}"
    if writer == "iptables":
        yield "    its user, system ms", lambda c: _pair(c.user, c.system)
    yield f"  {units}", lambda c: f"{c.messages:.1f}, {c.elements:.1f}"
    if writer == "iptables":
        yield "  bytes", lambda c: f"{c.bytes_sent:,.0f}"
    else:
        yield "  most messages of one", lambda c: str(c.most_messages)
        yield (
            "  bytes, sends, system calls",
            lambda c: f"{c.bytes_sent:.0f}, {c.sends:.1f}, {c.system_calls:.1f}",
        )
    yield "  child processes", lambda c: f"{c.child_processes / c.count:g}"


def _of_stand_in(cell: Callable[[StandIn], str]) -> Callable[[Measured], str]:
    return lambda m: cell(m.stand_in) if m.stand_in else "-"


def _ratio(
    ours: Callable[[Measured], float], its: Callable[[StandIn], float]
) -> Callable[[Measured], str]:
    return lambda m: f"{its(m.stand_in) / ours(m):.1f} x" if m.stand_in else "-"


_STAND_IN: tuple[_Row, ...] = (
    ("kube-proxy's layout, iptables alone s", _of_stand_in(lambda s: f"{s.first.seconds:.2f}")),
    ("  user, system s", _of_stand_in(lambda s: _pair(s.first.user, s.first.system))),
    ("  peak RSS of iptables MB", _of_stand_in(lambda s: f"{s.first.peak_megabytes:.0f}")),
    ("  lines", _of_stand_in(lambda s: f"{s.lines:,}")),
    ("  bytes", _of_stand_in(lambda s: f"{s.bytes_sent:,}")),
    (
        "  endpoint removed, added: p50 / p90 ms",
        _of_stand_in(lambda s: f"{s.change_p50:.2f} / {s.change_p90:.2f}"),
    ),
    ("    user, system ms", _of_stand_in(lambda s: _pair(s.change_user, s.change_system))),
    ("    lines", _of_stand_in(lambda s: f"{s.change_lines:,.0f}")),
    ("    bytes", _of_stand_in(lambda s: f"{s.change_bytes:,.0f}")),
    ("    peak RSS of iptables MB", _of_stand_in(lambda s: f"{s.change_peak_megabytes:.0f}")),
    (
        "  it / bytes -> kernel, whole",
        _ratio(lambda m: m.loaded.load.whole, lambda s: s.first.seconds),
    ),
    (
        "  it / endpoint removed, added",
        _ratio(lambda m: m.loaded.resized.p50, lambda s: s.change_p50),
    ),
)


def _beside(cell: Callable[[Beside], str]) -> Callable[[Measured], str]:
    return lambda m: cell(m.beside) if m.beside else "-"


def _against(seconds: Callable[[Beside], float]) -> Callable[[Measured], str]:
    return _beside(lambda b: f"{b.ipvsadm.seconds / seconds(b):.1f} x")


_BESIDE: tuple[_Row, ...] = (
    ("side by side: ipvsadm --restore s", _beside(lambda b: f"{b.ipvsadm.seconds:.2f}")),
    ("  its user, system s", _beside(lambda b: _pair(b.ipvsadm.user, b.ipvsadm.system))),
    ("  lines, bytes", _beside(lambda b: f"{b.lines:,}, {b.bytes_sent:,}")),
    ("  our commands, one by one s", _beside(lambda b: f"{b.one_by_one:.2f}")),
    ("  our commands s", _beside(lambda b: f"{b.commands:.2f}")),
    ("    sends", _beside(lambda b: f"{b.sends:,}")),
    ("  the whole mode s", _beside(lambda b: f"{b.mode:.2f}")),
    ("    of that programs of iptables s", _beside(lambda b: f"{b.mode_programs:.2f}")),
    ("    how many", _beside(lambda b: f"{b.mode_processes:,}")),
    ("    netlink messages", _beside(lambda b: f"{b.mode_messages:,}")),
    ("  pure: plans to bytes s", _beside(lambda b: f"{b.pure:.2f}")),
    ("    of that encoding s", _beside(lambda b: f"{b.encode:.2f}")),
    ("  peak RSS MB", _beside(lambda b: f"{b.peak_megabytes:.0f}")),
    ("  ipvsadm / our commands", _against(lambda b: b.commands)),
    ("  ipvsadm / the whole mode", _against(lambda b: b.mode)),
)


def _pair(one: float, other: float) -> str:
    return f"{one:.2f}, {other:.2f}"
