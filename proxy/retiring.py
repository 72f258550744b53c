"""What is still there of modes that served before, and when does it go?

Begins when the chosen mode serves everything: its rules are in before any other's are removed.
What a mode cannot remove yet, as connections live on it, it is asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from modes.base import EnvironmentFault, KernelFault, Missing, Mode, Tell

ORDER = ("nftables", "ipvs", "iptables")
"""Who is asked first. A table of nftables is gone in a millisecond, and kube-proxy's refuses what
it knew no endpoints of; IPVS goes before the iptables mode, which removes the rules of both."""

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
"""Between attempts at what the kernel, or who holds a lock, does not let us do."""


class Retiring:
    """The retirement of all modes but one, and of what kube-proxy left. One thread uses it."""

    def __init__(
        self,
        successor: str,
        modes: Iterable[str],
        create: Callable[[str], Mode],
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked yet.

        Args:
            successor: the mode that serves. It is among those that are asked: kube-proxy may have
                left what is of its kind.
            modes: all there are.
            create: makes a mode by its name.
            tell: hears what cannot be removed; once, until the reason is another.
            clock: counts seconds.
        """
        self._leaving = [_Leaving(name) for name in sorted(modes, key=ORDER.index)]
        self._successor = successor
        self._create = create
        self._tell = tell
        self._clock = clock

    def due(self) -> float | None:
        """Do what is due. Returns the seconds until there is more to do; None: nothing is left.

        Never raises for a fault of the kernel.
        """
        for leaving in tuple(self._leaving):
            if self._clock() >= leaving.again_at:
                self._ask(leaving)
        now = self._clock()
        return min((max(0.0, of.again_at - now) for of in self._leaving), default=None)

    def close(self) -> None:
        """Give back what modes opened that have not left yet; what they hold stays."""
        while self._leaving:
            self._dismiss(self._leaving[0])

    def _ask(self, leaving: _Leaving) -> None:
        try:
            if leaving.mode is None:
                leaving.mode = self._create(leaving.name)
            seconds = leaving.mode.retire(self._successor)
        except Missing:  # then nothing of it can be there
            seconds = None
        except EnvironmentFault as fault:  # the machine stays as it is as long as we live
            self._say(leaving, str(fault))
            seconds = None
        except (KernelFault, OSError) as fault:
            self._say(leaving, str(fault))
            seconds = leaving.delay_seconds
            leaving.delay_seconds = min(2 * seconds, LONGEST_DELAY_SECONDS)
        else:
            leaving.delay_seconds = FIRST_DELAY_SECONDS
        if seconds is None:
            self._dismiss(leaving)
        else:
            leaving.again_at = self._clock() + seconds

    def _say(self, leaving: _Leaving, reason: str) -> None:
        if reason != leaving.told:
            leaving.told = reason
            self._tell("Not removed", mode=leaving.name, reason=reason)

    def _dismiss(self, leaving: _Leaving) -> None:
        self._leaving.remove(leaving)
        if leaving.mode is not None:
            leaving.mode.close()


class _Leaving:
    """A mode that has not left yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mode: Mode | None = None
        self.again_at = float("-inf")
        self.delay_seconds = FIRST_DELAY_SECONDS
        self.told = ""
