"""`make bench`: what does each size of cluster cost on this machine?

    python -m tests.bench [-o text|json] [--mode iptables] [--sizes 100x10,10000x10] [--changes 200]

Progress goes to standard error, the report to standard output; the folder (build/bench) gets both
of its forms and the charts. Environment: SIZES, OUTPUT, STAGES, FOLDER and FULL stand for the flags,
MODE for the mode: `all`, or `iptables`, which is both of its variants, or one back end; `ipvs` runs
in user-mode Linux where this kernel has no IPVS. KUBE_PROXY names a kube-proxy to measure beside,
KUBEBUILDER_ASSETS a folder with etcd and kube-apiserver, to follow instead of our small API server.
Everything runs in a sandbox: this machine's own rules are not touched.

What fails costs only itself, as Ctrl-C does: the report has what was measured, and names it. Exit
status 1 then, 130 after Ctrl-C, 2 where nothing was begun.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.apiserver.real import assets
from tests.bench import chart, cluster, elsewhere, installed, report
from tests.bench.cluster import Size
from tests.bench.path import targets as path_targets
from tests.bench.results import Failed, Report
from tests.bench.stages import STAGES, Bench, Wish
from tests.bench.targets import targets
from tests.bench.whole import measure as whole
from tests.bench.whole import targets as whole_targets
from tests.lab import modes, sandbox

ALL = "all"
FORMS = ("text", "json")
FOLDER = "build/bench"
FILES = ("report.txt", "report.json", "chart.svg", "chart.png")
HIDDEN = Path(whole.VANISHING)
INTERRUPTED = 130
"""Exit status, as of a shell's command that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the report; 0 also where a target is missed: machines differ.

    1 if something could not be measured, 130 if it was interrupted, 2 if nothing was begun.
    """
    flags = _parser().parse_args(arguments)
    if sys.stdout is None:
        return _refused("standard output is closed: there is no place for the report")
    back_ends = [
        name for name, (mode, _) in modes.BACK_ENDS.items() if flags.mode in (ALL, name, mode)
    ]
    if not back_ends:
        known = ", ".join(dict.fromkeys([*modes.BACK_ENDS, "iptables", ALL]))
        return _refused(f"MODE={flags.mode}: must be one of {known}")
    try:
        contenders = whole.contenders(os.environ.get("KUBE_PROXY", ""))
        assets()
        _prepare(flags.folder)
        installed.make_so(os.environ)
    except OSError as error:
        return _refused(str(error))
    here = [name for name in back_ends if name in modes.offered()]
    if not here and (reason := elsewhere.why_not()):
        return _refused(reason)
    if not sandbox.is_inside():
        sandbox.reexecute()
    found = Report(_machine())
    wish = Wish(flags.stages, flags.sizes, flags.changes, contenders, flags.full)
    interrupted = False
    try:
        _measure(Bench(found, wish, tell), found, flags, back_ends, here)
    except KeyboardInterrupt:
        interrupted = True
        found.failed.append(Failed("what comes after this", "interrupted"))
    found.targets = targets(found.sizes, found.runs, found.idle, found.answers)
    found.targets += whole_targets.targets(found.wholes, found.sustained)
    found.targets += path_targets.targets(found.paths)
    _show(found, flags.folder, flags.output)
    return INTERRUPTED if interrupted else int(bool(found.failed))


def _measure(
    bench: Bench,
    found: Report,
    flags: argparse.Namespace,
    back_ends: Sequence[str],
    here: Sequence[str],
) -> None:
    """What is asked for, on this kernel if it has what that needs, else elsewhere."""
    for back_end in here:
        bench.measure(back_end)
    bench.measure_paths(here)
    for back_end in [name for name in back_ends if name not in here]:
        try:
            found.join(elsewhere.run(_words(flags, back_end), tell))
        except elsewhere.Failed as failed:
            tell(str(failed))
            found.failed.append(Failed(back_end, str(failed)))


def _prepare(folder: str) -> None:
    """See to it that the report can be written in the end. Raises OSError if it cannot."""
    if not folder:
        return
    place = Path(folder).resolve()
    if HIDDEN in (place, *place.parents):
        raise OSError(f"FOLDER={folder}: the sandbox has a {HIDDEN} of its own, which vanishes")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OSError(f"FOLDER={folder}: {error.strerror}") from error


def tell(progress: str) -> None:
    """Say what happens now."""
    print(f"bench: {progress}", file=sys.stderr, flush=True)


def _refused(reason: str) -> int:
    tell(reason)
    return 2


def _words(flags: argparse.Namespace, back_end: str) -> Iterator[str]:
    """The arguments that ask for the same of one back end, for a program to read."""
    yield from ("--mode", back_end, "--output", "json", "--folder", "")
    yield from ("--stages", ",".join(flags.stages))
    yield from ("--sizes", ",".join(f"{of.services}x{of.endpoints}" for of in flags.sizes))
    if flags.changes:
        yield from ("--changes", str(flags.changes))
    if flags.full:
        yield "--full"


def _show(found: Report, folder: str, output: str) -> None:
    """Print the report, and put all its forms into the folder unless that is empty."""
    as_text = report.text(found)
    as_json = msgspec.json.format(msgspec.json.encode(found)).decode()
    if folder:
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        text, json, *charts = FILES
        (place / text).write_text(f"{as_text}\n")
        (place / json).write_text(f"{as_json}\n")
        panels = chart.panels(found.wholes, found.paths)
        for name in charts:
            (place / name).unlink(missing_ok=True)  # of another run
        drawn = bool(panels)
        try:
            for name in charts if panels else ():
                chart.draw(panels, place / name, found.machine)
        except ImportError as error:
            drawn = False
            tell(f"no charts: {error}")
        tell(f"report{' and charts' * drawn}: {place}")
    print(as_json if output == "json" else as_text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", allow_abbrev=False)
    environ = os.environ.get
    add = parser.add_argument
    add("-o", "--output", choices=FORMS, default=environ("OUTPUT", "text"))
    add("--sizes", type=_sizes, default=environ("SIZES", ""))
    add("--stages", type=_stages, default=environ("STAGES", ""), help=", ".join(STAGES))
    add("--changes", type=_count, default=0, help="of each kind")
    add("--mode", default=environ("MODE", "nftables"))
    add("--folder", default=environ("FOLDER", FOLDER), help="for the report and the charts")
    add(
        "--full", action="store_true", default=environ("FULL") == "1", help="what takes minutes too"
    )
    if parser.get_default("output") not in FORMS:
        parser.error(f"OUTPUT={parser.get_default('output')}: must be one of {', '.join(FORMS)}")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 1")
    return int(text)


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
