"""Which Services are busy, and how is that told? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from proxy.debug.rates.counting import Tally
from proxy.debug.screen import Screen, Style

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000.0
_NUMBERS = ("NEW/S", "IN/S", "OUT/S", "FLOWS")
UNCOUNTED_BYTES = (
    "bytes are not counted here; `sysctl -w net.netfilter.nf_conntrack_acct=1` lets the kernel"
    " count those of connections that begin after it"
)
OLDER = "older than the kernel's accounting, and their bytes not told: {} flows"
DROPPED = "at least: the kernel dropped events, and there were more new connections than told"
NO_EVENTS = (
    "at least: the kernel tells no events (net.netfilter.nf_conntrack_events=0), so connections"
    " that end within an interval are not seen"
)


class Sort(StrEnum):
    """What comes first."""

    NEW = "new"
    BYTES = "bytes"
    FLOWS = "flows"


class Busy(msgspec.Struct, frozen=True):
    """What happened to one Service port in an interval."""

    service: str
    """`namespace/name:port`."""
    new: int
    """Connections that began, UDP's too."""
    new_per_second: float
    bytes_in_per_second: float | None
    """From clients, with IP headers; None: the kernel does not count."""
    bytes_out_per_second: float | None
    flows: int
    """That conntrack holds at the end of the interval, in any state."""


class Interval(msgspec.Struct, frozen=True):
    """One answer of `headgate top`; with `-o json` each is a line."""

    time: str
    """Of its end: `2026-11-21T13:57:19Z`."""
    seconds: float
    sort: Sort
    known: int
    """How many Service ports this node's kernel holds."""
    in_use: int
    """How many of them had a new connection or a flow."""
    at_least: bool
    """Whether there may have been more new connections than were told."""
    services: tuple[Busy, ...]
    """Those in use, the busiest first."""
    notes: tuple[str, ...] = ()
    """What is to be known of these figures."""


def rated(tallies: Mapping[str, Tally], seconds: float, *, counts_bytes: bool) -> list[Busy]:
    """What happened to each Service port, for each second of the interval."""
    return [
        Busy(
            service=service,
            new=tally.began,
            new_per_second=tally.began / seconds,
            bytes_in_per_second=tally.bytes_in / seconds if counts_bytes else None,
            bytes_out_per_second=tally.bytes_out / seconds if counts_bytes else None,
            flows=tally.flows,
        )
        for service, tally in tallies.items()
    ]


def busiest(services: Iterable[Busy], sort: Sort) -> tuple[Busy, ...]:
    """The busiest first; those that are alike by name."""

    def order(of: Busy) -> tuple[float, str]:
        if sort is Sort.NEW:
            return -of.new, of.service
        if sort is Sort.FLOWS:
            return -of.flows, of.service
        return -(of.bytes_in_per_second or 0) - (of.bytes_out_per_second or 0), of.service

    return tuple(sorted(services, key=order))


def text(of: Interval, screen: Screen, height: int | None = None) -> list[str]:
    """A headline, a table, and notes; as many Services as fit into so many lines, if it is told."""
    clock = of.time.partition("T")[2]
    words = f"{clock}, {of.seconds:.1f} s: {of.in_use:,} of {of.known:,} Service ports in use"
    head = screen.prose(f"{words}, by {_SORTED[of.sort]}")
    notes = [screen.painted(line, Style.DOUBT) for note in of.notes for line in screen.prose(note)]
    listed = of.services
    if height is not None:
        listed = listed[: max(1, height - len(head) - len(notes) - 1)]
    rows = [(*_NUMBERS, "SERVICE"), *map(_row, listed)]
    return [*head, *screen.table(rows, right=frozenset(range(len(_NUMBERS)))), *notes]


_SORTED = {Sort.NEW: "new connections", Sort.BYTES: "bytes", Sort.FLOWS: "flows"}


def _row(of: Busy) -> tuple[str, ...]:
    return (
        f"{of.new_per_second:,.1f}",
        _size(of.bytes_in_per_second),
        _size(of.bytes_out_per_second),
        f"{of.flows:,}",
        of.service,
    )


def _size(count: float | None) -> str:
    """`0 B`, `999 B`, `1.2 kB`: powers of 1000."""
    if count is None:
        return "-"
    unit = 0
    while round(count, 0 if unit == 0 else 1) >= _THOUSAND and unit + 1 < len(_UNITS):
        count /= _THOUSAND
        unit += 1
    return f"{count:,.{1 if unit else 0}f} {_UNITS[unit]}"
