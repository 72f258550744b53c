"""Does any answer of a kernel, however long and whatever is in it, end the program?

None that is listed here may raise anything but what it says it raises: KernelFault, which the next
sync makes good.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack import flows
from endpoints.names import Family, Protocol
from modes import commits, wire
from modes.base import KernelFault
from modes.ipvs import ipset_messages, links, netlink
from modes.nftables import codec, ruleset, strangers
from modes.nftables.expressions import expression_parts
from modes.nftables.sets import S, set_specs
from modes.tracing import events, following, program, rules
from proxy import node
from proxy.facts import rtnetlink
from proxy.facts.tracked import tracked
from tests.laws.effort import effort
from tests.unit.modes.nftables.shapes import NUMBERED, layouts
from tests.unit.modes.tracing import telling

FAMILIES = tuple(Family)
SETS = [(family, set_id) for family in FAMILIES for set_id in S]
ADDRESSES = (bytes((10, 96, 7, 7)), bytes(16))
Parse = Callable[[bytes], Any]


AIM = program.Aim(telling.VIP, 80, Protocol.TCP)


def all_of(pairs: Iterable[object]) -> list[object]:
    return list(pairs)


def traced(data: bytes) -> None:
    """Whatever is told of packets is followed, as is what comes after it."""
    read = following.Following(AIM, 2, telling.TABLE)
    whole = telling.message(
        network=telling.ipv4(telling.CLIENT, telling.VIP), transport=telling.segment(4242, 80)
    )
    body = bytes((2, 0, 0, 0)) + data
    for datagram in (data, whole, framed(events.MESSAGE, 0, body, 16 + len(body)), whole):
        for event in events.decode(datagram):
            read.take(event, 1.0)
    assert len(read.flows) <= 2


PARSERS: dict[str, Parse] = {
    "attributes": lambda data: all_of(wire.attributes(data)),
    "replies": lambda data: all_of(wire.replies(data)),
    "commits": lambda data: commits.Reading([b""], lambda _: True).take(data),
    "nftables set": ruleset.decode_set,
    "nftables chain": ruleset.decode_chain,
    "nftables rule": ruleset.decode_rule,
    "nftables table": ruleset.decode_table,
    "nftables generation": ruleset.decode_generation,
    "nftables object": lambda data: str(strangers.decode_object(data)),
    "nftables flowtable": lambda data: str(strangers.decode_flowtable(data)),
    "nftables chain of a rule": strangers.is_bound,
    "nftables owner": lambda data: [strangers.ownership(family, data) for family in FAMILIES],
    "nftables elements": lambda data: [
        all_of(codec.decode_elements(family, set_id, data)) for family, set_id in SETS
    ],
    "ipvs family": netlink.decode_family,
    "ipvs server": netlink.decode_server,
    "ipvs real server": lambda data: [netlink.decode_real(data, of) for of in FAMILIES],
    "links and their settings": lambda data: [
        str(rtnetlink.link(one, {}, ())) for one in rtnetlink.raw_links([(16, data)])
    ],
    "addresses of links": lambda data: all_of(rtnetlink.held_addresses([(20, data)], 0)),
    "routes": lambda data: all_of(rtnetlink.routes(data, {})),
    "the route of a packet": lambda data: rtnetlink.match(data, {}),
    "flows and their states": lambda data: [tracked(of, data) for of in FAMILIES],
    "ipset revision": ipset_messages.decode_revision,
    "ipset name": ipset_messages.decode_name,
    "ipset": ipset_messages.decode_set,
    "flow": lambda data: [flows.decode(of, data) for of in FAMILIES],
    "flow's destination": lambda data: [flows.sent_to(of, data) for of in FAMILIES],
    "addresses": lambda data: [node._address(body) for _, _, body in node._messages(data)],
    "links": lambda data: [
        (node._link(body), node._index(body)) for _, _, body in node._messages(data)
    ],
    "ipvs addresses": links.decode,
    "packet": traced,
    "rule that a packet met": lambda data: [rules.rule_at(data, of) for of in FAMILIES],
    "nftables expression": expression_parts,
}


def told(parse: Parse, data: bytes) -> None:
    """Read it, or be told that it cannot be read."""
    try:
        parse(data)
    except KernelFault:
        return


def messages() -> Iterator[bytes]:
    """What a kernel says, or what is said to one, which looks alike."""
    for layout in (layouts()[0], layouts()[-1]):
        family = layout.family
        yield ruleset.new_table(family).body
        yield from (ruleset.new_set(family, spec).body for spec in set_specs(family))
        numbered = (layout.numbered_chain(name) for name in NUMBERED)
        for chain in (*layout.base_chains(), *filter(None, numbered)):
            yield ruleset.new_chain(family, chain).body
            yield from (message.body for message in ruleset.new_rules(family, chain))
    address, port = wire.attr(3, ADDRESSES[0]), wire.attr(4, b"\0\x50")
    family_and_protocol = wire.u16(1, 2) + wire.u16(2, 6)
    server = family_and_protocol + address + port + wire.text(6, "rr") + wire.attr(7, bytes(8))
    yield wire.nested(1, server, wire.u32(8, 300), wire.nested(10, wire.u32(1, 7)))
    yield wire.nested(2, wire.attr(1, ADDRESSES[1]), wire.attr(2, b"\0\x50"), wire.u16(11, 10))
    yield wire.u16(1, 27) + wire.text(2, "IPVS")
    inside = wire.nested(1, wire.attr(1 | wire.NLA_F_NET_BYTEORDER, ADDRESSES[0]))
    element = wire.nested(
        7, inside, wire.attr(4, b"\0\x50"), wire.attr(7, b"\6"), wire.attr(21, b"\x18")
    )
    named = wire.text(2, "KUBE-CLUSTER-IP") + wire.text(3, "hash:ip,port") + wire.attr(5, b"\2")
    yield wire.attr(1, b"\6") + wire.attr(4, b"\6") + named + wire.nested(7, wire.be32(18, 1024))
    yield wire.attr(1, b"\6") + named + wire.nested(8, element, element)
    ends = wire.nested(1, wire.attr(1, ADDRESSES[0]), wire.attr(2, ADDRESSES[0]))
    ports = wire.nested(2, wire.attr(1, b"\x11"), wire.attr(2, b"\0\x35"), wire.attr(3, b"\0\x35"))
    yield wire.nested(1, ends, ports) + wire.nested(2, ends, ports) + wire.be32(12, 7)
    traced_packet = telling.message(
        network=telling.ipv4(telling.CLIENT, telling.VIP), transport=telling.segment(4242, 80)
    )
    yield traced_packet[wire.HEADER_SIZE + wire.OPENING_SIZE :]
    opened = struct.pack("=BBBBI", 2, 24, 0, 0, 1)
    yield opened + wire.attr(1, ADDRESSES[0]) + wire.attr(2, ADDRESSES[0])
    bridge = wire.nested(18, wire.text(1, "bridge"), wire.nested(2, wire.attr(36, b"\1")))
    settings = wire.nested(26, wire.nested(2, wire.attr(1, bytes(128))))
    yield struct.pack("=BxHiII", 0, 1, 3, 1, 0) + wire.text(3, "cni0") + bridge + settings
    nexthop = struct.pack("=HBBi", 16, 0, 0, 3) + wire.attr(5, ADDRESSES[0])
    route = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 3, 0, 1, 0) + wire.attr(1, ADDRESSES[0])
    yield route + wire.attr(9, nexthop) + wire.u32(15, 254)


GOOD = list(messages())


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Something like what a kernel says: cut short, with other bytes in it, or as it is."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def framed(kind: int, flags: int, payload: bytes, size: int) -> bytes:
    """A message whose header may lie about its size."""
    head = wire.HEADER.pack(size, kind, flags, 1, 0)
    return head + payload


_kinds = st.sampled_from([2, 3, 16, 20, 0xA00, 0xA06, 0xA0C, 0xA0F, events.MESSAGE]) | st.integers(
    0, 0xFFFF
)
_datagrams = st.lists(
    st.builds(
        lambda kind, flags, payload, lie: framed(
            kind, flags, payload, max(0, 16 + len(payload) + lie)
        ),
        _kinds,
        st.integers(0, 0xFFFF),
        st.binary(max_size=40) | spoiled(),
        st.sampled_from([0, 0, 0, -1, 1, -16, -40, 4, 1 << 20]),
    ),
    max_size=4,
).map(b"".join)


@pytest.mark.parametrize("parser", PARSERS)
@effort(100)
@given(data=st.binary(max_size=80) | spoiled() | _datagrams)
def test_whatever_a_kernel_says(parser: str, data: bytes) -> None:
    told(PARSERS[parser], data)


@pytest.mark.parametrize("parser", PARSERS)
def test_whatever_is_cut_short(parser: str) -> None:
    for message in GOOD:
        for length in range(0, len(message), 1 if len(message) < 200 else 7):
            told(PARSERS[parser], message[:length])


@effort(100)
@given(_datagrams)
def test_what_is_no_whole_message_is_no_answer(datagram: bytes) -> None:
    """An acknowledgement of which a part is missing must not be taken for one."""
    size = 0
    for answer in wire.replies(datagram):
        size += wire.HEADER_SIZE + len(answer.payload)
        assert size <= len(datagram)


def test_an_acknowledgement_that_was_cut_short_is_none() -> None:
    whole = framed(wire.NLMSG_ERROR, 0, bytes(4), 20)
    assert [answer.error for answer in wire.replies(whole)] == [0]
    assert [list(wire.replies(whole[:length])) for length in range(20)] == [[]] * 20
