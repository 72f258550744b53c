"""Does IPVS hear what we mean, and do we read what it says?"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.addresses import unpack
from endpoints.names import Family, Protocol
from modes import wire
from modes.ipvs import netlink as nl
from modes.ipvs.servers import (
    HASHED,
    ONE_PACKET,
    PERSISTENT,
    SCHEDULER_1,
    SCHEDULER_2,
    Command,
    FoundReal,
    RealServer,
    ServerKey,
    Traffic,
    Verb,
    VirtualServer,
)

V4, V6 = Family.IPV4, Family.IPV6
WEB = ServerKey(V4, Protocol.TCP, "10.96.7.7", 80)
DNS = ServerKey(V6, Protocol.UDP, "fd00:10:96::a", 53)
MARKED = ServerKey(V4, mark=0x4B000001)
POD = RealServer("10.244.1.2", 8080)


def address(family: Family) -> st.SearchStrategy[str]:
    size = 4 if family is V4 else 16
    return st.binary(min_size=size, max_size=size).map(unpack)


families = st.sampled_from(Family)
ports = st.integers(0, 65535)
protocols = st.sampled_from(Protocol)
keys = families.flatmap(
    lambda family: st.one_of(
        st.builds(ServerKey, st.just(family), protocols, address(family), ports),
        st.builds(ServerKey, st.just(family), mark=st.integers(1, 0xFFFFFFFF)),
    )
)
flags = st.sets(st.sampled_from([SCHEDULER_1, SCHEDULER_2])).map(sum)
servers = st.one_of(
    st.builds(VirtualServer, st.sampled_from(["rr", "wlc", "mh"]), flags),
    st.builds(
        VirtualServer, st.just("sh"), flags.map(PERSISTENT.__or__), st.integers(1, 31 * 86400)
    ),
)
reals = families.flatmap(lambda family: st.builds(RealServer, address(family), ports))


def told(command: Command) -> bytes:
    """The attributes of a command, which are those of an answer."""
    payload = nl.encode(command)
    assert payload[: wire.OPENING_SIZE] == bytes([command.verb, 1, 0, 0])
    return payload[wire.OPENING_SIZE :]


@given(st.sampled_from([Verb.NEW_SERVER, Verb.SET_SERVER]), keys, servers)
def test_a_virtual_server_comes_back_as_it_was_told(
    verb: Verb, key: ServerKey, server: VirtualServer
) -> None:
    assert nl.decode_server(told(Command(verb, key, server))) == (key, server, Traffic())


@given(
    st.sampled_from([Verb.NEW_REAL, Verb.SET_REAL]),
    keys,
    reals,
    st.integers(0, 0x7FFFFFFF),
    families,
)
def test_a_real_server_comes_back_as_it_was_told(
    verb: Verb, key: ServerKey, real: RealServer, weight: int, family: Family
) -> None:
    """Also one of another family than its virtual server's."""
    payload = told(Command(verb, key, None, real, weight))
    assert nl.decode_real(payload, family) == (real, FoundReal(weight))


@given(keys)
def test_to_delete_a_virtual_server_its_key_is_enough(key: ServerKey) -> None:
    [(kind, service)] = wire.attributes(told(Command(Verb.DELETE_SERVER, key)))
    made = dict(wire.attributes(told(Command(Verb.NEW_SERVER, key, VirtualServer()))))[kind]
    assert made.startswith(service)
    assert len(dict(wire.attributes(service))) == (2 if key.mark else 4)


def test_to_delete_a_real_server_its_address_is_enough() -> None:
    payload = told(Command(Verb.DELETE_REAL, WEB, None, POD))
    _, (_, real) = wire.attributes(payload)
    assert len(list(wire.attributes(real))) == 3


def test_the_bytes_are_those_that_ipvsadm_sends() -> None:
    """`ipvsadm -A -t 10.96.7.7:80 -s rr -p 360`, but for the order of attributes."""
    server = VirtualServer("rr", PERSISTENT, 360)
    [(kind, service)] = wire.attributes(told(Command(Verb.NEW_SERVER, WEB, server)))
    assert kind == 1
    assert dict(wire.attributes(service)) == {
        1: struct.pack("=H", 2),
        2: struct.pack("=H", 6),
        3: bytes([10, 96, 7, 7]),
        4: bytes([0, 80]),
        6: b"rr\0",
        7: struct.pack("=II", PERSISTENT, 0xFFFFFFFF),
        8: struct.pack("=I", 360),
        9: bytes([255] * 4),
    }


def test_of_ipv6_the_netmask_is_a_length() -> None:
    [(_, service)] = wire.attributes(told(Command(Verb.NEW_SERVER, DNS, VirtualServer())))
    assert dict(wire.attributes(service))[9] == struct.pack("=I", 128)


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (Command(Verb.NEW_SERVER, WEB), "NEW_SERVER TCP 10.96.7.7:80 has no virtual server"),
        (Command(Verb.SET_REAL, MARKED), "SET_REAL mark 0x4b000001 (IPv4) has no real server"),
    ],
)
def test_half_a_command_is_refused(command: Command, missing: str) -> None:
    with pytest.raises(ValueError, match="has no") as refused:
        nl.encode(command)
    assert str(refused.value) == missing


