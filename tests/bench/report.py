"""What do the measurements say, and which targets do they meet? Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tests.bench.cluster import Size
from tests.bench.worker import Changes, Load, Loaded


class Measured(msgspec.Struct):
    """Everything about one size."""

    services: int
    endpoints: int
    loaded: Loaded
    restart: Load

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)


class Ran(msgspec.Struct):
    """The real program, from its start to its exit: `headgate run --once`."""

    services: int
    endpoints: int
    seconds: float
    peak_megabytes: float

    @property
    def size(self) -> Size:
        """The size that was measured."""
        return Size(self.services, self.endpoints)


class Target(msgspec.Struct):
    """What was promised of one size, and what came of it."""

    size: str
    what: str
    limit: str
    figure: str
    met: bool


class Report(msgspec.Struct):
    """All that a run of the bench found."""

    machine: str
    sizes: list[Measured]
    runs: list[Ran]
    targets: list[Target] = []


TARGET_SIZE = Size(10_000, 10)

_Rows = tuple[tuple[str, Callable[[Measured], str]], ...]


def _changes(title: str, of: Callable[[Measured], Changes]) -> _Rows:
    return (
        (f"{title}: p50 / p90 / p99 ms", lambda m: _spread(of(m))),
        ("  ours, p50 ms", lambda m: f"{of(m).ours_p50:.2f}"),
        ("  kernel, p50 ms", lambda m: f"{of(m).kernel_p50:.2f}"),
        ("  messages, elements", lambda m: f"{of(m).messages:.1f}, {of(m).elements:.1f}"),
        ("  bytes, system calls", lambda m: f"{of(m).bytes_sent:.0f}, {of(m).system_calls:.1f}"),
        ("  child processes", lambda m: str(of(m).child_processes)),
    )


def _spread(of: Changes) -> str:
    return f"{of.p50:.2f} / {of.p90:.2f} / {of.p99:.2f}"


_ROWS: _Rows = (
    ("load: decode s", lambda m: f"{m.loaded.load.decode:.2f}"),
    ("  fold + plan s", lambda m: f"{m.loaded.load.fold_and_plan:.2f}"),
    ("  encode + commit s", lambda m: f"{m.loaded.load.encode_and_commit:.2f}"),
    ("    of that the kernel s", lambda m: f"{m.loaded.load.kernel:.2f}"),
    ("  bytes -> kernel, whole s", lambda m: f"{m.loaded.load.whole:.2f}"),
    ("    processor's time s", lambda m: f"{m.loaded.load.cpu:.2f}"),
    ("  peak RSS MB", lambda m: f"{m.loaded.load.peak_megabytes:.0f}"),
    ("  elements", lambda m: f"{m.loaded.load.elements:,}"),
    ("  messages", lambda m: f"{m.loaded.load.messages:,}"),
    ("  bytes", lambda m: f"{m.loaded.load.bytes_sent:,}"),
    *_changes("endpoint replaced", lambda m: m.loaded.replaced),
    *_changes("endpoint removed, added", lambda m: m.loaded.resized),
    ("restart: bytes -> kernel, whole s", lambda m: f"{m.restart.whole:.2f}"),
    ("    processor's time s", lambda m: f"{m.restart.cpu:.2f}"),
    ("  reading back, kernel s", lambda m: f"{m.restart.read_back:.2f}"),
    ("  elements written", lambda m: f"{m.restart.elements:,}"),
    ("  peak RSS MB", lambda m: f"{m.restart.peak_megabytes:.0f}"),
    ("peak RSS after changes MB", lambda m: f"{m.loaded.peak_megabytes:.0f}"),
)


def text(report: Report) -> str:
    """The report as aligned tables."""
    parts = [report.machine]
    if report.sizes:
        head = ["Services x endpoints", *(str(m.size) for m in report.sizes)]
        parts.append(
            _table([head, *([name, *map(cell, report.sizes)] for name, cell in _ROWS)], right=True)
        )
        parts += slopes(report.sizes)
    if report.runs:
        rows = [["headgate run --once", "start to exit s", "peak RSS MB"]]
        rows += [[str(r.size), f"{r.seconds:.2f}", f"{r.peak_megabytes:.0f}"] for r in report.runs]
        parts.append(_table(rows, right=True))
    if report.targets:
        rows = [["target", "size", "limit", "measured", ""]]
        rows += [
            [t.what, t.size, t.limit, t.figure, "met" if t.met else "NOT MET"]
            for t in report.targets
        ]
        parts.append(_table(rows, right=False))
    return "\n\n".join(parts)


def slopes(sizes: Sequence[Measured]) -> list[str]:
    """How a change grows between the smallest and the largest cluster with as many endpoints."""
    out: list[str] = []
    for endpoints in sorted({m.endpoints for m in sizes}):
        alike = sorted((m for m in sizes if m.endpoints == endpoints), key=lambda m: m.services)
        small, large = alike[0], alike[-1]
        if small is large:
            continue
        growth = large.services / small.services
        lines = [f"from {small.size} to {large.size}, {growth:,.0f} times as many Services:"]
        for what, a, b in (
            ("endpoint replaced", small.loaded.replaced, large.loaded.replaced),
            ("endpoint removed, added", small.loaded.resized, large.loaded.resized),
        ):
            ours, kernel = b.ours_p50 / a.ours_p50, b.kernel_p50 / a.kernel_p50
            lines.append(f"  {what}: ours x {ours:.1f}, kernel x {kernel:.1f}")
        out.append("\n".join(lines))
    return out


def targets(sizes: Sequence[Measured], runs: Sequence[Ran]) -> list[Target]:
    """The promises that these measurements can judge."""
    out: list[Target] = []
    found = {m.size: m for m in sizes}
    if full := found.get(TARGET_SIZE):
        load, worst = full.loaded.load, max(full.loaded.replaced.p50, full.loaded.resized.p50)
        children = load.child_processes + full.loaded.replaced.child_processes
        children += full.loaded.resized.child_processes
        memory = max(full.loaded.peak_megabytes, full.restart.peak_megabytes)
        out += [
            _below(full.size, "encode + commit", load.encode_and_commit, 1.0, "s"),
            _below(full.size, "manifests in memory to kernel", load.whole, 3.0, "s"),
            _below(full.size, "peak RSS, load and restart", memory, 150.0, "MB"),
            _below(full.size, "one change, p50", worst, 5.0, "ms"),
            _exactly(full.size, "child processes", children),
            _exactly(full.size, "elements written by a restart", full.restart.elements),
        ]
        if small := found.get(Size(100, 10)):
            out.append(_flat(full, small))
    for run in runs:
        if run.size == TARGET_SIZE:
            out += [
                _below(run.size, "headgate run --once, peak RSS", run.peak_megabytes, 150.0, "MB")
            ]
    return out


def _flat(large: Measured, small: Measured) -> Target:
    ratio = max(
        large.loaded.replaced.ours_p50 / small.loaded.replaced.ours_p50,
        large.loaded.resized.ours_p50 / small.loaded.resized.ours_p50,
    )
    what = f"our part of a change against {small.size}"
    return Target(str(large.size), what, "< 2.0 times", f"{ratio:.1f} times", met=ratio < 2)


def _below(of: Size, what: str, figure: float, limit: float, unit: str) -> Target:
    measured = f"{figure:.2f} {unit}" if unit != "MB" else f"{figure:.0f} {unit}"
    return Target(str(of), what, f"< {limit:.0f} {unit}", measured, met=figure < limit)


def _exactly(of: Size, what: str, figure: int) -> Target:
    return Target(str(of), what, "0", str(figure), met=figure == 0)


def _table(rows: Sequence[Sequence[str]], *, right: bool) -> str:
    """Columns as wide as their widest cell; the first one is aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
