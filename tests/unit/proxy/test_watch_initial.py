"""When is a stream that begins with all there is a list, and what if it never becomes one?"""

from __future__ import annotations

import pytest

from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import Kind
from proxy.sources.watch import (
    BASE_SECONDS,
    HEALTHY_SECONDS,
    Broken,
    Failure,
    ListFrom,
    Pause,
    Watch,
    WatchAll,
    WatchFrom,
)
from tests.unit.proxy.watching import asks, bookmark, end, fresh, item, line, page

SILENCE = Failure("no answer in time", is_silence=True)


def opened() -> Watch:
    found = fresh()
    found.opened()
    return found


def names(replace: object) -> list[str]:
    assert isinstance(replace, Replace)
    return [obj.metadata.name for obj in replace.objects]


def test_it_is_asked_for_first() -> None:
    assert asks(fresh()) == WatchAll()


def test_the_end_of_the_initial_events_is_one_replacement() -> None:
    following = opened()
    assert following.line(line("ADDED", item("b", 7))) == []
    assert following.line(line("ADDED", item("a", 3))) == []
    (replace,) = following.line(end(10))
    assert names(replace) == ["b", "a"]
    assert asks(following) == WatchFrom("10")
    (later,) = following.line(line("MODIFIED", item("a", 11)))
    assert isinstance(later, Upsert)
    assert following.ended(HEALTHY_SECONDS) == Pause(0.0)
    assert asks(following) == WatchFrom("11")


def test_an_empty_cluster_is_a_list_too() -> None:
    (replace,) = opened().line(end(10))
    assert names(replace) == []


def test_what_changes_before_the_end_is_in_the_list_as_it_became() -> None:
    following = opened()
    for event in (
        line("ADDED", item("a", 3)),
        line("ADDED", item("b", 4)),
        line("ADDED", item("c", 5)),
        line("MODIFIED", item("b", 12, type="NodePort")),
        line("DELETED", item("c", 13)),
        line("MODIFIED", item("b", 11)),  # comes late
    ):
        assert following.line(event) == []
    (replace,) = following.line(end(14))
    assert isinstance(replace, Replace)
    assert [obj.metadata.resource_version for obj in replace.objects] == ["3", "12"]


def test_what_cannot_be_read_is_told_with_the_whole() -> None:
    following = opened()
    following.line(line("ADDED", item("a", 3, type="nonsense")))
    following.line(line("ADDED", item("b", 4)))
    following.line(line("MODIFIED", item("b", 5, type="nonsense")))
    replace, *problems = following.line(end(10))
    assert isinstance(replace, Replace)
    assert replace.objects == ()
    assert replace.unreadable == {ObjectName("default", "a"), ObjectName("default", "b")}
    assert [type(problem) for problem in problems] == [Problem, Problem]


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_that_refuses_is_listed_in_pages_from_then_on(code: int) -> None:
    following = fresh()
    assert following.failed(Failure("sendInitialEvents is forbidden", code)) == Pause(0.0)
    assert asks(following) == ListFrom("")
    following.page(page())
    following.failed(Failure("too old", 410))
    assert asks(following) == ListFrom("")


def test_a_bookmark_without_the_mark_is_that_of_a_server_that_does_not_know_it() -> None:
    following = opened()
    following.line(line("ADDED", item("a", 3)))
    with pytest.raises(Broken, match="does not say where what is there already ends"):
        following.line(bookmark(10))
    following.ended(60.0)
    assert asks(following) == ListFrom("")
    (replace,) = following.page(page(item("b", 4)))
    assert names(replace) == ["b"]


@pytest.mark.parametrize("version", ["", "0"])
def test_an_end_without_a_version_is_none(version: str) -> None:
    """A watch from there would begin with everything, and tell no deletion in between."""
    following = opened()
    with pytest.raises(Broken):
        following.line(end(version))
    assert asks(following) == ListFrom("")


