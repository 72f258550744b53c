"""Is it read right what went through flows, of just those that go to the places that are meant?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack.flows import Flow, opening
from conntrack.traffic import Reader, Sighting, place
from endpoints.names import Family, Protocol
from modes.wire import HEADER, NLMSG_DONE, attr, be32, be64, nested
from tests.unit.conntrack.flowing import SCTP, TCP, UDP, entry, flow

_LISTED, _ENDED, _EXPECTATION = 0x100, 0x102, 0x200
_MARK, _ZONE = 8, 18
FLOWS = [
    flow("10.96.7.7:53", "10.244.1.2:5353"),
    flow("[fd00:10:96::7]:53", "[fd00:10:244:1::2]:5353"),
    flow("10.96.7.7:53", "10.244.1.2:5353", SCTP),
    flow("10.96.7.7:443", "10.244.1.2:8443", TCP),
]


def counters(there: int, back: int) -> bytes:
    """As nf_conntrack_acct has them; of packets there are as many as bytes, and one."""
    ways = ((9, there), (10, back))
    return b"".join(nested(kind, be64(1, n + 1), be64(2, n)) for kind, n in ways)


def told(of: Flow, rest: bytes = b"", kind: int = _LISTED) -> bytes:
    """A message about a flow."""
    body = opening(of.family) + entry(of) + rest
    return HEADER.pack(HEADER.size + len(body), kind, 0, 1, 0) + body


def place_of(of: Flow) -> bytes:
    """Where it was sent to."""
    return place(of.family, *of.original.destination, of.protocol)


@pytest.mark.parametrize("one", FLOWS, ids=str)
@pytest.mark.parametrize("kind", [_LISTED, _ENDED], ids=["there", "ended"])
def test_a_flow_is_read_as_it_was_written(one: Flow, kind: int) -> None:
    reader = Reader({place_of(one): "dns"})
    ((whose, seen),) = reader.sightings(told(one, counters(1 << 40, 7), kind))
    assert whose == "dns"
    assert seen == Sighting(seen.flow, kind == _ENDED, 1 << 40, 7)
    ((_, uncounted),) = reader.sightings(told(one, kind=kind))
    assert uncounted == Sighting(seen.flow, kind == _ENDED, None, None)


def test_of_a_datagram_all_are_read_that_are_meant() -> None:
    reader = Reader({place_of(one): str(n) for n, one in enumerate(FLOWS) if n})
    done = HEADER.pack(HEADER.size + 4, NLMSG_DONE, 0, 1, 0) + bytes(4)
    datagram = b"".join(told(one, counters(n, n)) for n, one in enumerate(FLOWS)) + done
    found = [(whose, seen.bytes_in) for whose, seen in reader.sightings(datagram)]
    assert found == [("1", 1), ("2", 2), ("3", 3)]


@pytest.mark.parametrize(
    "other",
    [
        place(Family.IPV4, "10.96.7.8", 53, UDP),
        place(Family.IPV4, "10.96.7.7", 54, UDP),
        place(Family.IPV4, "10.96.7.7", 53, TCP),
    ],
    ids=["address", "port", "protocol"],
)
def test_a_flow_to_another_place_is_passed_over(other: bytes) -> None:
    assert list(Reader({other: 1}).sightings(told(FLOWS[0]))) == []


def test_expectations_are_no_flows() -> None:
    reader = Reader({place_of(FLOWS[0]): 1})
    assert list(reader.sightings(told(FLOWS[0], kind=_EXPECTATION))) == []


def test_an_id_tells_flows_with_the_same_packets_apart() -> None:
    one, other = (flow("10.96.7.7:53", port=4711) for _ in range(2))
    reader = Reader({place_of(one): 1})
    (_, first), (_, second) = reader.sightings(told(one) + told(other))
    assert first.flow != second.flow


def test_a_flow_in_a_zone_is_not_taken_for_one_that_is_built_alike() -> None:
    """A zone takes as much room as a mark, and stands where a mark may stand."""
    one = FLOWS[0]
    reader = Reader({place_of(one): 1})
    marked = told(one, be32(_MARK, 9) + counters(5, 6))
    in_zone = told(one, attr(_ZONE, b"\0\x09") + counters(5, 6))
    assert len(marked) == len(in_zone)
    found = [seen.bytes_in for _, seen in reader.sightings(marked + in_zone + marked)]
    assert found == [5, 5]


def test_counters_are_found_again_where_another_attribute_moved_them() -> None:
    one = FLOWS[0]
    reader = Reader({place_of(one): 1})
    first = told(one, be32(_MARK, 9) + counters(5, 6))
    moved = told(one, counters(7, 8) + be32(_MARK, 9))
    found = [(seen.bytes_in, seen.bytes_out) for _, seen in reader.sightings(first + moved + first)]
    assert found == [(5, 6), (7, 8), (5, 6)]


@given(st.sampled_from(FLOWS), st.data())
def test_no_broken_datagram_crashes_the_reader(one: Flow, data: st.DataObject) -> None:
    whole = told(one, counters(5, 6))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(broken)))])
    reader = Reader({place_of(one): 1})
    list(reader.sightings(cut))
    ((_, seen),) = reader.sightings(whole)
    assert (seen.bytes_in, seen.bytes_out) == (5, 6)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(payload: bytes) -> None:
    assert (
        list(Reader({place(Family.IPV4, "10.96.7.7", 53, Protocol.UDP): 1}).sightings(payload))
        == []
    )
