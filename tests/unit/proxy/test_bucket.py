"""Is as much let through as there are tokens, and no more?"""

from __future__ import annotations

from proxy.bucket import TokenBucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_one_by_one() -> None:
    clock = Clock()
    bucket = TokenBucket(5, 3, clock)
    assert [bucket.reserve() for _ in range(5)] == [0, 0, 0, 0.2, 0.4]
    clock.now = 0.4
    assert bucket.reserve() == 0.2


def test_it_does_not_overflow() -> None:
    clock = Clock()
    bucket = TokenBucket(1 / 300, 2, clock)
    clock.now = 1e6
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.now += 299
    assert not bucket.take()
    clock.now += 2
    assert bucket.take()
    assert not bucket.take()
