"""Are the busiest Services first, and do they fit on the screen?"""

from __future__ import annotations

import pytest

from proxy.debug.rates.busy import UNCOUNTED_BYTES, Busy, Interval, Sort, busiest, rated, text
from proxy.debug.rates.counting import Tally
from proxy.debug.screen import Screen

PAY = Busy("shop/pay:http", 50, 25.0, 1234.5, 10_000_000.0, 1204)
DNS = Busy("infra/dns:dns", 7, 3.5, 999.4, 999.5, 2)
IDLE = Busy("shop/cart:http", 0, 0.0, 0.0, 0.0, 31_000)
ALIKE = Busy("shop/bill:http", 7, 3.5, 999_949.9, 999_950.0, 2)


def interval(*services: Busy, notes: tuple[str, ...] = (), sort: Sort = Sort.NEW) -> Interval:
    return Interval(
        "2026-11-21T13:57:19Z", 2.0, sort, 1204, len(services), bool(notes), services, notes
    )


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        (Sort.NEW, [PAY, DNS, ALIKE, IDLE]),
        (Sort.BYTES, [PAY, ALIKE, DNS, IDLE]),
        (Sort.FLOWS, [IDLE, PAY, DNS, ALIKE]),
    ],
)
def test_the_busiest_come_first_and_those_alike_by_name(sort: Sort, first: list[Busy]) -> None:
    assert busiest([IDLE, ALIKE, PAY, DNS], sort) == tuple(first)


def test_a_tally_becomes_what_a_second_brings() -> None:
    tallies = {"shop/pay:http": Tally(50, 1000, 3000, 9)}
    assert rated(tallies, 2.0, counts_bytes=True) == [
        Busy("shop/pay:http", 50, 25.0, 500.0, 1500.0, 9)
    ]
    (uncounted,) = rated(tallies, 2.0, counts_bytes=False)
    assert uncounted.bytes_in_per_second is uncounted.bytes_out_per_second is None


def test_a_screen_of_eighty_columns() -> None:
    shown = interval(PAY, DNS, ALIKE, IDLE)
    assert text(shown, Screen(80)) == [
        "13:57:19Z, 2.0 s: 4 of 1,204 Service ports in use, by new connections",
        "NEW/S       IN/S     OUT/S    FLOWS   SERVICE",
        " 25.0     1.2 kB   10.0 MB    1,204   shop/pay:http",
        "  3.5      999 B    1.0 kB        2   infra/dns:dns",
        "  3.5   999.9 kB    1.0 MB        2   shop/bill:http",
        "  0.0        0 B       0 B   31,000   shop/cart:http",
    ]


def test_notes_stand_below_in_the_colour_of_doubt_and_take_their_room() -> None:
    of = interval(PAY, DNS, IDLE, notes=(UNCOUNTED_BYTES,))
    shown = text(of, Screen(80, colour=True), height=6)
    assert len(shown) == 6
    assert shown[2].endswith("shop/pay:http")
    assert shown[3].endswith("infra/dns:dns")
    assert shown[4].startswith("\x1b[33mbytes are not counted here")
    assert all(line.endswith("\x1b[0m") for line in shown[4:])


def test_on_the_lowest_terminal_the_busiest_is_told() -> None:
    assert text(interval(PAY, DNS), Screen(80), height=1)[-1].endswith("shop/pay:http")