def test_silence_before_the_end_is_no_list() -> None:
    following = opened()
    following.line(line("ADDED", item("a", 3)))
    assert following.ended(30.0, SILENCE).seconds == BASE_SECONDS / 2
    assert asks(following) == ListFrom("")


def test_streams_that_are_cut_before_the_end_are_tried_thrice() -> None:
    following = fresh()
    tried = []
    for _ in range(3):
        tried.append(asks(following))
        following.opened()
        following.line(line("ADDED", item("a", 3)))
        following.ended(0.1, Failure("cut"))
    assert tried == [WatchAll()] * 3
    assert asks(following) == ListFrom("")


def test_what_a_cut_stream_told_is_forgotten() -> None:
    following = opened()
    following.line(line("ADDED", item("a", 3)))
    following.ended(0.1, Failure("cut"))
    following.opened()
    (replace,) = following.line(end(10))
    assert names(replace) == []


@pytest.mark.parametrize("code", [404, 500, 504])
def test_a_server_that_cannot_do_it_now_is_asked_thrice_at_most(code: int) -> None:
    following = fresh()
    for _ in range(3):
        assert asks(following) == WatchAll()
        following.failed(Failure("etcd tells no progress", code))
    assert asks(following) == ListFrom("")


@pytest.mark.parametrize("code", [0, 401, 403, 429, 503])
def test_an_outage_says_nothing_about_what_the_server_can_do(code: int) -> None:
    following = fresh()
    for _ in range(20):
        assert following.failed(Failure("later", code)).outage
    assert asks(following) == WatchAll()


def test_after_an_error_in_the_stream_it_begins_anew() -> None:
    following = opened()
    following.line(end(10))
    with pytest.raises(Broken):
        following.line(line("ERROR", {"code": 410, "message": "too old"}))
    assert following.ended(60.0, Failure("too old", 410)) == Pause(0.0)
    assert asks(following) == WatchAll()
    following.opened()
    (replace,) = following.line(end(11))
    assert names(replace) == []


def test_a_server_that_ends_each_list_with_an_error_is_not_asked_in_a_tight_loop() -> None:
    following = fresh()
    pauses = []
    for version in range(10, 18):
        following.opened()
        following.line(end(version))
        with pytest.raises(Broken) as broken:
            following.line(line("ERROR", {"code": 410, "message": "too old"}))
        pauses.append(following.ended(0.0, broken.value.failure).seconds)
    assert pauses == [0.0, 0.5, 1, 2, 4, 8, 15, 15]


