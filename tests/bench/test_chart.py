"""Does the chart show what was measured, and nothing else? Of figures that are made up."""

from __future__ import annotations

import struct
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import chart
from tests.bench.cluster import Size
from tests.bench.panel import Line, Panel, plain
from tests.bench.path import results as path_results
from tests.bench.whole.results import Latency, Memory, Whole

MACHINE = "Linux 6.18, 2 CPUs, Python 3.11"
X = ["100 x 10", "1,000 x 10", "10,000 x 10"]
PANEL = Panel("Start", "s", X, {"ours": [0.41, 1.6, 12.34], "theirs": [0.66, None, 4_039.4]})


def texts(path: Path) -> list[str]:
    """All text of an SVG."""
    root = ET.parse(path).getroot()  # noqa: S314 (the file is ours)
    return [
        text
        for element in root.iter("{http://www.w3.org/2000/svg}text")
        if (text := "".join(element.itertext()).strip())
    ]


def drawn(tmp_path: Path, *panels: Panel) -> list[str]:
    """All text of the panels as an SVG."""
    path = tmp_path / "chart.svg"
    chart.draw(panels, path, MACHINE)
    return texts(path)


def points(path: Path) -> int:
    """How many marks stand in an SVG, those beside the names too."""
    return path.read_text().count("<use ")


def test_every_name_and_figure_is_text(tmp_path: Path) -> None:
    found = drawn(tmp_path, PANEL)
    for text in ("Start, s", "ours", "theirs", "0.41", "1.6", "12.3", "0.66", "4,039"):
        assert found.count(text) == 1, text
    assert any(MACHINE in text for text in found)


def test_none_is_a_gap(tmp_path: Path) -> None:
    drawn(tmp_path, PANEL)
    with_gap = points(tmp_path / "chart.svg")
    whole = PANEL.lines | {"theirs": [0.66, 77.7, 4_039.4]}
    found = drawn(tmp_path, Panel("Start", "s", X, whole))
    assert "77.7" in found
    assert points(tmp_path / "chart.svg") == with_gap + 1


def test_a_line_joins_only_sizes_that_differ_in_services() -> None:
    sizes = ["100 x 10", "1,000 x 10", "50,000 x 1", "5,000 x 50"]
    panel = Panel("", "", sizes, {"ours": [1.0, 2.0, 3.0, 4.0], "theirs": [1.0, None, 3.0, 4.0]})
    assert [panel.following("ours", place) for place in range(4)] == [2.0, None, None, None]
    assert [panel.following("theirs", place) for place in range(4)] == [None] * 4


@pytest.mark.parametrize("nothing", [0.0, -1.0, float("nan"), float("inf")])
def test_what_has_no_place_on_a_logarithmic_axis_is_a_gap(nothing: float, tmp_path: Path) -> None:
    found = drawn(tmp_path, Panel("Start", "s", X, {"ours": [nothing, 2.5, 12.0]}))
    assert {"2.5", "12", "ours"} <= {*found}
    assert plain(0) not in found


def test_zero_has_a_place_on_a_linear_axis(tmp_path: Path) -> None:
    panel = Panel("Commits", "", X, {"ours": [0.0, 3.25, 1.5]}, logarithmic=False)
    assert {"0", "3.25", "1.5"} <= {*drawn(tmp_path, panel)}


def test_a_panel_without_a_figure_is_drawn(tmp_path: Path) -> None:
    assert "theirs" in drawn(tmp_path, Panel("Start", "s", X, {"theirs": [None, None, None]}))


def test_the_limit_is_named(tmp_path: Path) -> None:
    panel = Panel("Change", "ms", X, {"ours": [1.0, 1.1, 1.2]}, limit=8)
    assert "target: at most 8 ms" in drawn(tmp_path, panel)


def test_a_name_has_one_colour_in_all_panels(tmp_path: Path) -> None:
    other = Panel("Memory", "MB", X, {"theirs": [514.0, None, None]})
    drawn(tmp_path, PANEL, other)
    root = ET.parse(tmp_path / "chart.svg").getroot()  # noqa: S314 (the file is ours)
    colours: dict[str, set[str | None]] = {}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        style = dict(part.split(": ", 1) for part in element.get("style", "").split("; "))
        colours.setdefault("".join(element.itertext()), set()).add(style.get("fill"))
    assert colours["514"] == colours["0.66"] == colours["4,039"]
    assert colours["514"] != colours["0.41"]


def test_no_figure_covers_another(tmp_path: Path) -> None:
    figures = [10.0 + number / 100 for number in range(0, 160, 20)]
    sizes = ["50,000 x 1", "5,000 x 50"]
    lines: dict[str, Line] = {f"proxy {figure}": [figure, figure] for figure in figures}
    drawn(tmp_path, Panel("Start", "s", sizes, {**lines, "far": [1_000.0, 1_000.0]}))
    root = ET.parse(tmp_path / "chart.svg").getroot()  # noqa: S314 (the file is ours)
    heights: dict[str, list[float]] = {}
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        if element.text in {plain(figure) for figure in figures}:
            heights.setdefault(element.get("x", ""), []).append(float(element.get("y", "")))
    assert sorted(map(len, heights.values()))[-2:] == [len(figures)] * 2
    for column in heights.values():
        # Text is 9 points high, and the heights in an SVG count from its top.
        assert all(lower - upper > 9 for lower, upper in pairwise(column)), column


