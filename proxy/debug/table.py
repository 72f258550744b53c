"""How do rows become aligned text, and values JSON? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import msgspec

from proxy.settings.refusal import ConfigError

GAP = "   "
STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""A colour: SGR of ECMA-48."""


def aligned(
    rows: Sequence[Sequence[str]], indent: str = "", right: frozenset[int] = frozenset()
) -> list[str]:
    """One line a row; columns are as wide as their widest cell, those in `right` end flush."""
    sizes = [[_columns(cell) for cell in row] for row in rows]
    widths = [max(column) for column in zip_longest(*sizes, fillvalue=0)]
    lines = []
    for row, taken in zip(rows, sizes, strict=True):
        cells = []
        for i, (cell, size) in enumerate(zip(row, taken, strict=True)):
            space = " " * (widths[i] - size)
            cells.append(space + cell if i in right else cell + space)
        lines.append((indent + GAP.join(cells)).rstrip())
    return lines


def columns(cells: Iterable[str]) -> int:
    """How many columns of a screen the widest of these texts takes; colours take none."""
    return max(map(_columns, cells), default=0)


def _columns(cell: str) -> int:
    return len(STYLE.sub("", cell)) if "\x1b" in cell else len(cell)


def percent(count: int) -> str:
    """The share of one among so many: `50%`, `33.3%`, `0.05%`."""
    return f"{100 / count:.3g}%"


def wants_json(output: str) -> bool:
    """Whether `-o` asks for JSON. Raises ConfigError."""
    return wants(output, "json") == "json"


def wants(output: str, *others: str) -> str:
    """What `-o` asks for: `text`, which may be called a table, or one of the others.

    Raises ConfigError.
    """
    if output in ("text", "table"):
        return "text"
    if output not in others:
        *first, last = ("text", *others)
        raise ConfigError("-o", output, f"must be {', '.join(first)} or {last}")
    return output


def as_json(value: object) -> str:
    """Indented JSON of structs and plain values."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
