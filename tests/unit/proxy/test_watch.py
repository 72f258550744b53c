"""What is asked next, and after how long a pause?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.events import Delete, Problem, Replace, Upsert
from endpoints.names import ObjectName
from endpoints.objects import Kind
from proxy.sources.watch import (
    BASE_SECONDS,
    CAP_SECONDS,
    HEALTHY_SECONDS,
    Backoff,
    Broken,
    Failure,
    Lines,
    ListFrom,
    Pause,
    WatchFrom,
)
from tests.unit.proxy.watching import asks, item, line, page, watch, watching

REFUSED = Failure("connection refused")
GONE = Failure("too old resource version", 410)
SILENCE = Failure("no answer in time", is_silence=True)


class TestList:
    def test_begins_with_the_first_page(self) -> None:
        assert asks(watch()) == ListFrom("")

    def test_goes_on_until_the_last_page_and_then_watches(self) -> None:
        following = watch()
        assert following.page(page(item("a"), more="x")) == []
        assert asks(following) == ListFrom("x")
        (replace,) = following.page(page(item("b"), version=11))
        assert isinstance(replace, Replace)
        assert [obj.metadata.name for obj in replace.objects] == ["a", "b"]
        assert asks(following) == WatchFrom("11")

    def test_what_cannot_be_read_is_told_with_the_whole(self) -> None:
        following = watch()
        following.page(page(item("a", type="nonsense"), more="x"))
        replace, problem = following.page(page())
        assert isinstance(replace, Replace)
        assert replace.unreadable == {ObjectName("default", "a")}
        assert isinstance(problem, Problem)

    @pytest.mark.parametrize("code", [0, 401, 403, 429, 500, 502, 503])
    def test_a_page_that_may_come_later_is_asked_for_again(self, code: int) -> None:
        following = watch()
        following.page(page(item("a"), more="x"))
        following.failed(Failure("later", code))
        assert asks(following) == ListFrom("x")
        (replace,) = following.page(page(item("b")))
        assert isinstance(replace, Replace)
        assert len(replace.objects) == 2

    @pytest.mark.parametrize("code", [400, 404, 410, 504])
    def test_after_other_answers_the_list_begins_anew(self, code: int) -> None:
        following = watch()
        following.page(page(item("a"), more="x"))
        following.failed(Failure("never", code))
        assert asks(following) == ListFrom("")
        (replace,) = following.page(page(item("b")))
        assert isinstance(replace, Replace)
        assert [obj.metadata.name for obj in replace.objects] == ["b"]

    def test_what_is_no_list_changes_nothing(self) -> None:
        following = watch()
        with pytest.raises(Broken, match="the answer is no list"):
            following.page(b"<html>")
        assert asks(following) == ListFrom("")


class TestStream:
    def test_each_line_moves_the_place_to_resume_from(self) -> None:
        following = watching()
        (added,) = following.line(line("ADDED", item("a", 11)))
        assert isinstance(added, Upsert)
        assert asks(following) == WatchFrom("11")
        (gone,) = following.line(line("DELETED", item("a", 12)))
        assert gone == Delete(Kind.SERVICE, ObjectName("default", "a"))
        assert following.line(line("BOOKMARK", item("", 15))) == []
        assert asks(following) == WatchFrom("15")

    def test_an_object_that_is_refused_moves_it_too(self) -> None:
        following = watching()
        (problem,) = following.line(line("MODIFIED", item("a", 11, type="nonsense")))
        assert isinstance(problem, Problem)
        assert asks(following) == WatchFrom("11")

    def test_a_type_of_the_future_moves_nothing(self) -> None:
        following = watching()
        assert following.line(line("SHUFFLED", item("a", 11))) == []
        assert asks(following) == WatchFrom("10")

    @pytest.mark.parametrize("code", [410, 500])
    def test_an_error_in_the_stream_is_a_new_list(self, code: int) -> None:
        following = watching()
        with pytest.raises(Broken) as broken:
            following.line(line("ERROR", {"code": code, "message": "so it is"}))
        assert broken.value.failure == Failure("so it is", code)
        assert asks(following) == ListFrom("")

    def test_a_line_that_is_no_event_is_a_new_list(self) -> None:
        following = watching()
        with pytest.raises(Broken, match="is no event"):
            following.line(b"<html>")
        assert asks(following) == ListFrom("")

    @pytest.mark.parametrize("failure", [None, REFUSED])
    def test_a_stream_that_has_lived_is_resumed_at_once(self, failure: Failure | None) -> None:
        following = watching()
        assert following.ended(HEALTHY_SECONDS, failure) == Pause(0.0)
        assert asks(following) == WatchFrom("10")

    def test_a_stream_that_told_something_and_ended_is_resumed_soon(self) -> None:
        following = watching()
        for version in range(11, 20):
            following.line(line("ADDED", item("a", version)))
            assert following.ended(0.0) == Pause(BASE_SECONDS / 2)

    def test_streams_that_end_at_once_are_asked_for_less_and_less(self) -> None:
        following = watching()
        pauses = [following.ended(0.0) for _ in range(8)]
        assert [pause.seconds for pause in pauses] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
        assert [bool(pause.outage) for pause in pauses] == [False] * 3 + [True] * 5
        assert not following.steady
        following.line(line("BOOKMARK", item("", 11)))
        assert following.steady

    def test_two_silences_in_a_row_are_a_new_list(self) -> None:
        following = watching()
        following.ended(90.0, SILENCE)
        following.line(line("BOOKMARK", item("", 11)))
        following.ended(90.0, SILENCE)
        assert asks(following) == WatchFrom("11")
        following.ended(90.0, SILENCE)
        assert asks(following) == ListFrom("")


class TestGone:
    def test_the_first_time_is_no_reason_to_wait_or_to_worry(self) -> None:
        assert watching().failed(GONE) == Pause(0.0)
        assert watching().ended(0.0, GONE) == Pause(0.0)
        assert watching().ended(60.0, GONE) == Pause(0.0)

    def test_after_an_outage_it_is_no_reason_to_wait_either(self) -> None:
        following = watching()
        for _ in range(20):
            following.failed(REFUSED)
        assert following.ended(0.0, GONE) == Pause(0.0)
        following.page(page())
        assert following.failed(GONE).seconds == CAP_SECONDS / 2

    def test_a_server_that_expires_everything_is_not_listed_in_a_tight_loop(self) -> None:
        following = watch()
        pauses = []
        for _ in range(8):
            following.page(page())
            with pytest.raises(Broken) as broken:
                following.line(line("ERROR", {"code": 410, "message": "too old"}))
            pauses.append(following.ended(0.0, broken.value.failure).seconds)
        assert pauses == [0.0, 0.5, 1, 2, 4, 8, 15, 15]


class TestFailed:
    def test_an_outage_is_named(self) -> None:
        assert watch().failed(REFUSED).outage == "connection refused"
        assert watch().failed(Failure("no", 403)).outage == "403 no"

    def test_the_server_may_ask_for_more_time_but_not_for_any(self) -> None:
        busy = Failure("busy", 429, retry_after_seconds=7.0)
        assert watch().failed(busy).seconds == 7.0
        long = Failure("busy", 429, retry_after_seconds=7000.0)
        assert watch().failed(long).seconds == CAP_SECONDS

    def test_a_refused_watch_is_asked_for_again(self) -> None:
        following = watching()
        following.failed(REFUSED)
        assert asks(following) == WatchFrom("10")

    def test_only_a_stream_that_works_ends_the_backoff(self) -> None:
        following = watch()
        for _ in range(4):
            following.failed(REFUSED)
        following.page(page())
        assert following.failed(REFUSED).seconds == 4.0
        following.line(line("ADDED", item("a", 11)))
        following.ended(0.0)
        assert following.failed(REFUSED).seconds == 0.5


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_the_law_of_the_backoff(chances: list[float]) -> None:
    """Doubles up to the cap; chance takes off at most half; a success begins anew."""
    drawn = iter([*chances, 0.0])
    backoff = Backoff(lambda: next(drawn))
    for number in range(len(chances)):
        ceiling = min(CAP_SECONDS, BASE_SECONDS * 2**number)
        assert ceiling / 2 <= backoff.next() <= ceiling
    backoff.reset()
    assert backoff.next() == BASE_SECONDS / 2


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=6), st.data())
def test_lines_do_not_depend_on_where_the_chunks_end(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(part + b"\n" for part in lines) + b"a rest that was cut"
    cutter, found = Lines(), []
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        found += cutter.feed(stream[:length])
        stream = stream[length:]
    assert found == [part for part in lines if part.strip()]
