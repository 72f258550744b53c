"""Which promises are kept of the way of packets? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.path.results import NONE, Figure, Path
from tests.bench.target import Target

MODE = "nftables"
LIMIT = 1.10
"""Of what a first packet takes without any proxy."""


def targets(paths: Sequence[Path]) -> Iterator[Target]:
    """The promises that these measurements can judge."""
    for path in paths:
        if (path.variant, path.back_end) == ("headgate", MODE):
            yield _first(path, "first datagram", path.datagram)
            yield _first(path, "TCP connect", path.connect)


def _first(path: Path, what: str, figure: Figure) -> Target:
    ratio = figure.to_none
    size = f"{path.services:,} Services"
    measured = f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"
    limit = f"<= {LIMIT:.2f} times"
    met = ratio.median <= LIMIT
    return Target(path.back_end, size, f"{what}, against {NONE}", limit, measured, met=met)
