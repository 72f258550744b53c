"""Which Services are busy right now, and how busy?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import msgspec

from conntrack import sysctls
from modes.base import EnvironmentFault
from modes.held import Only
from modes.registry import AUTO, MODES
from proxy.debug.kernel import kernel, look_at
from proxy.debug.question import subject
from proxy.debug.rates import busy
from proxy.debug.rates.busy import Interval, Sort, busiest, rated, text
from proxy.debug.rates.flows import Flows, Told
from proxy.debug.rates.reached import Places, reached
from proxy.debug.screen import screen
from proxy.debug.table import wants_json
from proxy.debug.terminal import Attention, Refreshed, Wish, is_refreshed
from proxy.every import aside
from proxy.node import local_addresses
from proxy.settings import durations
from proxy.settings.checks import mode
from proxy.settings.refusal import ConfigError

Show = Callable[[Interval | None], None]
"""Takes an interval, or None before the first one is over."""
_SHORTEST = durations.SECOND // 10
_HEARING_SECONDS = 0.1
"""Events wait in a buffer for so long at most."""


class Wanted(msgspec.Struct, frozen=True):
    """What was typed."""

    modes: tuple[str, ...]
    only: Only
    interval_seconds: float
    count: int
    """Intervals; 0: no end."""
    sort: Sort
    rows: int
    """Services; 0: all, or as many as fit."""
    json: bool


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate top`; 1 if the Service that was asked for is not there.

    Raises EnvironmentFault, KernelFault and ConfigError.
    """
    wanted = _wanted(flags)
    with ExitStack() as left:
        attention = left.enter_context(Attention())
        looking = _Looking(wanted)
        flows = left.enter_context(closing(Flows(looking, time.monotonic)))
        if looking.doubt:
            if not flows.places:
                raise EnvironmentFault(f"not known: {looking.doubt}")
            aside(looking.doubt)
        if not (wanted.only.all or flows.places):
            aside(f"Service {flags.service} is not in the kernel")
            return 1
        show: Show = _as_line if wanted.json else _as_block
        if not wanted.json and is_refreshed():
            refreshed = left.enter_context(Refreshed())
            attention.hear_keys()
            show = _in_place(refreshed, wanted.interval_seconds)
        _watch(wanted, attention, flows, show)
    return 0


def _watch(wanted: Wanted, attention: Attention, flows: Flows, show: Show) -> None:
    """Show one interval after the other until it is enough."""
    shown: Interval | None = None
    since = time.monotonic()
    due = since + wanted.interval_seconds
    left = wanted.count or -1
    show(shown)
    while left:
        wish = attention.wait(min(_HEARING_SECONDS, due - time.monotonic()))
        if wish is Wish.END:
            return
        if wish is Wish.REDRAW:
            show(shown)
        flows.hear()
        if time.monotonic() >= due:
            told, now = flows.told(), time.monotonic()
            shown = _interval(wanted, told, flows.places, now - since)
            show(shown)
            since, due = now, max(due + wanted.interval_seconds, now)
            left -= 1


def _interval(wanted: Wanted, told: Told, places: Places, seconds: float) -> Interval:
    """What happened in these seconds, and what is to be known of it."""
    counts_bytes = sysctls.is_on(sysctls.ACCOUNTING)
    has_events = sysctls.is_on(sysctls.EVENTS)
    uncounted = sum(tally.uncounted for tally in told.tallies.values())
    notes = [
        note
        for note, applies in (
            (busy.DROPPED, told.has_gaps),
            (busy.NO_EVENTS, not has_events),
            (busy.UNCOUNTED_BYTES, not counts_bytes),
            (busy.OLDER.format(f"{uncounted:,}"), counts_bytes and uncounted),
        )
        if applies
    ]
    found = rated(told.tallies, seconds, counts_bytes=counts_bytes)
    return Interval(
        time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=seconds,
        sort=wanted.sort,
        known=len(set(places.values())),
        in_use=len(found),
        at_least=told.has_gaps or not has_events,
        services=busiest(found, wanted.sort)[: wanted.rows or None],
        notes=tuple(notes),
    )


def _as_line(of: Interval | None) -> None:
    """JSON."""
    if of is not None:
        print(msgspec.json.encode(of).decode(), flush=True)


def _as_block(of: Interval | None) -> None:
    """Lines that end with an empty one."""
    if of is not None:
        print("\n".join([*text(of, screen()), ""]), flush=True)


def _in_place(refreshed: Refreshed, interval_seconds: float) -> Show:
    def draw(of: Interval | None) -> None:
        if of is None:
            refreshed.draw([f"the first figures come after {interval_seconds:g} s; q ends"])
        else:
            refreshed.draw(text(of, screen(), refreshed.height))

    return draw


class _Looking:
    """Finds out where Services are reached: where the modes that have some say so.

    Where none has, all modes that can be asked are asked again: one of them may get some.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._kernel = kernel("", wanted.only)
        self._modes = wanted.modes
        self._is_first = True
        self.doubt = ""
        """What could not be read the first time, in words; it is not asked again."""

    def __call__(self) -> Places:
        """Ask now. Raises EnvironmentFault and KernelFault."""
        if self._is_first:
            looked = look_at(self._kernel, self._modes)
            held, self.doubt = looked.held, looked.doubt
        else:
            held = {name: self._kernel.look(name) for name in self._modes}
        self._is_first = False
        self._modes = tuple(name for name in held if held[name].services) or tuple(held)
        return reached((of for found in held.values() for of in found.services), local_addresses())


def _wanted(flags: argparse.Namespace) -> Wanted:
    """What was typed. Raises ConfigError."""
    name = mode(flags.mode)
    return Wanted(
        modes=MODES if name == AUTO else (name,),
        only=subject(flags.service),
        interval_seconds=_interval_seconds(flags.interval),
        count=_count("--count", flags.count),
        sort=_sort(flags.sort),
        rows=_count("-n", flags.rows),
        json=wants_json(flags.output),
    )


def _interval_seconds(typed: str) -> float:
    try:
        interval = durations.nanoseconds(typed)
    except ValueError as error:
        raise ConfigError("--interval", typed, str(error)) from error
    if interval < _SHORTEST:
        reason = f"must be {durations.spelled(_SHORTEST)} or more"
        raise ConfigError("--interval", typed, reason)
    return interval / durations.SECOND


def _count(flag: str, typed: str) -> int:
    if not (typed.isascii() and typed.isdecimal()):
        raise ConfigError(flag, typed, "must be a number, 0 or more")
    return int(typed)


def _sort(typed: str) -> Sort:
    if typed not in set(Sort):
        raise ConfigError("--sort", typed, f"must be one of {', '.join(Sort)}")
    return Sort(typed)
