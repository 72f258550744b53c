"""Does docs/drift.md tell the figures that the code goes by?"""

from __future__ import annotations

import re
from pathlib import Path

from modes.ipvs.lookout import LOOK_SECONDS, SAMPLE
from proxy import drift
from proxy.metrics.table import TABLE
from proxy.serving.health import DRIFT_SECONDS

TEXT = (Path(__file__).parents[3] / "docs" / "drift.md").read_text()
NUMBERS = {2: "two", 5: "five", 6: "sixth"}


def test_the_pauses_of_a_fight() -> None:
    fights, pauses = drift.Fights(), [0.0]
    while pauses[-1] < drift.LONGEST_PAUSE_SECONDS:
        pauses.append(fights.repaired(10.0))
    in_peace = pauses[1:].count(0.0)
    told = [f"{pause:.0f}" for pause in pauses if pause]
    assert f"Up to {NUMBERS[in_peace]} repairs in a minute" in TEXT
    assert f"From the {NUMBERS[in_peace + 1]} on" in TEXT
    assert f"{told[0]} s, {', '.join(told[1:-1])}, then {told[-1]}." in TEXT
    longer = [pause >= DRIFT_SECONDS for pause in pauses if pause]
    assert longer.index(True) + 1 == 4
    assert "a fight gets there with its fourth pause" in TEXT
    assert drift.WINDOW_SECONDS == 60


def test_when_it_is_looked_and_when_it_is_told() -> None:
    assert LOOK_SECONDS == 0.5
    assert "twice a second" in TEXT
    assert f"{NUMBERS[SAMPLE]} are asked for by name at each look" in TEXT
    assert f"a rest\n{drift.COMPARE_REST} times as long" in TEXT
    assert f"for {DRIFT_SECONDS:.0f} s or longer" in TEXT


def test_the_metrics_are_those_of_drift() -> None:
    told = re.findall(r"^\| `(headgate_\w+)` \|", TEXT, re.MULTILINE)
    assert told == [row.name for row in TABLE if row.name.startswith("headgate_drift_")]
