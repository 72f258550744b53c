"""What does one panel of a chart show? Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

Line = list[float | None]
"""A figure for each place on the x axis; None leaves a gap."""


class Panel(msgspec.Struct, frozen=True):
    """One quantity, of several programs, over several sizes."""

    title: str
    unit: str
    """Of the figures; empty: they are ratios."""
    x: list[str]
    """What stands below each place: `10,000 x 10`."""
    lines: dict[str, Line]
    """By name; a name has the same colour in all panels of a chart."""
    logarithmic: bool = True
    """Then figures that are not above 0 are gaps."""
    limit: float | None = None
    """The most that was promised."""
    upper: dict[str, Line] = {}
    """How far whiskers go up from the figures of a line."""

    def figure(self, name: str, place: int) -> float | None:
        """What can be shown of a line at a place."""
        return self._shown(self.lines.get(name, ()), place)

    def whisker(self, name: str, place: int) -> float | None:
        """How far up the whisker goes there."""
        return self._shown(self.upper.get(name, ()), place)

    def following(self, name: str, place: int) -> float | None:
        """The figure at the next place, if a line leads there: only Services are more, or fewer."""
        here, *there = (label.partition(" x ")[2] for label in self.x[place : place + 2])
        return self.figure(name, place + 1) if there == [here] else None

    def figures(self) -> list[float]:
        """All that the y axis must have room for."""
        every = [*self.lines.values(), *self.upper.values(), [self.limit]]
        found = (self._shown(line, place) for line in every for place in range(len(line)))
        return [value for value in found if value is not None]

    def _shown(self, line: Sequence[float | None], place: int) -> float | None:
        value = line[place] if place < len(line) else None
        if value is None or not math.isfinite(value) or (self.logarithmic and value <= 0):
            return None
        return value


def plain(value: float) -> str:
    """A figure in three digits, two below 1, without an exponent: `4,039`, `12.9`, `0.66`."""
    if value == 0:
        return "0"
    least = 2 if abs(value) < 1 else 3
    digits = max(0, least - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
