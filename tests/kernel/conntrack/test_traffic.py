"""Does the kernel tell of flows, of their bytes and their ends what is made of it?"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from conntrack import kernel as kernels
from conntrack.flows import Filter, Flow
from conntrack.kernel import Events, Kernel
from conntrack.traffic import Reader, place
from endpoints.names import Family
from tests.kernel.conntrack.table import Table
from tests.unit.conntrack.flowing import SCTP, TCP, UDP, flow

PLACES = {
    place(Family.IPV4, "10.96.7.7", 53, UDP): "dns",
    place(Family.IPV6, "fd00:10:96::7", 53, UDP): "dns6",
    place(Family.IPV4, "10.96.7.8", 80, TCP): "pay",
    place(Family.IPV4, "10.96.7.9", 80, SCTP): "cart",
}
TRACKED = [
    flow("10.96.7.7:53", "10.244.1.2:5353"),
    flow("10.96.7.7:53"),
    flow("[fd00:10:96::7]:53", "[fd00:10:244:1::2]:5353"),
    flow("10.96.7.8:80", "10.244.1.2:8080", TCP),
    flow("10.96.7.9:80", "10.244.1.2:8080", SCTP),
    flow("10.96.7.10:53", "10.244.1.2:5353"),
    flow("10.96.7.7:53", "10.244.1.2:5353", zone=9),
]
MEANT = sorted(["dns", "dns", "dns6", "pay", "cart"])
MANY = 1000


@pytest.fixture
def events(network: None) -> Iterator[Events]:  # noqa: ARG001
    with contextlib.closing(Events()) as made:
        yield made


def forget() -> None:
    for family in ("ipv4", "ipv6"):
        subprocess.run(["conntrack", "-D", "-f", family], check=True, capture_output=True)


def test_lists_and_events_name_the_same_flows(kernel: Kernel, table: Table, events: Events) -> None:
    reader = Reader(PLACES)

    def heard() -> list[tuple[str, bytes, bool]]:
        datagrams = list(events.take())
        assert None not in datagrams
        return [
            (whose, seen.flow, seen.has_ended)
            for datagram in datagrams
            for whose, seen in reader.sightings(datagram or b"")
        ]

    table.track(TRACKED)
    began = heard()
    listed = [
        (whose, seen.flow, False)
        for family in Family
        for datagram in kernel.datagrams(Filter(family))
        for whose, seen in reader.sightings(datagram)
    ]
    forget()
    assert sorted(whose for whose, _, _ in began) == MEANT
    assert sorted(listed) == sorted(began)
    assert sorted(heard()) == sorted((whose, name, True) for whose, name, _ in began)


def test_lost_events_are_told_of(
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "_EVENTS_BUFFER", 1 << 14)
    with contextlib.closing(Events()) as events:
        crowd: list[Flow] = [flow("10.96.7.7:53", port=1024 + n) for n in range(MANY)]
        table.track(crowd)
        datagrams = list(events.take())
        assert None in datagrams
        assert 0 < len(datagrams) < MANY
        table.track([flow("10.96.7.7:53", port=9)])
        (after,) = events.take()
        assert after


def test_a_list_in_many_datagrams_is_read_to_its_end(kernel: Kernel, table: Table) -> None:
    table.track([flow("10.96.7.7:53", port=1024 + n) for n in range(MANY)])
    for _ in range(2):
        datagrams = list(kernel.datagrams(Filter(Family.IPV4)))
        assert len(datagrams) > 2
        reader = Reader(PLACES)
        found = [seen.flow for datagram in datagrams for _, seen in reader.sightings(datagram)]
        assert len(set(found)) == len(found) == MANY
