"""Is a version of an object told once, in order, whatever the server repeats or mixes up?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import ObjectName
from proxy.sources.versions import _MOST_GONE, Versions, comparable

A, B = ObjectName("shop", "a"), ObjectName("shop", "b")


def since(floor: str = "10") -> Versions:
    found = Versions()
    found.begin(floor)
    return found


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("", None),
        ("0", None),
        ("07", None),
        ("-7", None),
        ("7.5", None),
        ("\u0667", None),
        ("abc", None),
        ("9" * 5000, None),
    ],
)
def test_what_can_be_compared(text: str, number: int | None) -> None:
    assert comparable(text) == number


def test_what_is_repeated_or_late_is_no_news() -> None:
    versions = since()
    assert versions.admit(A, "12")
    assert not versions.admit(A, "12")
    assert not versions.admit(A, "11")
    assert versions.admit(B, "11")
    assert versions.admit(A, "13")


def test_a_deletion_is_final_until_something_newer_comes() -> None:
    versions = since()
    assert versions.admit(A, "12")
    assert versions.admit(A, "14", gone=True)
    assert not versions.admit(A, "14", gone=True)
    assert not versions.admit(A, "13")
    assert versions.admit(A, "15")
    assert not versions.admit(A, "14", gone=True)
    assert versions.admit(A, "15", gone=True)  # servers before 1.11 tell the last version


def test_what_the_list_did_not_hold_was_gone_by_then() -> None:
    versions = since()
    assert not versions.admit(A, "10")
    assert not versions.admit(A, "9", gone=True)
    assert versions.admit(A, "11")


def test_what_cannot_be_compared_is_taken_as_it_comes() -> None:
    versions = since("abc")
    assert versions.admit(A, "x")
    assert versions.admit(A, "x")
    assert versions.admit(A, "5")
    assert versions.admit(A, "x")
    assert versions.admit(A, "4")
    assert not versions.is_past("3")
    assert versions.advance("3")


def test_the_place_in_the_stream_moves_forward_only() -> None:
    versions = since()
    assert versions.advance("15")
    assert not versions.advance("15")
    assert not versions.advance("14")
    assert versions.is_past("14")
    assert not versions.is_past("15")


@pytest.mark.parametrize("floor", ["10", "abc"])
@pytest.mark.parametrize("nowhere", ["", "0"])
def test_nowhere_is_no_place_to_resume_from(floor: str, nowhere: str) -> None:
    assert not since(floor).advance(nowhere)


def test_a_list_is_behind_by_its_own_version_or_by_that_of_an_object() -> None:
    before = since()
    before.admit(A, "12")
    before.advance("12")
    assert since("11").behind(before) == "resourceVersion 11 after 12"
    mixed = Versions()
    mixed.admit(A, "11")
    mixed.begin("13")
    assert mixed.behind(before) == "shop/a of resourceVersion 11 after 12"
    assert since("12").behind(before) == ""
    assert since("x").behind(before) == ""


def test_an_object_that_nobody_can_read_keeps_its_version() -> None:
    before, after = since(), since("20")
    before.admit(A, "12")
    after.keep([A, B], before)
    assert not after.admit(A, "12")
    assert after.admit(A, "13")


def test_deletions_are_not_remembered_for_ever() -> None:
    versions = since()
    for number in range(11, 11 + 3 * _MOST_GONE):
        assert versions.admit(ObjectName("shop", str(number)), str(number), gone=True)
    assert len(versions) == _MOST_GONE


@given(
    st.lists(st.tuples(st.sampled_from([A, B]), st.integers(11, 30), st.booleans()), max_size=40)
)
def test_the_order_of_events_does_not_matter(events: list[tuple[ObjectName, int, bool]]) -> None:
    """What is admitted last is what has the highest version: as if sorted, and told once."""
    versions, last = since(), dict[ObjectName, int]()
    for name, version, gone in events:
        if versions.admit(name, str(version), gone=gone):
            assert version >= last.get(name, 11)
            last[name] = version
    for name, version in last.items():
        assert version == max(number for of, number, _ in events if of == name)
