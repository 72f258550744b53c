"""Is what the kernel tells of a packet read as it is meant?"""

from __future__ import annotations

import pytest

from modes.tracing.events import Ends, Kind, decode
from tests.unit.modes.tracing.telling import (
    CLIENT,
    RESET,
    TABLE,
    TCP,
    UDP,
    VIP,
    ipv4,
    ipv6,
    message,
    segment,
)


def test_a_rule_and_the_packet_that_it_matched() -> None:
    told = message(network=ipv4(CLIENT, VIP), transport=segment(4242, 80))
    (event,) = decode(told)
    assert (event.packet, event.kind, event.family, event.table) == (7, Kind.RULE, "ip", TABLE)
    assert (event.chain, event.handle, event.verdict) == ("prerouting-early", 12, "continue")
    assert event.header is not None
    assert event.header.ends == Ends(TCP, CLIENT, 4242, VIP, 80)
    assert (event.header.tcp_flags, event.arrived_by, event.leaves_by) == (2, 3, 0)


def test_ipv6_and_a_reset() -> None:
    told = message(family=10, network=ipv6("fd00::1", "fd00::2"), transport=segment(1, 2, RESET))
    (event,) = decode(told)
    assert event.header is not None
    assert event.header.ends == Ends(TCP, "fd00::1", 1, "fd00::2", 2)
    assert (event.family, event.header.tcp_flags) == ("ip6", RESET)


def test_datagrams_have_ports_and_no_flags() -> None:
    (event,) = decode(message(network=ipv4(CLIENT, VIP, UDP), transport=b"\0\x35\0\x35" + bytes(4)))
    assert event.header is not None
    assert (event.header.ends.source_port, event.header.tcp_flags) == (53, 0)


@pytest.mark.parametrize(("protocol", "make"), [(1, ipv4), (58, ipv6)])
def test_icmp_has_a_type_and_no_ports(protocol: int, make: object) -> None:
    network = ipv4(CLIENT, VIP, 1) if make is ipv4 else ipv6("fd00::1", "fd00::2", 58)
    (event,) = decode(message(network=network, transport=bytes((3, 4)) + bytes(18)))
    assert event.header is not None
    assert event.header.icmp == (3, 4)
    assert event.header.ends.protocol == protocol
    assert event.header.ends.destination_port == 0


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "drop"), (1, "accept"), (-1, "continue"), (-5, "return")]
)
def test_verdicts(code: int, verdict: str) -> None:
    (event,) = decode(message(verdict=code))
    assert event.verdict == verdict


@pytest.mark.parametrize(("policy", "verdict"), [(0, "drop"), (1, "accept")])
def test_policies(policy: int, verdict: str) -> None:
    (event,) = decode(message(kind=1, verdict=policy))
    assert (event.kind, event.verdict) == (Kind.POLICY, verdict)


def test_a_packet_without_its_beginning_has_no_header() -> None:
    (event,) = decode(message(network=ipv4(CLIENT, VIP)[:19]))
    assert event.header is None
    (event,) = decode(message(network=ipv4(CLIENT, VIP), transport=b"\0"))
    assert event.header is not None
    assert event.header.ends.source_port == 0


def test_what_is_no_trace_is_passed_over() -> None:
    assert list(decode(message(kind=9))) == []
    assert list(decode(message().replace(message()[4:6], b"\x06\x0a", 1))) == []
    assert len(list(decode(message() + message(packet=8)))) == 2
