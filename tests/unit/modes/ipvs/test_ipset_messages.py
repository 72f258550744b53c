"""Does ipset hear what we mean, and do we read what it says?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.addresses import network, unpack
from endpoints.names import Family, Protocol
from modes import wire
from modes.ipvs import ipset_messages as ip
from modes.ipvs.ipsets import (
    PLAIN,
    Element,
    Entry,
    Extra,
    Kind,
    SetChange,
    SetName,
    SetSpec,
    SetVerb,
    Type,
    at,
    spec,
)

V4, V6 = Family.IPV4, Family.IPV6
NET = wire.NLA_F_NET_BYTEORDER
SERVERS = SetName(Kind.VIRTUAL_SERVERS, V4)
WEB = at("10.96.7.7", 80, Protocol.TCP)


def address(family: Family) -> st.SearchStrategy[str]:
    size = 4 if family is V4 else 16
    return st.binary(min_size=size, max_size=size).map(unpack)


def cidr(family: Family) -> st.SearchStrategy[str]:
    longest = 32 if family is V4 else 128
    pair = st.tuples(address(family), st.integers(1, longest))
    return pair.map(lambda told: str(network(f"{told[0]}/{told[1]}")))


def elements(family: Family) -> st.SearchStrategy[Element]:
    addresses, ports = address(family), st.integers(0, 65535)
    protocols = st.sampled_from(Protocol)
    return st.one_of(
        st.builds(Element, addresses),
        st.builds(at, addresses, ports, protocols),
        st.builds(at, addresses, ports, protocols, addresses),
        st.builds(at, addresses, ports, protocols, cidr(family)),
        st.builds(Element, port=ports),
    )


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
extras = st.builds(Extra, texts, st.integers(0, 0xFFFFFFFF), st.integers(0, 4_294_967))
entries = st.sampled_from(Family).flatmap(elements)


def data(payload: bytes) -> bytes:
    """The nested attributes of a message about one element or of CREATE."""
    assert payload[:4] == bytes(4)
    return dict(wire.attributes(payload, 4))[7]


def listed(*inside: bytes, header: bytes = b"") -> bytes:
    """An answer of LIST."""
    named = wire.text(2, "KUBE-CLUSTER-IP")
    return named + header + wire.nested(8, *(wire.nested(7, part) for part in inside))


@given(entries, extras)
def test_an_element_comes_back_as_it_was_told(element: Element, extra: Extra) -> None:
    verb, payload = ip.element(SetVerb.ADD, "KUBE-CLUSTER-IP", element, extra)
    assert verb == ip.ADD
    found = ip.decode_set(listed(data(payload)))
    assert found == ("KUBE-CLUSTER-IP", None, False, {element: extra})


def test_the_bytes_of_an_element_are_those_of_the_kernel() -> None:
    """`ipset add KUBE-LOCAL-BYPASS 10.96.7.7,tcp:80 skbmark 0x4b000001 comment a/b`."""
    entry = Entry(SetName(Kind.LOCAL_BYPASS, V4), WEB)
    verb, payload = ip.change(SetChange(SetVerb.ADD, entry, Extra("a/b", 0x4B000001)))
    assert verb == 9
    named = wire.attr(1, b"\x06") + wire.text(2, "KUBE-LOCAL-BYPASS")
    inside = (
        wire.nested(1, wire.attr(1 | NET, bytes([10, 96, 7, 7]))),
        wire.attr(7, b"\x06"),
        wire.attr(4 | NET, bytes([0, 80])),
        wire.text(26, "a/b"),
        wire.attr(27 | NET, bytes.fromhex("4b000001ffffffff")),
    )
    assert payload == bytes(4) + named + wire.nested(7, *inside)


def test_a_network_is_an_address_and_a_length() -> None:
    element = at("fd00::1", 80, Protocol.TCP, "fd00:1::/32")
    found = dict(wire.attributes(data(ip.element(SetVerb.ADD, "S", element)[1])))
    assert found[21] == bytes([32])
    assert list(wire.attributes(found[20])) == [(2, bytes.fromhex("fd000001" + "00" * 12))]


def test_to_delete_an_element_says_nothing_of_what_it_carries() -> None:
    told = SetChange(SetVerb.DELETE, Entry(SERVERS, WEB), Extra("shop/web", 1, 2))
    plain = SetChange(SetVerb.DELETE, Entry(SERVERS, WEB))
    assert ip.change(told) == ip.change(plain)
    assert ip.change(told)[0] == ip.DEL == 10


def answered_header(payload: bytes) -> bytes:
    """What CREATE said, as LIST says it: with what the kernel counts besides."""
    told = dict(wire.attributes(payload, 4))
    counted = wire.be32(25 | NET, 3) + wire.be32(26 | NET, 999) + wire.attr(17 | NET, bytes(4))
    kept = b"".join(wire.attr(kind, told[kind]) for kind in (3, 5, 4))
    return kept + wire.nested(7, told[7], counted)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("family", Family)
def test_a_set_comes_back_as_it_was_made(kind: Kind, family: Family) -> None:
    name = SetName(kind, family)
    made = ip.create(str(name), spec(name, 5000), 7)
    assert dict(wire.attributes(made, 4))[4] == b"\x07"
    found = ip.decode_set(listed(header=answered_header(made)))
    assert found.spec == spec(name, 5000)
    assert found.has_header
    assert found.elements == {}


def test_the_bytes_of_a_hash_are_those_of_the_kernel() -> None:
    """`ipset create KUBE-DRAINING hash:ip,port,ip hashsize 1024 maxelem 4194304 timeout 0`."""
    name = SetName(Kind.DRAINING, V4)
    payload = ip.create(str(name), spec(name), 5)
    assert dict(wire.attributes(payload, 4)) == {
        1: b"\x06",
        2: b"KUBE-DRAINING\0",
        3: b"hash:ip,port,ip\0",
        4: b"\x05",
        5: b"\x02",
        7: wire.be32(6 | NET, 0) + wire.be32(18 | NET, 1024) + wire.be32(19 | NET, 1 << 22),
    }


def header(of: str, *options: bytes, family: int = 2) -> bytes:
    named = wire.text(3, of) + wire.attr(5, bytes([family])) + wire.attr(4, b"\x05")
    return named + wire.nested(7, wire.be32(18 | NET, 1024), wire.be32(19 | NET, 9), *options)


def ports(first: int, last: int) -> list[bytes]:
    ends = (4 | NET, first), (5 | NET, last)
    return [wire.attr(kind, port.to_bytes(2, "big")) for kind, port in ends]


@pytest.mark.parametrize(
    "foreign",
    [
        header("hash:net"),
        header("list:set", family=0),
        header("hash:ip,port", wire.be32(8 | NET, 1 << 3)),
        header("hash:ip,port", wire.be32(6 | NET, 600)),
        header("hash:ip", wire.attr(20, b"\x18")),
        header("hash:ip", wire.nested(12, b"")),
        header("bitmap:port", *ports(1024, 65535), family=0),
        header("bitmap:port", *ports(0, 1023), family=0),
    ],
    ids=[
        "net",
        "list",
        "counters",
        "a timeout",
        "a netmask",
        "a bitmask",
        "high ports",
        "low ports",
    ],
)
def test_a_set_unlike_ours_has_no_spec(foreign: bytes) -> None:
    found = ip.decode_set(listed(header=foreign))
    assert found.has_header
    assert found.spec is None


def test_what_ipset_itself_chooses_makes_no_set_foreign() -> None:
    found = ip.decode_set(listed(header=header("hash:ip", wire.attr(21, b"\x0c"))))
    assert found.spec == SetSpec(Type.IP, V4, 1024, 9)


INSIDE = data(ip.element(SetVerb.ADD, "S", WEB)[1])


@pytest.mark.parametrize(
    "foreign",
    [
        INSIDE + wire.attr(7, b"\x01"),
        INSIDE + wire.attr(3, b"\x18"),
        INSIDE + wire.be32(8 | NET, 1 << 2),
        INSIDE + wire.be64(27 | NET, 0x1_0000_00FF),
        INSIDE + wire.be32(28 | NET, 1),
    ],
    ids=["icmp", "a range", "nomatch", "some bits of a mark", "a priority"],
)
def test_one_element_unlike_ours_leaves_the_others_unread(foreign: bytes) -> None:
    assert ip.decode_set(listed(INSIDE)).elements == {WEB: PLAIN}
    assert ip.decode_set(listed(INSIDE, foreign)).elements is None


def test_what_aligns_a_mark_is_no_part_of_an_element() -> None:
    """As user-mode Linux 6.1 answers."""
    aligned = INSIDE + wire.attr(30, b"") + wire.be64(27 | NET, 0x4B000001_FFFFFFFF)
    assert ip.decode_set(listed(aligned)).elements == {WEB: Extra(mark=0x4B000001)}


def test_revisions_and_names_are_asked_for() -> None:
    asked = dict(wire.attributes(ip.get_type(Type.IP_PORT, V6), 4))
    assert asked == {1: b"\x06", 3: b"hash:ip,port\0", 5: b"\x0a"}
    assert dict(wire.attributes(ip.get_type(Type.PORT, None), 4))[5] == b"\0"
    assert ip.decode_revision(wire.attr(4, b"\x07") + wire.attr(10, b"\0")) == 7
    assert dict(wire.attributes(ip.list_names(), 4)) == {1: b"\x06", 6: bytes([0, 0, 0, 2])}
    assert ip.decode_name(ip.named("KUBE-LOOP-BACK")[4:]) == "KUBE-LOOP-BACK"


def test_two_sets_change_places_by_name() -> None:
    assert dict(wire.attributes(ip.pair("A", "B"), 4)) == {1: b"\x06", 2: b"A\0", 3: b"B\0"}


def test_errors_of_ipset_are_said_in_words() -> None:
    assert ip.spelled(4100) == "the set is in use by rules (ipset error 4100)"
    assert ip.spelled(4999) == "refused by ipset (ipset error 4999)"
    assert ip.spelled(17) is None
