"""Is what conntrack says read as it was meant, and nothing made of what it never says?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.flows import (
    Destination,
    Filter,
    Flow,
    admits,
    decode,
    deletion,
    listing,
    sent_to,
)
from endpoints.addresses import pack
from endpoints.names import Family, Protocol
from modes.wire import attr, attributes, host_order, nested
from tests.unit.conntrack.flowing import SCTP, TCP, UDP, entry, flow

FLOWS = [
    flow("10.96.7.7:53", "10.244.1.2:5353"),
    flow("10.96.7.7:53"),
    flow("[fd00:10:96::7]:53", "[fd00:10:244:1::2]:5353"),
    flow("10.96.7.7:53", "10.244.1.2:5353", SCTP),
    flow("10.96.7.7:443", "10.244.1.2:8443", TCP, zone=7),
]


@pytest.mark.parametrize("one", FLOWS, ids=str)
def test_a_flow_is_read_as_it_was_written(one: Flow) -> None:
    assert decode(one.family, entry(one)) == one
    to = one.original.destination
    assert sent_to(one.family, entry(one)) == (one.protocol.number, pack(to.address), to.port)


@pytest.mark.parametrize("place", ["original", "reply"])
def test_a_zone_of_one_direction_counts(place: str) -> None:
    """nf_conntrack has zones for either direction alone (Linux 4.3)."""
    (first, second, *rest) = attributes(entry(FLOWS[0]))
    zone = attr(3, b"\0\5")
    ways = [
        nested(kind, payload + (zone if place == said else b""))
        for (kind, payload), said in zip((first, second), ("original", "reply"), strict=True)
    ]
    told = decode(Family.IPV4, b"".join([*ways, *(attr(kind, body) for kind, body in rest)]))
    assert told is not None
    assert told.zone == 5


def test_other_protocols_are_not_flows_of_services() -> None:
    whole = entry(FLOWS[0])
    icmp = whole.replace(attr(1, b"\x11"), attr(1, b"\x01"))
    assert icmp != whole
    assert decode(Family.IPV4, icmp) is None


@given(st.binary(max_size=200), st.sampled_from(Family))
def test_no_bytes_crash_the_reader(payload: bytes, family: Family) -> None:
    assert decode(family, payload) is None or sent_to(family, payload) is not None


@given(st.sampled_from(FLOWS), st.data())
def test_no_broken_entry_crashes_the_reader(one: Flow, data: st.DataObject) -> None:
    whole = bytearray(entry(one))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for family in Family:
        told = decode(family, cut)
        assert told is None or sent_to(family, cut) is not None


@pytest.mark.parametrize("one", [FLOWS[2], FLOWS[4]], ids=["no zone", "a zone"])
def test_a_deletion_says_which_entry_and_no_other(one: Flow) -> None:
    payload = deletion(one)
    assert payload[:4] == (b"\x0a\0\0\0" if one.family is Family.IPV6 else b"\x02\0\0\0")
    said = dict(attributes(payload, 4))
    assert said.keys() == {1, 12, *([18] if one.zone else [])}
    assert said[12] == one.id.to_bytes(4, "big")
    assert int.from_bytes(said.get(18, b""), "big") == one.zone


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        (Filter(Family.IPV4, UDP), 0b001000),
        (Filter(Family.IPV4, UDP, None, 53), 0b101000),
        (Filter(Family.IPV4, UDP, "10.96.7.7", 53), 0b101010),
        (Filter(Family.IPV4, UDP, "10.96.7.7", 53, "192.0.2.1"), 0b101011),
        (Filter(Family.IPV6, SCTP, None, 53), 0b101000),
    ],
)
def test_a_filter_says_what_it_compares(asked: Filter, flags: int) -> None:
    said = dict(attributes(listing(asked), 4))
    assert host_order(dict(attributes(said[25]))[1]) == flags
    compared = dict(attributes(said[1]))
    addresses = dict(attributes(compared.get(1, b"")))
    assert addresses == {
        kind: pack(address) for kind, address in ((1, asked.source), (2, asked.address)) if address
    }


def test_a_family_alone_is_asked_for_without_a_filter() -> None:
    assert listing(Filter(Family.IPV6)) == b"\x0a\0\0\0"


@pytest.mark.parametrize(
    ("asked", "to", "admitted"),
    [
        (Filter(Family.IPV4), Destination(6, b"\1\2\3\4", 5), True),
        (Filter(Family.IPV4, UDP), Destination(17, b"\1\2\3\4", 5), True),
        (Filter(Family.IPV4, UDP), Destination(6, b"\1\2\3\4", 5), False),
        (Filter(Family.IPV4, UDP, None, 53), Destination(17, b"\1\2\3\4", 54), False),
        (Filter(Family.IPV4, UDP, "1.2.3.4", 53), Destination(17, b"\1\2\3\4", 53), True),
        (Filter(Family.IPV4, UDP, "1.2.3.5", 53), Destination(17, b"\1\2\3\4", 53), False),
        # The kernel compares no ports of SCTP (ctnetlink_filter_match_tuple).
        (Filter(Family.IPV4, SCTP, None, 53), Destination(132, b"\1\2\3\4", 54), True),
    ],
)
def test_what_a_filter_lets_through(asked: Filter, to: Destination, *, admitted: bool) -> None:
    assert admits(asked, to) is admitted


def test_every_protocol_of_a_service_is_read() -> None:
    assert {
        decode(Family.IPV4, entry(flow("10.0.0.1:1", protocol=p))) is None for p in Protocol
    } == {False}
