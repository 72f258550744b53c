"""How is what was found of the way of packets shown? Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.path.results import Figure, Path, Spread

_RATIOS = ("/ no proxy", "/ tracked", "/ straight")
_HEADER = (
    "rules of",
    "Services",
    *("first datagram us", *_RATIOS),
    *("TCP connect us", *_RATIOS),
    *("connections/s", *_RATIOS),
)


def rows(paths: Sequence[Path]) -> list[list[str]]:
    """The rows of a table, its header first: medians, with the quartiles of the rounds."""
    return [list(_HEADER), *map(_row, paths)]


def _row(path: Path) -> list[str]:
    name = f"{path.variant} {path.back_end}".rstrip()
    services = f"{path.services:,}" if path.back_end else "-"
    figures = (
        *_cells(path.datagram, ".1f"),
        *_cells(path.connect, ".1f"),
        *_cells(path.connections, ",.0f"),
    )
    return [name, services, *figures]


def _cells(figure: Figure, shape: str) -> tuple[str, str, str, str]:
    return (
        _cell(figure.value, shape),
        _cell(figure.to_none, ".2f"),
        _cell(figure.to_tracked, ".2f"),
        _cell(figure.to_straight, ".2f") if figure.to_straight else "-",
    )


def _cell(spread: Spread, shape: str) -> str:
    return f"{spread.median:{shape}} ({spread.low:{shape}}-{spread.high:{shape}})"
