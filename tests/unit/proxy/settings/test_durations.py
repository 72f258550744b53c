"""Are durations those of Go's time.ParseDuration and Duration.String?"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.durations import SECOND, nanoseconds, spelled, whole_seconds

MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("90s", 90),
        ("+90s", 90),
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
def test_whole_seconds(text: str, seconds: int) -> None:
    assert whole_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("1h15m30.5s", 4530_500_000_000),
        ("-1.5s", -1_500_000_000),
        ("1.5ns", 1),
        ("0.3333333333333333333h", 1_199_999_999_999),
        ("2562047h47m16.854775807s", MOST),
    ],
)
def test_nanoseconds(text: str, duration: int) -> None:
    assert nanoseconds(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", "90", "s", "1d", "--1s", "+-1s", "1 s", "1s ", ".s", "1e3s", "٣s", "-", "1" * 200 + "s"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        nanoseconds(text)


def test_what_is_too_long() -> None:
    with pytest.raises(ValueError, match="longer than a duration can be"):
        nanoseconds("2562047h47m16.854775808s")


@pytest.mark.parametrize("text", ["1ms", "1.5s", "1ns", "0.01m"])
def test_parts_of_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="must be whole seconds"):
        whole_seconds(text)


def test_seconds_below_zero() -> None:
    with pytest.raises(ValueError, match="must not be below zero"):
        whole_seconds("-1s")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3 * SECOND + 300_000_000, "3.3s"),
        (4 * 60 * SECOND + 5 * SECOND, "4m5s"),
        (900 * SECOND, "15m0s"),
        (86400 * SECOND, "24h0m0s"),
        (-90 * SECOND, "-1m30s"),
    ],
)
def test_as_go_writes_it(duration: int, text: str) -> None:
    assert spelled(duration) == text


@given(st.integers(-MOST, MOST))
def test_what_is_written_is_read_back(duration: int) -> None:
    assert nanoseconds(spelled(duration)) == duration


@given(
    st.lists(
        st.tuples(st.integers(0, 400_000), st.sampled_from(["ns", "us", "ms", "s", "m", "h"])),
        min_size=1,
        max_size=6,
    )
)
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert nanoseconds(text) == sum(nanoseconds(f"{number}{unit}") for number, unit in parts)


@given(st.text(alphabet="0123456789.-+hmsnuµ ", max_size=12))
def test_no_text_is_read_as_anything_else(text: str) -> None:
    part = r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)"
    if re.fullmatch(rf"[-+]?(0|({part})+)", text):
        assert abs(nanoseconds(text)) <= MOST
    else:
        with pytest.raises(ValueError, match="must be a duration"):
            nanoseconds(text)
