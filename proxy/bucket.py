"""How long must somebody wait who may do something only so often? Pure.

A bucket holds some tokens at most and fills steadily; doing it costs one.
"""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """So many at once, `burst`, and then so many `per_second`; not for several threads at once.

    `clock` counts seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._moment = clock()

    def reserve(self) -> float:
        """Take a token, one that is not there yet if need be; the seconds until it is."""
        self._fill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_second)

    def take(self) -> bool:
        """Take a token if there is one."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fill(self) -> None:
        now = self._clock()
        grown = (now - self._moment) * self._per_second
        self._tokens, self._moment = min(self._burst, self._tokens + grown), now
