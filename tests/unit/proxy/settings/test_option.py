"""Are values read as Go reads them, from flags and from files?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.option import Kind, Option, boolean, integer


def option(kind: Kind, *, pointer: bool = False) -> Option:
    return Option("--name", "name", kind, "", "", pointer=pointer)


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true(text: str) -> None:
    assert boolean(text)


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false(text: str) -> None:
    assert not boolean(text)


@pytest.mark.parametrize("text", ["", "yes", "on", "tRUE", " true", "2"])
def test_what_is_no_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        boolean(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-5", -5), ("+7", 7), ("0x1F", 31), ("0b101", 5), ("017", 15), ("0o17", 15), ("-0x10", -16), ("2147483647", 2**31 - 1)],
)  # fmt: skip
def test_integers(text: str, value: int) -> None:
    assert integer(text) == value


@pytest.mark.parametrize("text", ["", "five", "1.0", "08", "0x", "1_0", "٣", "--1", "²", "9" * 30])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        integer(text)


@pytest.mark.parametrize("text", ["2147483648", "-2147483649", "0xffffffffff"])
def test_integers_of_more_than_32_bits(text: str) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        integer(text)


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from(["d", "x", "o", "b"]))
def test_any_integer_in_any_base(value: int, base: str) -> None:
    sign = "-" if value < 0 else ""
    prefix = {"d": "", "x": "0x", "o": "0", "b": "0b"}[base]
    assert integer(f"{sign}{prefix}{abs(value):{base}}") == value


@pytest.mark.parametrize(
    ("kind", "texts", "value"),
    [
        (Kind.TEXT, ["a", "b"], "b"),
        (Kind.NUMBER, ["1e2"], 100.0),
        (Kind.NUMBER, ["-.5"], -0.5),
        (Kind.DURATION, ["1m"], 60 * 10**9),
        (Kind.LIST, ["a, b", "c,"], ("a", "b", "c")),
        (Kind.PATHS, ["a,b", "c"], ("a,b", "c")),
        (Kind.GATES, ["A=true,B=f", "C=1"], {"A": True, "B": False, "C": True}),
        (Kind.VMODULE, ["sync=4, kernel*=6"], "sync=4,kernel*=6"),
    ],
)
def test_flags(kind: Kind, texts: list[str], value: object) -> None:
    assert option(kind).of_flag(texts) == value


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Kind.NUMBER, "nan", "must be a number"),
        (Kind.NUMBER, "1e999", "must be a finite number"),
        (Kind.GATES, "A", "'A': must be NAME=true or NAME=false"),
        (Kind.GATES, "=true", "'=true': must be NAME=true or NAME=false"),
        (Kind.GATES, "A=maybe", "A: maybe: must be true or false"),
        (Kind.GATES, "A=", "A: nothing: must be true or false"),
        (Kind.VMODULE, "sync", "'sync': must be PATTERN=N, like sync=4 or kernel*=6"),
        (Kind.VMODULE, "sync=-1", "'sync=-1': must be PATTERN=N, like sync=4 or kernel*=6"),
    ],
)
def test_malformed_flags(kind: Kind, text: str, reason: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (compared below)
        option(kind).of_flag([text])
    assert str(raised.value) == reason


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Kind.TEXT, "a", "a"),
        (Kind.NUMBER, 5, 5.0),
        (Kind.TIME, 5_000_000_000, 5 * 10**9),
        (Kind.TIME, "5s", 5 * 10**9),
        (Kind.QUANTITY, 512, "512"),
        (Kind.LIST, ["a", "b"], ("a", "b")),
        (Kind.VMODULE, [{"filePattern": "sync", "verbosity": 4}], "sync=4"),
    ],
)
def test_fields(kind: Kind, raw: object, value: object) -> None:
    assert option(kind).of_field(raw) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Kind.TEXT, ""),
        (Kind.BOOLEAN, False),
        (Kind.INTEGER, 0),
        (Kind.NUMBER, 0),
        (Kind.DURATION, "0s"),
        (Kind.TIME, 0),
        (Kind.QUANTITY, "0"),
        (Kind.LIST, []),
        (Kind.GATES, {}),
        (Kind.VMODULE, []),
        *((kind, None) for kind in Kind),
    ],
)
def test_what_leaves_a_field_unsaid(kind: Kind, raw: object) -> None:
    assert option(kind).of_field(raw) is None


def test_a_pointer_is_unsaid_by_null_only() -> None:
    assert option(Kind.INTEGER, pointer=True).of_field(0) == 0
    assert option(Kind.BOOLEAN, pointer=True).of_field(raw=False) is False
    assert option(Kind.DURATION, pointer=True).of_field("0s") == 0
    assert option(Kind.INTEGER, pointer=True).of_field(None) is None
