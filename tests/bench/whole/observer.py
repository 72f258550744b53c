"""When does the kernel hold what it must? Told by somebody outside of the proxy.

An observer lives in the network namespace of the proxy and asks the kernel alone. It must not slow
down what it watches: it polls a mark that costs microseconds, and reads of the ruleset only what
it waits for, when the mark has moved.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from tests.bench import cluster
from tests.bench.whole.content import Wanted
from tests.lab import sandbox

_CLASSES = {
    "nftables": ("nftables", "Nftables"),
    "iptables-nft": ("xtables", "Nft"),
    "iptables-legacy": ("xtables", "Legacy"),
    "ipvs": ("ipvs", "Ipvs"),
}
_SHORTEST, _LONGEST = 0.0002, 0.005
_SHARE = 100
"""A pause is so small a part of the time that has passed: what it adds is less than 1%."""
_ALIVE_EVERY = 0.05
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
    module, name = _CLASSES[back_end]
    observer: Observer = getattr(import_module(f"tests.bench.whole.{module}"), name)(program)
    return observer


def held_at(
    observer: Observer,
    pending: Sequence[Wanted],
    deadline: float,
    alive: Callable[[], None],
) -> list[float]:
    """Wait until the ruleset holds all; tells for each when it was first seen to.

    The time of one is that of the first mark at which it **and all before it** in `pending` were
    held: never earlier than the truth, and not later for a proxy that writes them in one commit,
    or in this order. So a mark costs one check more than it brings, however many are pending; and
    percentiles of the times are upper bounds. What is held from the beginning has the time of the
    call. Times are those of `time.monotonic`, exact to the pause between two looks: 0.2 ms at
    first, later a hundredth of the time since the call, up to 5 ms. `alive` is called now and then.

    Raises:
        TimeoutError: at the deadline (of the same clock) something is not held; names the Service.
        Exception: whatever `alive` raises.
    """
    began = seen = asked = time.monotonic()
    times: list[float] = []
    mark, looks = observer.mark(), _LOOKS
    while True:
        while looks and len(times) < len(pending) and observer.holds(pending[len(times)]):
            if (latest := observer.mark()) != mark:
                mark, seen, looks = latest, time.monotonic(), _LOOKS
            times.append(seen)
        if len(times) == len(pending):
            return times
        looks = max(0, looks - 1)
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError(_lacking(pending[len(times) :], now - began))
        if now >= asked + _ALIVE_EVERY:
            alive()
            asked = now
        select.select([], [], [], min(_LONGEST, max(_SHORTEST, (now - began) / _SHARE)))
        if (latest := observer.mark()) != mark:
            mark, seen, looks = latest, time.monotonic(), _LOOKS


def _lacking(pending: Sequence[Wanted], seconds: float) -> str:
    """In words: what the ruleset does not hold after so long."""
    first = pending[0]
    endpoints = first.endpoints
    what = "is still there" if endpoints is None else f"has not exactly {len(endpoints)} endpoints"
    name = cluster.service_port(first.number)
    address = f"{cluster.cluster_ip(first.number)}:{cluster.PORT}"
    others = f"; {len(pending) - 1} others wait behind it" if pending[1:] else ""
    return f"after {seconds:.1f} s {name} ({address}) {what} in the kernel's ruleset{others}"
