"""How wide is the place that a command answers to, and does it show colours?

A word is never broken: an address or a rule that is cut in two can be neither read nor copied. A
line whose longest word does not fit is longer than the screen.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from proxy.debug.table import GAP, STYLE, aligned, columns
from proxy.settings.refusal import printable

_CODE = "\x1b[{}m"
_PLAIN_AGAIN = _CODE.format(0)

_WORD = re.compile(r"\s*\S+")
_READABLE = 20
"""Columns that a folded text should have."""
_KEY_AND_ONE = 2
"""Columns of a table that cannot be divided."""


class Style(StrEnum):
    """What a colour says; the values are parameters of SGR (ECMA-48, section 8.3.117)."""

    GOOD = "32"
    BAD = "31"
    DOUBT = "33"
    FAINT = "2"


_OURS = re.compile(
    f"({'|'.join(map(re.escape, (_PLAIN_AGAIN, *(_CODE.format(s) for s in Style))))})"
)


class Screen(msgspec.Struct, frozen=True):
    """Where text goes."""

    width: int | None = None
    """Columns; None: lines may be as long as they like."""
    colour: bool = False

    def painted(self, text: str, style: Style) -> str:
        """The text in its colour, where there are colours."""
        return f"{_CODE.format(style)}{text}{_PLAIN_AGAIN}" if self.colour and text else text

    def table(
        self,
        rows: Sequence[Sequence[str]],
        indent: str = "",
        right: frozenset[int] = frozenset(),
        give: int = -1,
    ) -> list[str]:
        """Rows as aligned lines; the columns in `right` end flush.

        Where a line would be wider than the screen, the text of column `give` goes on below
        itself. A negative one counts from the last column of the longest row. Where that leaves
        too little room for it, there are several tables, one below the other, which all begin with
        the first column.
        """
        return [self._harmless(line) for line in self._table(rows, indent, right, give)]

    def _table(
        self, rows: Sequence[Sequence[str]], indent: str, right: frozenset[int], give: int
    ) -> list[str]:
        if self.width is None:
            return aligned(rows, indent, right)
        cells = _columns(rows)
        widths = [columns(column) for column in cells]
        taken = len(indent) + len(GAP) * (len(widths) - 1) + sum(widths)
        if taken <= self.width:
            return aligned(rows, indent, right)
        given = give % len(widths)
        room = self.width - taken + widths[given]
        if room >= _least(cells[given]) or len(widths) <= _KEY_AND_ONE:
            parts = [part for row in rows for part in _parts(row, given, room)]
            return aligned(parts, indent, right)
        widths[given] = _least(cells[given])
        lines: list[str] = []
        for chosen in _tables(widths, self.width - len(indent)):
            part = [[row[i] for i in chosen if i < len(row)] for row in rows]
            flush = frozenset(at for at, i in enumerate(chosen) if i in right)
            at = chosen.index(given) if given in chosen else -1
            lines += self._table(part, indent, flush, at)
        return lines

    def prose(self, text: str, indent: str = "", hang: str = "") -> list[str]:
        """Lines of a text; all begin with `indent`, all but the first with `hang` after that."""
        if self.width is None:
            return [self._harmless(indent + text)]
        first = self.width - len(indent)
        lines = wrapped(text, first, first - len(hang))
        return [
            self._harmless(indent + (hang if number else "") + line)
            for number, line in enumerate(lines)
        ]

    def _harmless(self, line: str) -> str:
        """A line in which nothing but our colours is obeyed by a terminal."""
        if line.isprintable():
            return line
        if not self.colour:
            return printable(line)
        parts = enumerate(_OURS.split(line))
        return "".join(part if number % 2 else printable(part) for number, part in parts)


PLAIN = Screen()


def screen() -> Screen:
    """The standard output of this process.

    Colours are for a terminal that knows them, unless NO_COLOR says otherwise
    (https://no-color.org). COLUMNS beats the width of the terminal; without either lines are as
    long as they like.
    """
    is_terminal = sys.stdout.isatty()
    colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Screen(_width(is_terminal=is_terminal), colour)


def _width(*, is_terminal: bool) -> int | None:
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdecimal() and int(said):
        return int(said)
    # A terminal may not know its size, which it tells as 0: a serial line, for one.
    return (os.get_terminal_size(sys.stdout.fileno()).columns or None) if is_terminal else None


def wrapped(text: str, first: int, room: int) -> list[str]:
    """A text in lines: the first one of at most so many columns, the others of `room`.

    Gaps of several spaces stay, but where a line ends. A colour that a line ends in ends with it,
    and begins again on the next one.
    """
    lines: list[str] = []
    line = ""
    for piece in _WORD.findall(text.strip()):
        room_here = room if lines else first
        if line and columns([line + piece]) > room_here:
            lines.append(line)
            line = piece.lstrip()
        else:
            line += piece
    lines.append(line)
    return _each_painted(lines)


def _each_painted(lines: Sequence[str]) -> list[str]:
    painted = []
    style = ""
    for line in lines:
        begun = style
        for found in STYLE.findall(line):
            style = "" if found == _PLAIN_AGAIN else found
        painted.append(begun + line + (_PLAIN_AGAIN if style else ""))
    return painted


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    count = max(map(len, rows), default=0)
    return [[row[i] for row in rows if i < len(row)] for i in range(count)]


def _least(column: Sequence[str]) -> int:
    """What a column needs to be read with ease when it is folded."""
    return min(columns(column), max(_READABLE, columns(w for cell in column for w in cell.split())))


def _tables(widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand side by side: the first one, and as many of the next as there is room."""
    tables: list[list[int]] = []
    used = 0
    for column in range(1, len(widths)):
        needed = len(GAP) + widths[column]
        if not tables or used + needed > width:
            tables.append([0])
            used = widths[0]
        tables[-1].append(column)
        used += needed
    return tables


def _parts(row: Sequence[str], give: int, room: int) -> list[list[str]]:
    """A row as several, of which all but the first have one cell with text."""
    if give >= len(row):
        return [list(row)]
    first, *others = wrapped(row[give], room, room)
    cells = list(row)
    cells[give] = first
    return [cells, *([*[""] * give, other] for other in others)]
