"""Are messages to nfnetlink framed as the kernel reads them, and its answers read as it meant?"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.names import Family
from modes.nftables import netlink as nl

HEADER = struct.Struct("=IHHII")
V4, V6 = Family.IPV4, Family.IPV6
LISTED = nl.NFNL_SUBSYS_NFTABLES << 8 | nl.NEWSETELEM

attribute_lists = st.lists(st.tuples(st.integers(0, nl.NLA_TYPE_MASK), st.binary(max_size=40)))


class Sent(NamedTuple):
    size: int
    kind: int
    flags: int
    sequence: int
    nfproto: int
    res: int
    body: bytes


def parsed(data: bytes) -> list[Sent]:
    """Messages as the kernel would cut them out of what was sent."""
    found = []
    while data:
        size, kind, flags, sequence, _ = HEADER.unpack_from(data)
        nfproto, _, res = struct.unpack_from("!BBH", data, HEADER.size)
        found.append(Sent(size, kind, flags, sequence, nfproto, res, data[nl.HEADER_SIZE : size]))
        data = data[(size + 3) & ~3 :]
    return found


def reply(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    return nl.pad(HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body)


@given(attribute_lists)
def test_attributes_come_back_as_they_went(listed: list[tuple[int, bytes]]) -> None:
    data = b"".join(nl.attr(kind, payload) for kind, payload in listed)
    assert len(data) % 4 == 0
    assert list(nl.attributes(data)) == listed


@given(attribute_lists, st.binary(min_size=1, max_size=3))
def test_the_mark_of_nesting_is_no_part_of_the_kind(
    listed: list[tuple[int, bytes]], around: bytes
) -> None:
    inside = [nl.attr(kind, payload) for kind, payload in listed]
    data = around + nl.nested(7, *inside) + around
    ((kind, payload),) = nl.attributes(data, len(around), len(data) - len(around))
    assert kind == 7
    assert list(nl.attributes(payload)) == listed


@pytest.mark.parametrize(
    "broken",
    [b"\x03\x00\x01\x00", b"\x09\x00\x01\x00abcd", b"\x04\x00\x01"],
    ids=["shorter than its header", "longer than what is there", "half a header"],
)
def test_what_is_no_attribute_ends_the_run(broken: bytes) -> None:
    whole = nl.attr(1, b"whole")
    assert list(nl.attributes(whole + broken)) == [(1, b"whole")]


def test_an_attribute_has_sixteen_bits_for_its_length() -> None:
    assert len(nl.attr(1, bytes(65_531))) == 65_536
    with pytest.raises(struct.error):
        nl.attr(1, bytes(65_532))


def test_numbers_and_texts_are_spelled_as_the_kernel_wants_them() -> None:
    assert nl.be32(5, 258) == b"\x08\x00\x05\x00\x00\x00\x01\x02"
    assert nl.be64(5, 258) == b"\x0c\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x02"
    assert nl.text(1, "map") == b"\x08\x00\x01\x00map\x00"


def test_a_batch_numbers_its_messages_and_asks_for_one_answer() -> None:
    messages = [
        nl.Message(nl.NEWTABLE, nl.NLM_F_CREATE, V4, b"four"),
        nl.Message(nl.DELTABLE, 0, V6, b"sixsixsix..."),
        nl.Message(nl.NEWSET, nl.NLM_F_CREATE, V4, b""),
    ]
    begin, *sent, end = parsed(nl.batch(messages))
    assert (begin.kind, begin.res, begin.sequence) == (16, nl.NFNL_SUBSYS_NFTABLES, 0)
    assert (end.kind, end.res, end.sequence) == (17, nl.NFNL_SUBSYS_NFTABLES, 4)
    assert [m.sequence for m in sent] == [1, 2, 3]
    assert [m.kind for m in sent] == [10 << 8 | m.kind for m in messages]
    assert [m.nfproto for m in sent] == [2, 10, 2]
    assert [m.body for m in sent] == [b"four", b"sixsixsix...", b""]
    assert [bool(m.flags & nl.NLM_F_ACK) for m in sent] == [False, False, True]
    assert all(m.flags & nl.NLM_F_REQUEST for m in (begin, *sent, end))
    assert [m.flags & nl.NLM_F_CREATE for m in sent] == [nl.NLM_F_CREATE, 0, nl.NLM_F_CREATE]


def test_a_batch_that_is_not_to_be_committed_has_no_end() -> None:
    kinds = [m.kind for m in parsed(nl.batch([nl.Message(0, 0, V4, b"")], commit=False))]
    assert kinds == [16, 10 << 8]


def test_an_acknowledgement_is_an_error_of_zero() -> None:
    body = struct.pack("=i", 0) + HEADER.pack(20, 0, 0, 9, 0)
    (answer,) = nl.replies(reply(nl.NLMSG_ERROR, 9, body, nl.NLM_F_CAPPED))
    assert (answer.sequence, answer.kind, answer.error) == (9, nl.NLMSG_ERROR, 0)
    assert (answer.offset, answer.reason) == (None, "")


@pytest.mark.parametrize("quoted", [0, 5], ids=["capped", "the request quoted"])
def test_an_error_tells_where_and_why(quoted: int) -> None:
    request = HEADER.pack(HEADER.size + quoted, LISTED, 0, 3, 0)
    words = nl.text(nl.NLMSGERR_ATTR_MSG, "no such thing")
    where = nl.attr(nl.NLMSGERR_ATTR_OFFS, struct.pack("=I", 72))
    flags = nl.NLM_F_ACK_TLVS | (nl.NLM_F_CAPPED if not quoted else 0)
    body = struct.pack("=i", -errno.ENOENT) + request + nl.pad(bytes(quoted)) + words + where
    (answer,) = nl.replies(reply(nl.NLMSG_ERROR, 3, body, flags))
    assert (answer.error, answer.offset, answer.reason) == (errno.ENOENT, 72, "no such thing")


def test_a_datagram_may_hold_many_answers() -> None:
    datum = struct.pack("!BBH", 10, 0, 0) + b"payload"
    unknown = struct.pack("!BBH", 1, 0, 0)
    done = struct.pack("=i", -errno.EINTR)
    data = (
        reply(LISTED, 4, datum)
        + reply(LISTED, 4, unknown, nl.NLM_F_DUMP_INTR)
        + reply(nl.NLMSG_DONE, 4, done)
    )
    first, second, last = nl.replies(data)
    assert (first.kind, first.payload, first.family) == (LISTED, b"payload", V6)
    assert not first.interrupted
    assert (second.family, second.interrupted) == (None, True)
    assert (last.kind, last.error) == (nl.NLMSG_DONE, errno.EINTR)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8), st.data())
def test_an_offset_leads_to_its_element(payloads: list[bytes], data: st.DataObject) -> None:
    elements = [nl.attr(1, payload) for payload in payloads]
    body = nl.element_list("headgate", "services", elements)
    index = data.draw(st.integers(0, len(elements) - 1))
    unpadded = 4 + len(payloads[index])
    inside = data.draw(st.integers(0, unpadded - 1))
    before = len(body) - len(b"".join(elements[index:]))
    assert nl.element_at(body, nl.HEADER_SIZE + before + inside) == index


def test_an_offset_outside_of_the_elements_leads_nowhere() -> None:
    body = nl.element_list("headgate", "services", [nl.attr(1, b"element")])
    names = nl.element_list("headgate", "services", [])
    assert nl.element_at(body, nl.HEADER_SIZE) is None
    assert nl.element_at(body, nl.HEADER_SIZE + len(names)) is None
    assert nl.element_at(body, nl.HEADER_SIZE + len(body)) is None
    assert nl.element_at(names, nl.HEADER_SIZE) is None