def service(*attributes: bytes) -> bytes:
    return wire.nested(1, *attributes)


IN_ANSWERS = (
    wire.u16(1, 2)
    + wire.u16(2, 6)
    + wire.attr(3, bytes([10, 96, 7, 7]) + bytes(12))
    + wire.attr(4, bytes([0, 80]))
)
SCHEDULER = wire.text(6, "rr")


def flagged(value: int) -> bytes:
    return wire.attr(7, struct.pack("=II", value, 0xFFFFFFFF))


def test_addresses_in_answers_are_sixteen_bytes_long_whatever_they_are() -> None:
    found = nl.decode_server(service(IN_ANSWERS, SCHEDULER, flagged(HASHED)))
    assert found == (WEB, VirtualServer("rr"), Traffic())


def test_of_foreign_servers_all_flags_but_the_kernels_own_are_told() -> None:
    """And a module that knows connections by more than addresses is no obstacle."""
    engine = wire.text(11, "sip")
    found = nl.decode_server(service(IN_ANSWERS, SCHEDULER, engine, flagged(HASHED | ONE_PACKET)))
    assert found is not None
    assert found.server == VirtualServer("rr", ONE_PACKET)


def test_a_timeout_without_persistence_means_nothing() -> None:
    found = nl.decode_server(service(IN_ANSWERS, SCHEDULER, flagged(HASHED), wire.u32(8, 300)))
    assert found is not None
    assert found.server == VirtualServer("rr")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        service(),
        service(IN_ANSWERS),
        service(IN_ANSWERS[8:], SCHEDULER, flagged(0)),
        service(wire.u16(1, 2), wire.u16(2, 50), IN_ANSWERS[16:], SCHEDULER, flagged(0)),
        service(wire.u16(1, 99), IN_ANSWERS[8:], SCHEDULER, flagged(0)),
    ],
    ids=["nothing", "empty", "no scheduler", "no family", "protocol ESP", "family 99"],
)
def test_a_server_that_we_have_no_name_for_is_none(payload: bytes) -> None:
    assert nl.decode_server(payload) is None


def counters(kind: int, *values: bytes) -> bytes:
    return wire.nested(kind, *(wire.attr(1 + place, value) for place, value in enumerate(values)))


NARROW = [struct.pack("=I", 1), struct.pack("=I", 2), struct.pack("=I", 3)]
NARROW += [struct.pack("=Q", 4), struct.pack("=Q", 5)]
WIDE = [struct.pack("=Q", 1 << 40 | number) for number in range(1, 6)]


def test_counters_are_those_of_64_bits_where_there_are_any() -> None:
    known = IN_ANSWERS + SCHEDULER + flagged(0)
    old = nl.decode_server(service(known, counters(10, *NARROW)))
    new = nl.decode_server(service(known, counters(10, *NARROW), counters(12, *WIDE)))
    assert old is not None
    assert old.traffic == Traffic(1, 2, 3, 4, 5)
    assert new is not None
    assert new.traffic == Traffic(*(1 << 40 | number for number in range(1, 6)))


@pytest.mark.parametrize(
    ("told", "method"), [(3, 3), (2, 2), (0x100, 0)], ids=["routing", "tunnel", "translation"]
)
def test_other_ways_to_forward_can_be_read(told: int, method: int) -> None:
    """Flags of connections that share the attribute are no part of the method."""
    real = wire.nested(
        2,
        wire.attr(1, bytes([10, 244, 1, 2]) + bytes(12)),
        wire.attr(2, (8080).to_bytes(2, "big")),
        wire.u32(3, told),
        wire.u32(4, 3),
        wire.u32(7, 5),
        wire.u32(8, 6),
        counters(12, *WIDE),
    )
    traffic = Traffic(*(1 << 40 | number for number in range(1, 6)))
    assert nl.decode_real(real, V4) == (POD, FoundReal(3, 5, 6, method, traffic))


def test_a_real_server_without_an_address_is_none() -> None:
    assert nl.decode_real(b"", V4) is None
    assert nl.decode_real(wire.nested(2, wire.u32(4, 1)), V4) is None


def test_timeouts_name_all_three() -> None:
    payload = nl.set_timeouts(900, 0, 300)
    assert payload[:4] == bytes([12, 1, 0, 0])
    wanted = {4: struct.pack("=I", 900), 5: bytes(4), 6: struct.pack("=I", 300)}
    assert dict(wire.attributes(payload[4:])) == wanted


def test_the_family_is_asked_for_by_name() -> None:
    assert nl.get_family() == bytes([3, 1, 0, 0]) + wire.text(2, "IPVS")
    assert nl.decode_family(wire.text(2, "IPVS") + wire.u16(1, 33)) == 33
