"""When does the kernel hold what it must? Told by somebody outside of the proxy.

An observer lives in the network namespace of the proxy and asks the kernel alone. It must not slow
down what it watches: it polls a mark that costs microseconds, and reads of the ruleset only what
it waits for, when the mark has moved.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tests.bench import cluster
from tests.bench.whole.content import Wanted
from tests.bench.whole.ipvs import Ipvs
from tests.bench.whole.nftables import Nftables
from tests.bench.whole.xtables import Legacy, Nft
from tests.lab import sandbox

_SHORTEST, _LONGEST = 0.0002, 0.005
_SHARE = 100
"""A pause is so small a part of the time that has passed: what it adds is less than 1%."""
_ALIVE_EVERY = 0.05
_SAMPLE = 128
"""Services. Where one in twenty is missing, so many show it in 998 of 1,000 cases."""
_LOOKS = 2
"""A mark may move a moment before what it stands for can be read: the second look is a pause later."""


class Observer(Protocol):
    """Reads the ruleset that one program writes with one back end."""

    def mark(self) -> object:
        """Something cheap that is equal as long as the ruleset has not changed.

        It may move without any change that matters, and it must move for each that does.
        """

    def holds(self, wanted: Wanted) -> bool:
        """Tell whether the ruleset holds exactly this of the Service now.

        Raises RuntimeError if it holds what cannot be understood.
        """

    def commits(self) -> int | None:
        """How often the ruleset of this network namespace has changed, if the kernel counts it."""

    def close(self) -> None:
        """Give back what it uses."""


def open_observer(back_end: str, program: str) -> Observer:
    """An observer of the calling thread's network namespace; back ends as in `tests.lab.modes`.

    The program is `headgate` or `kube-proxy`.

    Raises:
        NotSandboxedError: that network is the machine's.
    """
    sandbox.require_sandbox()
    opened: dict[str, Callable[[str], Observer]] = {
        "nftables": Nftables,
        "iptables-nft": Nft,
        "iptables-legacy": Legacy,
        "ipvs": Ipvs,
    }
    return opened[back_end](program)


class _Dating:
    """Which mark what is found to be held has come with."""

    def __init__(self, observer: Observer) -> None:
        """What is held already has the time of now."""
        self.time = self._moved = time.monotonic()
        self.looks = _LOOKS
        """So many more looks are due."""
        self._observer = observer
        self._mark = observer.mark()
        self._found = 0
        """Since the mark that counts."""

    def read(self) -> None:
        """Read the mark: one that has moved counts, unless a sample was held before it already."""
        if (mark := self._observer.mark()) == self._mark:
            return
        self._mark, self._moved, self.looks = mark, time.monotonic(), _LOOKS
        if self._found < _SAMPLE:
            self.time, self._found = self._moved, 0

    def found(self) -> None:
        """Something is held; by what mark is told when it is read again."""
        self.read()
        self._found += 1

    def missed(self) -> None:
        """Something is not held: whatever is found from now on has come with the newest mark."""
        self.time, self._found = self._moved, 0
        self.looks -= 1


def held_at(
    observer: Observer,
    pending: Sequence[Wanted],
    deadline: float,
    alive: Callable[[], None],
) -> list[float]:
    """Wait until the ruleset holds all; tells for each by when it did.

    They are looked for from the end of `pending`, and nothing more is looked at if one is not held:
    a mark costs one look besides those that find something, however many are pending. The time of
    one is that of the first mark at which it was held **and all that are looked for before it**, so
    that the largest of the times is when all were. None is before the truth; with one exception:
    for what takes long to read, when a sample from the whole of it is held by one mark, marks that
    move later do not count, unless something turns out to be missing.

    Times are those of `time.monotonic`; what is held from the beginning has the time of the call.
    They are exact to the pause between two looks: 0.2 ms at first, later a hundredth of the time
    since the call, up to 5 ms. `alive` is called now and then.

    Raises:
        TimeoutError: at the deadline (of the same clock) something is not held; names the Service.
        Exception: whatever `alive` raises.
    """
    began = asked = time.monotonic()
    dating = _Dating(observer)
    order = _order(len(pending))
    times: dict[int, float] = {}
    while True:
        while dating.looks and len(times) < len(order):
            number = order[len(times)]
            if observer.holds(pending[number]):
                dating.found()
                times[number] = dating.time
            else:
                dating.missed()
                break
        if len(times) == len(order):
            return [times[number] for number in range(len(pending))]
        now = time.monotonic()
        if now >= deadline:
            rest = [pending[number] for number in order[len(times) :]]
            raise TimeoutError(_lacking(rest, now - began))
        if now >= asked + _ALIVE_EVERY:
            alive()
            asked = now
        select.select([], [], [], min(_LONGEST, max(_SHORTEST, (now - began) / _SHARE)))
        dating.read()


def _order(count: int) -> list[int]:
    """So many indices from the end; in front of them a sample from all."""
    backwards = range(count - 1, -1, -1)
    step = max(1, count // _SAMPLE)
    return list(dict.fromkeys([*backwards[::step], *backwards]))


def _lacking(pending: Sequence[Wanted], seconds: float) -> str:
    """In words: what the ruleset does not hold after so long."""
    first = pending[0]
    endpoints = first.endpoints
    what = "is still there" if endpoints is None else f"has not exactly {len(endpoints)} endpoints"
    name = cluster.service_port(first.number)
    address = f"{cluster.cluster_ip(first.number)}:{cluster.PORT}"
    others = f"; {len(pending) - 1} others wait behind it" if pending[1:] else ""
    return f"after {seconds:.1f} s {name} ({address}) {what} in the kernel's ruleset{others}"
