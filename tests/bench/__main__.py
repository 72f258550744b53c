"""`make bench`: what does each size of cluster cost on this machine?

    python -m tests.bench [-o text|json] [--mode iptables] [--sizes 100x10,10000x10] [--changes 200]

Progress goes to standard error, the report to standard output. Environment: SIZES, OUTPUT and FULL
stand for the flags, MODE for the mode; `iptables` is both of its variants, `iptables-nft` and
`iptables-legacy` are one; `ipvs` runs in user-mode Linux where this kernel has no IPVS. Everything
runs in a sandbox: this machine's own rules are not touched.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from tests.bench import cluster, commands, elsewhere, idle, measure, program, report
from tests.bench.cluster import Size
from tests.bench.commands import Answered
from tests.bench.idle import Idle
from tests.bench.program import Ran
from tests.bench.results import Measured, Report
from tests.bench.targets import IDLE_SIZE, targets
from tests.lab import modes, sandbox

STAND_IN_CHANGES = 20
ROUNDS = 3
"""Beside `ipvsadm`."""
MINUTES = ("iptables-nft", 10_000)
"""With more endpoints than that, kube-proxy's layout takes this back end minutes."""


class Defaults(NamedTuple):
    """What is measured of a mode, unless flags say otherwise."""

    sizes: str
    changes: int
    runs: tuple[Size, ...]
    """The sizes at which the real program runs too."""


NFTABLES = Defaults(
    "100x10,1000x10,10000x10,100x1000,50000x1", 200, (Size(1_000, 10), Size(10_000, 10))
)
IPTABLES = Defaults("1000x10,5000x10", 60, (Size(1_000, 10), Size(5_000, 10)))
IPVS = Defaults("200x10,2000x10", 60, (Size(2_000, 10),))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the report; 0 also where a target is missed: machines differ."""
    flags = _parser().parse_args(arguments)
    back_ends = [name for name in modes.BACK_ENDS if flags.mode in (name, modes.BACK_ENDS[name][0])]
    if not back_ends:
        known = ", ".join(dict.fromkeys([*modes.BACK_ENDS, "iptables"]))
        print(f"bench: MODE={flags.mode}: must be one of {known}", file=sys.stderr)
        return 2
    if not set(back_ends) <= {*modes.offered()}:
        return elsewhere.run([*_words(flags)])
    if not sandbox.is_inside():
        sandbox.reexecute()
    sizes: list[Measured] = []
    runs: list[Ran] = []
    rest: list[Idle] = []
    answers: list[Answered] = []
    for back_end in back_ends:
        defaults = _defaults(back_end)
        for of in flags.sizes or _sizes(defaults.sizes):
            sizes.append(
                _measured(back_end, of, flags.changes or defaults.changes, full=flags.full)
            )
            if of in defaults.runs:
                sandbox.enter_private()
                tell(f"{back_end}, {of}: headgate run --once")
                runs.append(program.run_once(back_end, of))
                sandbox.enter_private()
                tell(f"{back_end}, {of}: commands")
                answers += commands.answered(back_end, of)
        if IDLE_SIZE in (flags.sizes or [IDLE_SIZE]):
            sandbox.enter_private()
            tell(f"{back_end}, {IDLE_SIZE}: idle for {idle.IDLE_SECONDS:.0f} s")
            rest.append(idle.idle(back_end, IDLE_SIZE))
    found = Report(_machine(), sizes, runs, targets(sizes, runs, rest, answers), rest, answers)
    if flags.output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print(report.text(found))
    return 0


def tell(progress: str) -> None:
    """Say what happens now."""
    print(f"bench: {progress}", file=sys.stderr, flush=True)


def _defaults(back_end: str) -> Defaults:
    if back_end == "ipvs":
        return IPVS
    return IPTABLES if measure.variant(back_end) else NFTABLES


def _words(flags: argparse.Namespace) -> Iterator[str]:
    """The arguments that mean these flags."""
    yield from ("--mode", flags.mode, "--output", flags.output, "--changes", str(flags.changes))
    yield from ("--sizes", ",".join(f"{of.services}x{of.endpoints}" for of in flags.sizes))
    if flags.full:
        yield "--full"


def _measured(back_end: str, of: Size, changes: int, *, full: bool) -> Measured:
    found = measure.measured(back_end, of, changes, tell)
    takes_minutes = back_end == MINUTES[0] and of.services * of.endpoints > MINUTES[1]
    if measure.variant(back_end) and (full or not takes_minutes):
        found.stand_in = measure.stand_in(back_end, of, STAND_IN_CHANGES, tell)
    if back_end == "ipvs":
        found.beside = measure.beside(of, ROUNDS, tell)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", allow_abbrev=False)
    environ = os.environ.get
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default=environ("OUTPUT", "text")
    )
    parser.add_argument("--sizes", type=_sizes, default=environ("SIZES", ""))
    parser.add_argument("--changes", type=int, default=0, help="of each kind")
    parser.add_argument("--mode", default=environ("MODE", "nftables"))
    parser.add_argument(
        "--full",
        action="store_true",
        default=environ("FULL", "") == "1",
        help="what takes minutes too",
    )
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
