"""How is a chart drawn? By matplotlib (decision 0020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, inf, log10
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tests.bench.panel import Panel, plain

COLUMNS = 2
MOST_NAMES = 5
"""In a row."""
DPI = 100
WIDTH = 12.0
"""Inches, as all lengths that are not said to be points."""
_ROW, _TITLE, _TICKS, _NAMES, _FOOT = 3.2, 0.36, 0.46, 0.27, 0.4
"""Heights: of a panel, of its title and its ticks in it; of a row of names, of the caption."""
_MARGIN = 0.1
"""Room for labels below and above the figures, as a part of what lies between them."""
_LEAST = 5.0
"""The high end of a logarithmic axis is at least so many times its low end: noise looks flat."""
_LABEL_POINTS = 10.0
_STEPS = ((8, (1, 1.5, 2, 3, 5, 7)), (200, (1, 2, 5)), (inf, (1,)))
"""Ticks of a power of ten, for axes whose ends are less than so far apart."""
_INK, _FAINT, _GRID = "#222222", "#666666", "#dddddd"
# The colours of Okabe and Ito, which people tell apart who see few of them, cool and warm by turns;
# their yellow is too pale for a line. With the shapes no two of sixteen names look alike.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C8C8C")
_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_BACKGROUND: dict[str, object] = {
    "facecolor": "white",
    "edgecolor": "none",
    "alpha": 0.8,
    "pad": 0.6,
}
_STYLE: dict[Any, Any] = {
    # Comes with matplotlib; who looks at an SVG without it has something as wide, or narrower.
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    # Text remains text, and the same figures are the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "headgate",
}


class _Look(NamedTuple):
    colour: str
    shape: str


class _Label(NamedTuple):
    """A figure beside its point."""

    text: str
    colour: str
    height: float
    """Of its middle, in points above the bottom of the axes."""
    aside: float
    """From its point to its near end, in points."""
    to_left: bool = False


def draw(panels: Sequence[Panel], path: Path, kind: str, caption: str) -> None:
    """Write the panels as a file of a kind that matplotlib knows."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own settings are
        mpl.rcParams.update(_STYLE)
        looks = _looks(panels)
        columns = len(looks) if len(looks) <= MOST_NAMES else min(MOST_NAMES, ceil(len(looks) / 2))
        rows, head = ceil(len(panels) / COLUMNS), 0.1 + _NAMES * ceil(len(looks) / columns)
        height = head + rows * _ROW + _FOOT
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        figure.subplots_adjust(
            left=0.05,
            right=0.985,
            top=1 - (head + _TITLE) / height,
            bottom=(_FOOT + _TICKS) / height,
            wspace=0.13,
            hspace=(_TITLE + _TICKS) / (_ROW - _TITLE - _TICKS),
        )
        for number, panel in enumerate(panels):
            _panel(figure.add_subplot(rows, COLUMNS, number + 1), panel, looks)
        _names(figure, looks, columns)
        figure.text(0.5, 0.1 / height, caption, ha="center", va="bottom", color=_FAINT)
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(path, format=kind, metadata=metadata)


def _looks(panels: Sequence[Panel]) -> dict[str, _Look]:
    names = dict.fromkeys(name for panel in panels for name in panel.lines)
    return {
        name: _Look(_COLOURS[number % len(_COLOURS)], _SHAPES[number % len(_SHAPES)])
        for number, name in enumerate(names)
    }


def _names(figure: Figure, looks: dict[str, _Look], columns: int) -> None:
    marks = [
        Line2D([], [], color=look.colour, marker=look.shape, linewidth=2) for look in looks.values()
    ]
    figure.legend(
        marks,
        [*looks],
        loc="upper center",
        ncols=columns,
        frameon=False,
        borderaxespad=0.3,
        fontsize=10.5,
    )