class TestLies:
    """A server that repeats itself, mixes things up, or is behind the one that was asked before."""

    def test_an_event_that_is_repeated_or_late_is_told_once_and_in_order(self) -> None:
        following = opened()
        following.line(line("ADDED", item("a", 3)))
        following.line(end(10))
        told = [
            following.line(line(kind, item(name, version)))
            for kind, name, version in (
                ("MODIFIED", "a", 12),
                ("MODIFIED", "a", 12),
                ("MODIFIED", "a", 11),
                ("ADDED", "b", 11),  # of another object, so late that `a` came first
                ("DELETED", "a", 11),
                ("DELETED", "a", 13),
                ("MODIFIED", "a", 12),
                ("DELETED", "a", 13),
                ("ADDED", "a", 15),
                ("DELETED", "a", 13),
            )
        ]
        assert [len(messages) for messages in told] == [1, 0, 0, 1, 0, 1, 0, 0, 1, 0]
        assert told[5] == [Delete(Kind.SERVICE, ObjectName("default", "a"))]
        assert asks(following) == WatchFrom("15")

    def test_a_refused_version_is_known_too(self) -> None:
        following = opened()
        following.line(end(10))
        assert len(following.line(line("ADDED", item("a", 12, type="nonsense")))) == 1
        assert following.line(line("ADDED", item("a", 11))) == []

    def test_where_to_resume_does_not_go_back(self) -> None:
        following = opened()
        following.line(end(10))
        following.line(line("ADDED", item("a", 15)))
        following.line(line("ADDED", item("b", 12)))
        assert asks(following) == WatchFrom("15")

    def test_a_bookmark_from_the_past_is_a_new_list(self) -> None:
        following = opened()
        following.line(end(10))
        with pytest.raises(Broken, match="went back to resourceVersion 9"):
            following.line(bookmark(9))
        assert asks(following) == WatchAll()

    def test_a_stream_that_tells_only_what_was_known_is_a_new_list(self) -> None:
        following = opened()
        following.line(line("ADDED", item("a", 3)))
        following.line(end(10))
        for _ in range(16):
            assert following.line(line("MODIFIED", item("a", 3))) == []
        with pytest.raises(Broken, match="only what was known"):
            following.line(line("MODIFIED", item("a", 3)))
        assert asks(following) == WatchAll()

    @pytest.mark.parametrize("paged", [False, True])
    def test_a_list_from_the_past_is_asked_for_again(self, paged: bool) -> None:
        following = known(paged=paged)
        with pytest.raises(Broken, match="a list from the past: resourceVersion 8 after 12"):
            answer(following, item("a", 3), version=8)
        assert following.request == (ListFrom() if paged else WatchAll())
        (replace,) = answer(following, item("a", 12), version=13)
        assert names(replace) == ["a"]

    def test_a_list_with_an_object_from_the_past_is_asked_for_again(self) -> None:
        following = known(paged=True)
        with pytest.raises(Broken, match="default/a of resourceVersion 3 after 12"):
            answer(following, item("a", 3), version=20)

    @pytest.mark.parametrize("paged", [False, True])
    def test_three_lists_in_a_row_from_the_past_are_the_present(self, paged: bool) -> None:
        following = known(paged=paged)
        for _ in range(2):
            with pytest.raises(Broken):
                answer(following, item("a", 3), version=8)
        (replace,) = answer(following, item("a", 3), version=8)
        assert names(replace) == ["a"]
        assert asks(following) == WatchFrom("8")
        assert len(following.line(line("MODIFIED", item("a", 9)))) == 1

    def test_one_good_list_takes_the_doubts_away(self) -> None:
        following = known(paged=True)
        for _ in range(4):
            with pytest.raises(Broken):
                answer(following, version=8)
            with pytest.raises(Broken):
                answer(following, version=8)
            answer(following, item("a", 12), version=13)

    def test_a_doubtful_list_is_worth_a_word_and_a_pause(self) -> None:
        following = known(paged=False)
        following.request = WatchAll()
        pauses = []
        for _ in range(2):
            following.opened()
            with pytest.raises(Broken) as broken:
                following.line(end(8))
            pauses.append(following.ended(60.0, broken.value.failure))
        assert [pause.seconds for pause in pauses] == [BASE_SECONDS, 2 * BASE_SECONDS]
        assert all("a list from the past" in pause.outage for pause in pauses)

    def test_versions_that_are_no_numbers_are_taken_as_they_come(self) -> None:
        following = opened()
        (replace,) = following.line(end("abc"))
        assert names(replace) == []
        odd = {"metadata": {"name": "a", "resourceVersion": "x"}, "spec": {}}
        assert len(following.line(line("ADDED", odd))) == 1
        assert len(following.line(line("MODIFIED", odd))) == 1
        assert asks(following) == WatchFrom("x")


def known(*, paged: bool) -> Watch:
    """Knows version 12 of `a`, and is to list again."""
    following = fresh()
    if paged:
        following.failed(Failure("sendInitialEvents is forbidden", 422))
    answer(following, item("a", 3), version=10)
    following.line(line("MODIFIED", item("a", 12)))
    with pytest.raises(Broken):
        following.line(line("ERROR", {"code": 410, "message": "too old"}))
    following.ended(60.0, Failure("too old", 410))
    return following


def answer(following: Watch, *items: object, version: int) -> list[object]:
    """Answer what it asks for: a list in a page, or as a stream."""
    if isinstance(following.request, ListFrom):
        return list(following.page(page(*items, version=version)))
    following.opened()
    for each in items:
        following.line(line("ADDED", each))
    return list(following.line(end(version)))
