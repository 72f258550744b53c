"""`make bench`: what does each size of cluster cost on this machine?

    python -m tests.bench [-o text|json] [--mode iptables] [--sizes 100x10,10000x10] [--changes 200]

Progress goes to standard error, the report to standard output; the folder (build/bench) gets both
of its forms and the charts. Environment: SIZES, OUTPUT, STAGES, FOLDER and FULL stand for the flags,
MODE for the mode: `all`, or `iptables`, which is both of its variants, or one back end; `ipvs` runs
in user-mode Linux where this kernel has no IPVS. KUBE_PROXY names a kube-proxy to measure beside,
KUBEBUILDER_ASSETS a folder with etcd and kube-apiserver, to follow instead of our small API server.
Everything runs in a sandbox: this machine's own rules are not touched.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.bench import chart, cluster, elsewhere, report
from tests.bench.cluster import Size
from tests.bench.path import targets as path_targets
from tests.bench.results import Report
from tests.bench.stages import STAGES, Bench, Wish
from tests.bench.targets import targets
from tests.bench.whole import measure as whole
from tests.bench.whole import targets as whole_targets
from tests.lab import modes, sandbox

ALL = "all"
FOLDER = "build/bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the report; 0 also where a target is missed: machines differ."""
    flags = _parser().parse_args(arguments)
    back_ends = [
        name for name, (mode, _) in modes.BACK_ENDS.items() if flags.mode in (ALL, name, mode)
    ]
    if not back_ends:
        known = ", ".join(dict.fromkeys([*modes.BACK_ENDS, "iptables", ALL]))
        return _refused(f"MODE={flags.mode}: must be one of {known}")
    try:
        contenders = whole.contenders(os.environ.get("KUBE_PROXY", ""))
    except FileNotFoundError as error:
        return _refused(str(error))
    here = [name for name in back_ends if name in modes.offered()]
    if here and not sandbox.is_inside():
        sandbox.reexecute()
    found = Report(_machine())
    wish = Wish(flags.stages, flags.sizes, flags.changes, contenders, flags.full)
    bench = Bench(found, wish, tell)
    for back_end in here:
        bench.measure(back_end)
    bench.measure_paths(here)
    try:
        for back_end in [name for name in back_ends if name not in here]:
            found.join(elsewhere.run(_words(flags, back_end), tell))
    except elsewhere.Failed as failed:
        return _refused(str(failed))
    found.targets = targets(found.sizes, found.runs, found.idle, found.answers)
    found.targets += whole_targets.targets(found.wholes, found.sustained)
    found.targets += path_targets.targets(found.paths)
    _show(found, flags.folder, flags.output)
    return 0


def tell(progress: str) -> None:
    """Say what happens now."""
    print(f"bench: {progress}", file=sys.stderr, flush=True)


def _refused(reason: str) -> int:
    tell(reason)
    return 2


def _words(flags: argparse.Namespace, back_end: str) -> Iterator[str]:
    """The arguments that ask for the same of one back end, for a program to read."""
    yield from ("--mode", back_end, "--output", "json", "--folder", "")
    yield from ("--changes", str(flags.changes), "--stages", ",".join(flags.stages))
    yield from ("--sizes", ",".join(f"{of.services}x{of.endpoints}" for of in flags.sizes))
    if flags.full:
        yield "--full"


def _show(found: Report, folder: str, output: str) -> None:
    """Print the report, and put all its forms into the folder unless that is empty."""
    as_text = report.text(found)
    as_json = msgspec.json.format(msgspec.json.encode(found)).decode()
    if folder:
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.txt").write_text(f"{as_text}\n")
        (place / "report.json").write_text(f"{as_json}\n")
        panels = chart.panels(found.wholes, found.paths)
        for name in ("chart.svg", "chart.png") if panels else ():
            chart.draw(panels, place / name, found.machine)
        tell(f"report and charts: {place}")
    print(as_json if output == "json" else as_text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", allow_abbrev=False)
    environ = os.environ.get
    add = parser.add_argument
    add("-o", "--output", choices=("text", "json"), default=environ("OUTPUT", "text"))
    add("--sizes", type=_sizes, default=environ("SIZES", ""))
    add("--stages", type=_stages, default=environ("STAGES", ""), help=", ".join(STAGES))
    add("--changes", type=int, default=0, help="of each kind")
    add("--mode", default=environ("MODE", "nftables"))
    add("--folder", default=environ("FOLDER", FOLDER), help="for the report and the charts")
    add(
        "--full", action="store_true", default=environ("FULL") == "1", help="what takes minutes too"
    )
    return parser


def _sizes(text: str) -> tuple[Size, ...]:
    try:
        return tuple(cluster.size(part) for part in _parts(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _stages(text: str) -> tuple[str, ...]:
    chosen = tuple(_parts(text)) or STAGES
    if unknown := {*chosen} - {*STAGES}:
        known = ", ".join(STAGES)
        raise argparse.ArgumentTypeError(f"stage {min(unknown)}: must be one of {known}")
    return chosen


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _machine() -> str:
    return f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
