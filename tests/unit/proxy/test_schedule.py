"""Does work wait for nothing, and a retry for its time?"""

from __future__ import annotations

import queue
import threading

import pytest

from proxy.schedule import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Due, Schedule
from proxy.sources.base import ConfigChanged, Message, Stop, Together

ONE, TWO = Stop("one"), Stop("two")
NEWS = Together(())
TEND = "tend"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def scheduled(
    min_sync_seconds: float = 0.0,
) -> tuple[Schedule, queue.SimpleQueue[Message], Clock]:
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    clock = Clock()
    return Schedule(messages, clock, min_sync_seconds), messages, clock


def test_all_that_is_queued_is_one_batch() -> None:
    schedule, messages, _ = scheduled()
    messages.put(ONE)
    messages.put(TWO)
    assert schedule.wait() == Due([ONE, TWO])
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])


def test_a_wait_ends_when_something_comes() -> None:
    schedule, messages, _ = scheduled()
    found: list[Due] = []
    waiting = threading.Thread(target=lambda: found.append(schedule.wait()))
    waiting.start()
    messages.put(ONE)
    waiting.join(timeout=10)
    assert found == [Due([ONE])]


def test_a_retry_comes_due_by_itself_and_once() -> None:
    schedule, messages, clock = scheduled()
    schedule.retry()
    clock.now += FIRST_DELAY_SECONDS
    assert schedule.wait() == Due([], retry=True)
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])


def test_news_does_not_wait_for_a_retry_nor_hasten_it() -> None:
    schedule, messages, clock = scheduled()
    schedule.retry()
    clock.now += FIRST_DELAY_SECONDS / 2
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])
    schedule.retry()
    clock.now += FIRST_DELAY_SECONDS / 2
    messages.put(TWO)
    assert schedule.wait() == Due([TWO], retry=True)


def delays(schedule: Schedule, clock: Clock, times: int) -> list[float]:
    """How long each of so many retries in a row waits."""
    found = []
    for _ in range(times):
        schedule.retry()
        patience = schedule._patience()
        assert patience is not None
        clock.now += patience
        assert schedule.wait() == Due([], retry=True)
        found.append(round(patience, 6))
    return found


def test_each_retry_waits_longer_up_to_a_limit() -> None:
    schedule, _, clock = scheduled()
    found = delays(schedule, clock, 10)
    assert found[:4] == [0.2, 0.4, 0.8, 1.6]
    assert found[-1] == LONGEST_DELAY_SECONDS


def test_after_success_the_delays_begin_anew() -> None:
    schedule, messages, clock = scheduled()
    delays(schedule, clock, 5)
    schedule.retry()
    schedule.settle()
    clock.now += LONGEST_DELAY_SECONDS
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])
    assert delays(schedule, clock, 1) == [FIRST_DELAY_SECONDS]


def test_the_mode_is_called_when_it_wants_and_once() -> None:
    schedule, messages, clock = scheduled()
    schedule.call(TEND, 5)
    assert schedule._patience() == 5
    clock.now += 5
    assert schedule.wait() == Due([], chores=frozenset({TEND}))
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])
    assert schedule._patience() is None


def test_who_wants_to_be_called_delays_neither_news_nor_a_retry() -> None:
    schedule, messages, clock = scheduled()
    schedule.call(TEND, 5)
    messages.put(ONE)
    assert schedule.wait() == Due([ONE])
    schedule.retry()
    assert schedule._patience() == pytest.approx(FIRST_DELAY_SECONDS)
    clock.now += FIRST_DELAY_SECONDS
    assert schedule.wait() == Due([], retry=True)
    assert schedule._patience() == pytest.approx(5 - FIRST_DELAY_SECONDS)


def test_a_retry_delays_nobody_who_wants_to_be_called() -> None:
    schedule, _, clock = scheduled()
    delays(schedule, clock, 10)
    schedule.retry()
    schedule.call(TEND, 5)
    clock.now += 5
    assert schedule.wait() == Due([], chores=frozenset({TEND}))
    assert schedule._patience() == LONGEST_DELAY_SECONDS - 5


def test_everything_may_be_due_together() -> None:
    schedule, messages, clock = scheduled()
    schedule.retry()
    schedule.call(TEND, 0)
    messages.put(ONE)
    clock.now += FIRST_DELAY_SECONDS
    assert schedule.wait() == Due([ONE], retry=True, chores=frozenset({TEND}))


def test_the_last_word_on_when_to_be_called_counts() -> None:
    schedule, _, clock = scheduled()
    schedule.call(TEND, 5)
    schedule.call(TEND, 60)
    assert schedule._patience() == 60
    schedule.settle()
    clock.now += 1
    assert schedule._patience() == 59
    schedule.call(TEND, None)
    assert schedule._patience() is None


def test_chores_have_their_own_times() -> None:
    schedule, _, clock = scheduled()
    schedule.call(TEND, 5)
    schedule.call("glance", 1)
    clock.now += 1
    assert schedule.wait() == Due([], chores=frozenset({"glance"}))
    clock.now += 4
    assert schedule.wait() == Due([], chores=frozenset({TEND}))


class TestDistance:
    """Syncs that shall keep a distance of 10 seconds."""

    def test_two_follow_each_other_at_once_and_the_third_waits(self) -> None:
        schedule, messages, clock = scheduled(10)
        for _ in range(2):
            messages.put(NEWS)
            assert schedule.wait() == Due([NEWS])
        messages.put(NEWS)
        messages.put(NEWS)
        schedule.call(TEND, 0)
        assert schedule.wait() == Due([], chores=frozenset({TEND}))
        assert schedule._patience() == 10
        clock.now += 10
        assert schedule.wait() == Due([NEWS, NEWS])

    def test_what_is_urgent_takes_along_what_waits(self) -> None:
        schedule, messages, _ = scheduled(10)
        for _ in range(2):
            messages.put(NEWS)
            assert schedule.wait() == Due([NEWS])
        messages.put(NEWS)
        messages.put(ONE)
        assert schedule.wait() == Due([NEWS, ONE])

    def test_after_a_rest_two_may_follow_each_other_again(self) -> None:
        schedule, messages, clock = scheduled(10)
        for _ in range(2):
            messages.put(NEWS)
            schedule.wait()
        clock.now += 100
        for _ in range(2):
            messages.put(NEWS)
            assert schedule.wait() == Due([NEWS])
        messages.put(NEWS)
        schedule.call(TEND, 0)
        assert schedule.wait().batch == []

    def test_what_a_long_one_made_wait_goes_with_a_short_one(self) -> None:
        """And the news that it is short is not kept waiting by it."""
        schedule, messages, clock = scheduled(3600)
        for _ in range(2):
            messages.put(NEWS)
            assert schedule.wait() == Due([NEWS])
        messages.put(NEWS)
        news = ConfigChanged(None, "is no YAML")
        messages.put(news)
        assert schedule.wait() == Due([NEWS, news])
        messages.put(NEWS)
        schedule.pace(1)
        clock.now += 1
        assert schedule.wait() == Due([NEWS])

    def test_it_can_be_changed(self) -> None:
        schedule, messages, _ = scheduled(10)
        schedule.pace(0)
        for _ in range(5):
            messages.put(NEWS)
            assert schedule.wait() == Due([NEWS])
