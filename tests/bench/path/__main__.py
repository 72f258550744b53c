"""What does a packet pay for rules, here and now?

    python -m tests.bench.path [--mode nftables] [--services 1,1000,10000] [--rounds 9] [-o text|json]

Environment: KUBE_PROXY is the program of a peer. Runs in a sandbox; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import msgspec

from tests.bench.path import measure, table
from tests.lab import modes, sandbox


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.path", allow_abbrev=False)
    parser.add_argument("--mode", choices=modes.BACK_ENDS, default="nftables")
    parser.add_argument("--services", default="1,1000,10000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    flags = parser.parse_args(arguments)
    if not sandbox.is_inside():
        sandbox.reexecute()
    services = [int(part) for part in flags.services.split(",")]
    peer = os.environ.get("KUBE_PROXY") or None
    found = measure.measured([flags.mode], services, flags.rounds, peer, tell)
    if flags.output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0
    rows = table.rows(found)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    return 0


def tell(progress: str) -> None:
    """Say what happens now."""
    print(f"bench: {progress}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
