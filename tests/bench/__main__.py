"""`make bench`: what does each size of cluster cost on this machine?

    python -m tests.bench [-o text|json] [--sizes 100x10,10000x10] [--changes 200]

Progress goes to standard error, the report to standard output. Environment: SIZES and OUTPUT stand
for the flags, MODE for the mode. Everything runs in a sandbox: this machine's own rules are not
touched.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence

import msgspec

from tests.bench import cluster, measure, program, report
from tests.bench.cluster import Size
from tests.bench.report import Report
from tests.lab import sandbox

SIZES = "100x10,1000x10,10000x10,100x1000,50000x1"
RUNS = (Size(1_000, 10), Size(10_000, 10))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the report; 0 also where a target is missed: machines differ."""
    flags = _parser().parse_args(arguments)
    if flags.mode != "nftables":
        print(f"bench: MODE={flags.mode}: only nftables is measured", file=sys.stderr)
        return 2
    if not sandbox.is_inside():
        sandbox.reexecute()
    sizes = [measure.measured(of, flags.changes, tell) for of in flags.sizes]
    runs = []
    for of in RUNS:
        if of in flags.sizes:
            sandbox.enter_private()
            tell(f"{of}: headgate run --once")
            runs.append(program.run_once(of))
    found = Report(_machine(), sizes, runs, report.targets(sizes, runs))
    if flags.output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print(report.text(found))
    return 0


def tell(progress: str) -> None:
    """Say what happens now."""
    print(f"bench: {progress}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", allow_abbrev=False)
    environ = os.environ.get
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default=environ("OUTPUT", "text")
    )
    parser.add_argument("--sizes", type=_sizes, default=environ("SIZES", SIZES))
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--mode", default=environ("MODE", "nftables"))
    return parser


def _sizes(text: str) -> list[Size]:
    try:
        return [cluster.size(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _machine() -> str:
    return f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
