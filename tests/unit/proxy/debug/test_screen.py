"""Is text as wide as the screen, with colours only where they are seen?"""

from __future__ import annotations

import os
import pty
import sys
import termios
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.debug.screen import PLAIN, Screen, Style, screen
from proxy.debug.table import STYLE, aligned, columns

ROWS = [
    ("FEATURE", "STATE", "NEEDED FOR"),
    ("ip_vs", "no", "ipvs mode: its virtual servers, and nothing else here"),
    ("fib", "yes", "all"),
]


def seen(monkeypatch: pytest.MonkeyPatch, columns_of_terminal: int, **environment: str) -> Screen:
    """What `screen` says in a real terminal of this width."""
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, (24, columns_of_terminal))
        with open(theirs, "w", closefd=False) as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            return screen()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_has_colours_and_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, 91) == Screen(91, colour=True)
    assert seen(monkeypatch, 91, COLUMNS="60") == Screen(60, colour=True)
    assert seen(monkeypatch, 91, COLUMNS="wide") == Screen(91, colour=True)
    assert seen(monkeypatch, 0) == Screen(None, colour=True)


def test_colours_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, 91, NO_COLOR="1") == Screen(91)
    assert seen(monkeypatch, 91, NO_COLOR="") == Screen(91, colour=True)
    assert seen(monkeypatch, 91, TERM="dumb") == Screen(91)


def test_what_is_piped_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert screen() == PLAIN
    monkeypatch.setenv("COLUMNS", "80")
    assert screen() == Screen(80)
    assert capsys.readouterr().out == ""


def test_a_table_that_fits_is_left_alone() -> None:
    assert Screen(73).table(ROWS) == PLAIN.table(ROWS) == aligned(ROWS)


def test_the_last_column_goes_on_below_itself() -> None:
    assert Screen(40).table(ROWS, "  ") == [
        "  FEATURE   STATE   NEEDED FOR",
        "  ip_vs     no      ipvs mode: its",
        "                    virtual servers, and",
        "                    nothing else here",
        "  fib       yes     all",
    ]


def test_another_column_may_give() -> None:
    rows = [("a b c d e f", "x"), ("a", "1000")]
    assert Screen(12).table(rows, give=0, right=frozenset({1})) == [
        "a b c      x",
        "d e f",
        "a       1000",
    ]


def test_a_word_is_not_broken() -> None:
    assert Screen(8).table([("address", "2001:db8::1 it is")]) == [
        "address   2001:db8::1",
        "          it",
        "          is",
    ]


def test_short_rows_and_none() -> None:
    assert Screen(10).table([]) == []
    assert Screen(10).table([("title",), ("a", "b c d e f g")]) == [
        "title",
        "a       b",
        "        c",
        "        d",
        "        e",
        "        f",
        "        g",
    ]


def test_prose() -> None:
    assert Screen(12).prose("one two three", "  ", "- ") == ["  one two", "  - three"]
    assert PLAIN.prose("one two three", "  ", "- ") == ["  one two three"]


def test_gaps_stay_within_a_line() -> None:
    text = "DROP   it is not accepted   here"
    assert Screen(26).prose(text, hang="  ") == ["DROP   it is not accepted", "  here"]
    assert Screen(80).prose(text) == PLAIN.prose(text) == [text]


def test_a_colour_takes_no_room_and_ends_with_its_line() -> None:
    shown = Screen(20, colour=True)
    bad = shown.painted("no, not at all", Style.BAD)
    assert bad == "\x1b[31mno, not at all\x1b[0m"
    assert shown.table([("a", bad), ("b", "yes")]) == [f"a   {bad}", "b   yes"]
    assert Screen(11, colour=True).table([("a", bad)]) == [
        "a   \x1b[31mno, not\x1b[0m",
        "    \x1b[31mat all\x1b[0m",
    ]
    assert PLAIN.painted("no", Style.BAD) == "no"
    assert shown.painted("", Style.BAD) == ""


WORDS = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=8).map(" ".join)


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(-1, 2),
    st.sampled_from(Style),
)
def test_nothing_is_lost(rows: list[tuple[str, ...]], width: int, give: int, style: Style) -> None:
    shown = Screen(width, colour=True)
    painted = [[shown.painted(cell, style) for cell in row] for row in rows]
    lines = [STYLE.sub("", line) for line in shown.table(painted, give=give)]
    assert lines == Screen(width).table(rows, give=give)
    keys = Counter(" ".join(row[0] for row in rows).split())
    added = Counter(" ".join(lines).split()) - Counter(" ".join(map(" ".join, rows)).split())
    assert Counter(" ".join(map(" ".join, rows)).split()) <= Counter(" ".join(lines).split())
    assert added.keys() <= keys.keys()
    # What stands beside the first column is folded, or the first column itself, if it gives.
    whole = [columns(column) for column in zip(*rows, strict=True)]
    words = [
        columns(word for cell in column for word in cell.split())
        for column in zip(*rows, strict=True)
    ]
    narrow = words[0] + max(whole[1:]) if give == 0 else whole[0] + max(words[1:])
    assert columns(lines) <= max(width, narrow + 3)


def test_a_table_that_is_too_wide_becomes_several() -> None:
    rows = [
        ("ENDPOINT", "NODE", "SHARE", "STATE"),
        ("10.244.1.2:8080", "worker-2", "50%", "ready, but hinted for another zone"),
    ]
    assert Screen(40).table(rows, "  ", frozenset({2})) == [
        "  ENDPOINT          NODE       SHARE",
        "  10.244.1.2:8080   worker-2     50%",
        "  ENDPOINT          STATE",
        "  10.244.1.2:8080   ready, but hinted",
        "                    for another zone",
    ]
    assert Screen(60).table(rows, "  ", frozenset({2})) == [
        "  ENDPOINT          NODE       SHARE   STATE",
        "  10.244.1.2:8080   worker-2     50%   ready, but hinted for",
        "                                       another zone",
    ]


HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b1md\ne\u202ef\x7f\ud800"
HARMLESS = "a?[2Jb?]0;title?c?1md?e?f??"


@pytest.mark.parametrize("width", [None, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_no_text_moves_the_cursor(width: int | None, *, colour: bool) -> None:
    """A terminal obeys a name as it obeys us."""
    shown = Screen(width, colour=colour)
    painted = shown.painted("BAD", Style.BAD)
    assert shown.prose(f"{painted} {HOSTILE}") == [f"{painted} {HARMLESS}"]
    table = "".join(shown.table([(HOSTILE, painted), ("x", HOSTILE)], "  "))
    assert table.count(HARMLESS) == 2
    assert painted in table
    assert "".join(STYLE.split(table)).isprintable()


def test_colours_of_others_are_none_where_there_are_none() -> None:
    assert PLAIN.prose("\x1b[31mred") == ["?[31mred"]
    assert PLAIN.table([("\x1b[31mred",)]) == ["?[31mred"]


def test_a_tab_and_other_scripts_stay() -> None:
    text = "\tzürich 東京 \u0633"
    assert PLAIN.table([("x", text)]) == [f"x   {text}"]
