"""When does the kernel begin to differ from what it should hold, by whom, and until when?"""

from __future__ import annotations

import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from modes.base import Foreign, ForeignWatch
from modes.held import Difference
from modes.registry import create
from proxy.debug.differing import Differing
from proxy.settings.refusal import printable

_INTERVAL_SECONDS = 1.0
_REST = 4
"""After a look that took long, so many times as long is waited."""
_BLUR_SECONDS = 0.5
"""How much later than it was an answer may make a change seem."""
_OURS = "headgate"
"""A process of this name writes what it should; its syncs are no news here."""
_BY_ITSELF = ("nftables",)
"""Modes that write without programs of others: only there a name tells who writes."""


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened: a line of `headgate diff --watch -o json`."""

    at: str
    """`2026-11-21T14:03:11.123+01:00`."""
    what: str
    """`same` or `drift` when the watch begins; `changed` by somebody else, `drift`, `repaired`.

    `same`, too, after a change that is repaired, or did no harm, before one could look.
    """
    difference: Difference | None = None
    change: Foreign | None = None


def watch(compare: Callable[[], Differing], *, json: bool) -> int:
    """Tell until Ctrl-C; 1 if the kernel differed in the end. Raises as `compare`, and OSError."""
    news: queue.SimpleQueue[Foreign] = queue.SimpleQueue()
    before: set[Difference] = set()
    is_news = True
    with suppress(KeyboardInterrupt):
        found, seconds = _timed(compare)
        noticed = _Noticed(found)
        with _listening(found, news):
            while True:
                now = set(found.differences)
                for turn in _turns(before, now, is_news=is_news):
                    _say(turn, json=json)
                before, is_news = now, False
                changes = []
                for change in _heard(news, max(_INTERVAL_SECONDS, _REST * seconds)):
                    _say(Turn(_now(), "changed", change=change), json=json)
                    changes.append(change)
                found, seconds = _timed(compare)
                for change in noticed.besides(changes, found):
                    _say(Turn(_now(), "changed", change=change), json=json)
                    changes.append(change)
                is_news = bool(changes)
    return int(bool(before))


class _Noticed:
    """What the running headgate noticed, where the kernel tells nobody who changes what."""

    def __init__(self, found: Differing) -> None:
        self._at = _noticed_at(found)
        self._heard: set[tuple[str, int]] = set()

    def besides(self, heard: Iterable[Foreign], found: Differing) -> Iterator[Foreign]:
        """The last foreign change, if it is new and by nobody of whom the kernel told."""
        self._heard |= {(change.author, change.pid) for change in heard}
        before, self._at = self._at, _noticed_at(found)
        if found.last_foreign is not None and self._at > before + _BLUR_SECONDS:
            change = found.last_foreign.change
            if (change.author, change.pid) not in self._heard:
                yield change


def _noticed_at(found: Differing) -> float:
    """When the running headgate noticed a foreign change last, by this process's clock."""
    return time.monotonic() - found.last_foreign.seconds_ago if found.last_foreign else -math.inf


def _timed(compare: Callable[[], Differing]) -> tuple[Differing, float]:
    began = time.monotonic()
    found = compare()
    return found, time.monotonic() - began


def _turns(before: set[Difference], now: set[Difference], *, is_news: bool) -> Iterator[Turn]:
    if is_news and not (now or before):
        yield Turn(_now(), "same")
    for of in sorted(now - before):
        yield Turn(_now(), "drift", of)
    for of in sorted(before - now):
        yield Turn(_now(), "repaired", of)


def _heard(news: queue.SimpleQueue[Foreign], seconds: float) -> Iterator[Foreign]:
    """What others changed; returns when there is some of it, or after so long."""
    with suppress(queue.Empty):
        change = news.get(timeout=seconds)
        while True:
            if change.author != _OURS:
                yield change
            change = news.get_nowait()


@contextmanager
def _listening(found: Differing, news: queue.SimpleQueue[Foreign]) -> Iterator[None]:
    """Put there what the kernel tells of foreign changes, where it tells any.

    A headgate that runs writes by iptables as others do, and only it knows which writing is whose.
    """
    if found.is_running and found.mode not in _BY_ITSELF:
        yield
        return
    used = create(found.mode)
    heard = used.watch()
    thread = None
    if heard is not None:
        thread = threading.Thread(target=_listen, args=(heard, news), daemon=True)
        thread.start()
    try:
        yield
    finally:
        if heard is not None and thread is not None:
            heard.close()
            thread.join()
        used.close()


def _listen(heard: ForeignWatch, news: queue.SimpleQueue[Foreign]) -> None:
    while changes := heard.wait():
        for change in changes:
            news.put(change)


def _say(turn: Turn, *, json: bool) -> None:
    if json:
        sys.stdout.write(msgspec.json.encode(turn).decode() + "\n")
    else:
        sys.stdout.write(f"{turn.at[11:23]}  {printable(_words(turn))}\n")
    sys.stdout.flush()


def _words(turn: Turn) -> str:
    if turn.change is not None:
        pid = f" (pid {turn.change.pid})" if turn.change.pid else ""
        return f"changed    by {turn.change.author or 'somebody unknown'}{pid}: {turn.change.what}"
    if turn.difference is None:
        return "same       the kernel holds what it should"
    of = turn.difference
    return f"{turn.what:<9}  {of.service or '(rules of no Service)'}  {of.kind}  {of.what}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
