"""Do documentation and dashboard speak of the metrics that there are?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from modes.registry import MODES
from proxy.metrics.metrics import Metrics, Sources
from proxy.metrics.table import OURS, TABLE, Kind, Row

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
NAME = re.compile(r"\b(?:kubeproxy|headgate|rest_client|process|kubernetes)_\w+")
OF_TARGET = {"job", "instance"}
"""Labels that Prometheus gives to what it scrapes."""
SINCE_START = {"headgate_drift_found_total"}
"""Counters whose series begin with 1 and mostly end there: no rate shows them."""


class Panel(NamedTuple):
    title: str
    x: int
    y: int
    width: int
    height: int
    expressions: tuple[str, ...]

    def cells(self) -> Iterator[tuple[int, int]]:
        return (
            (self.x + across, self.y + down)
            for across in range(self.width)
            for down in range(self.height)
        )


def panels() -> list[Panel]:
    found = []
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        asked = tuple(target["expr"] for target in panel.get("targets", ()))
        found.append(Panel(panel["title"], place["x"], place["y"], place["w"], place["h"], asked))
    return found


EXPRESSIONS = [expression for panel in panels() for expression in panel.expressions]


def row_of(series: str) -> Row | None:
    """The metric that a name in an expression is of."""
    for row in TABLE:
        if row.kind is Kind.HISTOGRAM:
            if series in {f"{row.name}_{part}" for part in ("bucket", "count", "sum")}:
                return row
        elif series == row.name:
            return row
    return None


def test_the_page_is_made_from_the_table() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools/metrics.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs/metrics.md").read_text() == made, "run make docs"
    assert [f"| `{row.name}` |" in made for row in TABLE] == [True] * len(TABLE)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    rows = {series: row_of(series) for series in NAME.findall(expression)}
    assert rows
    assert [series for series, row in rows.items() if row is None] == []
    labels = {label for row in rows.values() if row for label in row.labels} | OF_TARGET
    if any(series.endswith("_bucket") for series in rows):
        labels |= {"le"}
    asked = {
        label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")
    }
    asked |= set(re.findall(r"[{ ](\w+)=~?\"", expression))
    assert asked <= labels
    # A counter that is not looked at over time says when the process was started.
    for series, row in rows.items():
        if row and row.kind in (Kind.COUNTER, Kind.HISTOGRAM) and series not in SINCE_START:
            assert re.search(rf"(rate|increase)\({series}\{{[^}}]*\}}\[", expression)


def test_each_expression_closes_what_it_opens() -> None:
    for expression in EXPRESSIONS:
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


def test_panels_have_places_of_their_own() -> None:
    cells = [cell for panel in panels() for cell in panel.cells()]
    assert len(cells) == len(set(cells))
    assert max(across for across, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_all_that_only_headgate_tells_is_shown() -> None:
    shown = {row.name for name in NAME.findall(" ".join(EXPRESSIONS)) if (row := row_of(name))}
    hidden = {"headgate_first_sync_duration_seconds"}
    assert {row.name for row in OURS} - shown == hidden


def test_every_mode_has_something_to_show_for_each_variable() -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        (series,) = NAME.findall(variable["query"])
        for mode in MODES:
            assert f"\n{series} ".encode() in Metrics(mode, Sources()).text()