def _panel(axes: Axes, panel: Panel, looks: dict[str, _Look]) -> None:
    unit = f", {panel.unit}" if panel.unit else ""
    axes.set_title(f"{panel.title}{unit}", loc="left", fontsize=11.5, fontweight="bold")
    _scale(axes, panel)
    axes.set_xlim(-0.4, len(panel.x) - 1 + 0.6)
    axes.set_xticks(range(len(panel.x)), [label.replace(" ", "\n", 1) for label in panel.x])
    axes.grid(axis="y", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if panel.limit is not None:
        _limit(axes, panel.limit, panel.unit)
    for name in panel.lines:
        _line(axes, panel, name, looks[name])
    for place in range(len(panel.x)):
        _labels(axes, panel, place, looks)


def _limit(axes: Axes, limit: float, unit: str) -> None:
    axes.axhline(limit, color=_FAINT, linewidth=1, linestyle=(0, (2, 2)))
    axes.annotate(
        f"target: at most {plain(limit)} {unit}".rstrip(),
        (0, limit),
        xycoords=("axes fraction", "data"),
        xytext=(2, 7),
        textcoords="offset points",
        va="center",
        color=_FAINT,
        fontsize=8,
        bbox=_BACKGROUND,
    )


def _scale(axes: Axes, panel: Panel) -> None:
    """The y axis, with plain numbers."""
    figures = panel.figures() or [1.0]
    low, high = min(figures), max(figures)
    if panel.logarithmic:
        axes.set_yscale("log")
        factor = max((high / low) ** _MARGIN, (_LEAST / (high / low)) ** 0.5)
        low, high = low / factor**1.2, high * factor
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator([*_ticks(low, high)]))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(min(0.0, low), max(0.0, high) * (1 + _MARGIN) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _ticks(low: float, high: float) -> Iterator[float]:
    """Powers of ten; the fewer there are, the more between them."""
    steps = next(steps for most, steps in _STEPS if high / low < most)
    for power in range(floor(log10(low)), ceil(log10(high)) + 1):
        for step in steps:
            tick = step * 10.0**power
            if low <= tick <= high:
                yield tick


def _line(axes: Axes, panel: Panel, name: str, look: _Look) -> None:
    """The points of a name, with their whiskers; neighbours are joined that may be."""
    run: list[tuple[int, float]] = []
    for place in range(len(panel.x)):
        if (figure := panel.figure(name, place)) is None:
            continue
        run.append((place, figure))
        if (upper := panel.whisker(name, place)) is not None:
            axes.plot([place, place], [figure, upper], color=look.colour, linewidth=1.2)
            axes.plot(place, upper, marker="_", markersize=7, color=look.colour)
        if panel.following(name, place) is None:
            _run(axes, run, look)
            run = []


def _run(axes: Axes, run: Sequence[tuple[int, float]], look: _Look) -> None:
    places, figures = zip(*run, strict=True)
    axes.plot(places, figures, color=look.colour, marker=look.shape, markersize=6, linewidth=2)


def _labels(axes: Axes, panel: Panel, place: int, looks: dict[str, _Look]) -> None:
    """The figures at a place: that of the highest point above it, the others to the right."""
    figures = {name: panel.figure(name, place) for name in panel.lines}
    known = {name: figure for name, figure in figures.items() if figure is not None}
    highest = max(known, key=lambda name: known[name], default="")
    aside = []
    for name, figure in sorted(known.items(), key=lambda one: one[1]):
        text, colour = plain(figure), looks[name].colour
        following = panel.following(name, place)
        height = _height(axes, figure)
        if following is None:
            aside.append(_Label(text, colour, height, 7))
        elif name == highest and len(known) > 1:
            top = _height(axes, panel.whisker(name, place) or figure)
            left = following > figure
            _write(axes, place, _Label(text, colour, top + 9, 6 if left else -6, to_left=left))
        else:
            # Beside the line that goes on to the right, not on it.
            aside.append(_Label(text, colour, height + (-8 if following > figure else 8), 4))
    for label in _apart(aside):
        _write(axes, place, label)


def _write(axes: Axes, place: int, label: _Label) -> None:
    axes.annotate(
        label.text,
        (place, 0),
        xycoords=("data", "axes fraction"),
        xytext=(label.aside, label.height),
        textcoords="offset points",
        ha="right" if label.to_left else "left",
        va="center",
        color=label.colour,
        fontsize=9,
        bbox=_BACKGROUND,
    )


def _height(axes: Axes, figure: float) -> float:
    """Points from the bottom of the axes to a figure."""
    ends = axes.get_ylim()
    low, high, at = map(log10, (*ends, figure)) if axes.get_yscale() == "log" else (*ends, figure)
    return (at - low) / (high - low) * (_ROW - _TITLE - _TICKS) * 72


def _apart(labels: Sequence[_Label]) -> list[_Label]:
    """Labels from that of the lowest figure to the highest's, until none covers the next one.

    Those that touch make a pile, whose middle is the mean of where its labels want to be.
    """
    piles: list[list[_Label]] = []
    for label in labels:
        piles.append([label])
        while len(piles) > 1 and _bottom(piles[-1]) < _bottom(piles[-2]) + _LABEL_POINTS * len(
            piles[-2]
        ):
            piles[-2:] = [piles[-2] + piles[-1]]
    return [
        label._replace(height=_bottom(pile) + _LABEL_POINTS * number)
        for pile in piles
        for number, label in enumerate(pile)
    ]


def _bottom(pile: Sequence[_Label]) -> float:
    """The height of its lowest label."""
    mean = sum(label.height for label in pile) / len(pile)
    return max(mean - _LABEL_POINTS * (len(pile) - 1) / 2, _LABEL_POINTS / 2)