def test_the_same_figures_are_the_same_bytes(tmp_path: Path) -> None:
    for kind in chart.KINDS:
        one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
        for path in (one, two):
            chart.draw([PANEL, PANEL], path, MACHINE)
        assert one.read_bytes() == two.read_bytes()
    assert "date" not in (tmp_path / "one.svg").read_text()


def test_a_png_is_1200_pixels_wide(tmp_path: Path) -> None:
    path = tmp_path / "chart.PNG"
    chart.draw([PANEL] * 3, path, MACHINE)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1_200
    assert 600 < height < 900


@pytest.mark.parametrize("name", ["chart.pdf", "chart", "svg"])
def test_another_suffix_is_one_clear_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(chart.UnknownKind) as refused:
        chart.draw([PANEL], path, MACHINE)
    assert str(refused.value) == f"chart {path}: its name must end in .svg or .png"
    assert not path.exists()


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        chart.draw([], tmp_path / "chart.svg", MACHINE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0123, "0.012"),
        (0.66, "0.66"),
        (0.999, "1"),
        (1.0, "1"),
        (1.005, "1"),
        (9.996, "10"),
        (12.94, "12.9"),
        (311.2, "311"),
        (4_039.4, "4,039"),
        (16_000.0, "16,000"),
    ],
)
def test_figures_are_plain(value: float, text: str) -> None:
    assert plain(value) == text


def whole(program: str, size: Size, factor: float, back_end: str = "nftables") -> Whole:
    """A proxy whose figures are these times the factor: 1 s, 2 ms, 3 ms, 4 ms, 5 s, 6 MB."""
    latency = Latency(100, 2 * factor, 2.5 * factor, 3 * factor, 4 * factor)
    return Whole(
        *(program, "1.0", "fake", back_end, *size, factor, factor),
        *(latency, latency, latency, None),
        *(5 * factor, factor, 1, Memory(5 * factor, factor)),
    )


def lines_of(panels: Collection[Panel]) -> dict[str, list[float | None]]:
    """The line of the kube-proxy in each panel."""
    return {panel.title: panel.lines["kube-proxy nftables"] for panel in panels}


def test_panels_of_whole_proxies() -> None:
    small, large, flat, wide = Size(100, 10), Size(10_000, 10), Size(50_000, 1), Size(100, 1_000)
    wholes = [whole("headgate", size, 1) for size in (wide, large, flat, small)]
    wholes += [whole("kube-proxy", size, factor) for size, factor in ((small, 7.0), (flat, 11.0))]
    panels = chart.panels(wholes)
    for panel in panels:
        assert panel.x == ["100 x 10", "10,000 x 10", "50,000 x 1", "100 x 1,000"]
        assert [*panel.lines] == ["headgate nftables", "kube-proxy nftables"]
    assert [*lines_of(panels).values()] == [
        [7 * figure, None, 11 * figure, None] for figure in (1.0, 5.0, 2.0, 4.0, 6.0)
    ]
    change = panels[2]
    assert change.upper["kube-proxy nftables"] == [21.0, None, 33.0, None]
    assert change.limit == 8
    assert chart.panels([whole("headgate", small, 1, "ipvs")])[2].limit is None


def test_panels_of_paths(tmp_path: Path) -> None:
    def path(variant: str, back_end: str, services: int, ratio: float) -> path_results.Path:
        to_none = path_results.Spread(ratio, ratio - 0.1, ratio + 0.1)
        other = path_results.Spread(77.0, 77.0, 77.0)
        figure = path_results.Figure(other, to_none, other)
        unlike = path_results.Figure(other, other, other)
        return path_results.Path(variant, back_end, services, figure, unlike, unlike, 10, 1_000)

    (panel,) = chart.panels(
        [],
        [
            path(path_results.NONE, "", 0, 1.0),
            path(path_results.RULE, "", 0, 1.25),
            path("headgate", "nftables", 10_000, 1.5),
            path("headgate", "nftables", 1, 1.375),
        ],
    )
    assert panel.x == ["no proxy", "1 Service", "10,000 Services"]
    assert panel.lines == {"one rule": [1.25, None, None], "headgate nftables": [None, 1.375, 1.5]}
    assert panel.upper["headgate nftables"] == [None, pytest.approx(1.475), pytest.approx(1.6)]
    assert {"1.25", "1.38", "1.5", "headgate nftables"} <= {*drawn(tmp_path, panel)}


def test_nothing_measured_is_no_panel() -> None:
    assert chart.panels([], []) == []
