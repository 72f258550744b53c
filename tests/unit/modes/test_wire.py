"""Is netlink framed as the kernel reads it? What nfnetlink says besides is tested with that mode."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from modes import wire


@given(st.integers(0, 0xFFFFFFFF))
def test_numbers_in_host_order_come_back(number: int) -> None:
    [(kind, payload)] = wire.attributes(wire.u32(7, number))
    assert (kind, payload) == (7, struct.pack("=I", number))
    assert wire.host_order(payload) == number


def test_short_numbers_are_padded() -> None:
    assert wire.u16(2, 6) == struct.pack("=HHHxx", 6, 2, 6)


def test_an_integer_of_no_bytes_is_zero() -> None:
    """What an older kernel does not tell."""
    assert wire.host_order(b"") == 0


def test_texts_lose_their_terminating_zero_only() -> None:
    [(_, payload)] = wire.attributes(wire.text(6, "rr"))
    assert wire.words(payload) == "rr"
    assert wire.words(b"s\xff\0") == "s\N{REPLACEMENT CHARACTER}"


def test_a_message_is_a_request_with_its_size_and_number() -> None:
    assert wire.message(27, wire.NLM_F_ACK, 9, b"payload!") == (
        struct.pack("=IHHII", 24, 27, 5, 9, 0) + b"payload!"
    )


def test_an_answer_is_read_from_where_its_attributes_begin() -> None:
    datagram = wire.message(20, 0, 3, b"12345678rest")
    assert [answer.payload for answer in wire.replies(datagram)] == [b"5678rest"]
    assert [answer.payload for answer in wire.replies(datagram, 0)] == [b"12345678rest"]


def test_an_extended_acknowledgement_says_why() -> None:
    quoted = struct.pack("=IHHII", 16, 27, 5, 3, 0)
    body = struct.pack("=i", -22) + quoted + wire.text(wire.NLMSGERR_ATTR_MSG, "no such thing")
    flags = wire.NLM_F_CAPPED | wire.NLM_F_ACK_TLVS
    head = struct.pack("=IHHII", 16 + len(body), wire.NLMSG_ERROR, flags, 3, 0)
    [answer] = wire.replies(head + body)
    assert (answer.sequence, answer.error, answer.reason) == (3, 22, "no such thing")


def test_a_refusal_reads_as_its_reason() -> None:
    assert str(wire.Refusal(3, 17, "File exists (EEXIST)")) == "File exists (EEXIST)"
