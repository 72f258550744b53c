"""Are durations those of Go's time.ParseDuration, as far as they are whole seconds?"""

from __future__ import annotations

import pytest

from proxy.durations import whole_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5m", 30),
        ("5.s", 5),
        ("1h1m1s", 3661),
        ("1s1h", 3601),
        ("3000ms", 3),
        ("500ms500000us500000µs500000000ns", 2),
        ("999999999ns1ns", 1),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert whole_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "1d", "-1s", "+1s", "1 s", "1s ", ".s", "1e3s", "٣s"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        whole_seconds(text)


@pytest.mark.parametrize("text", ["1ms", "1.5s", "1ns", "0.01m"])
def test_parts_of_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="must be whole seconds"):
        whole_seconds(text)
