"""On which of the node's addresses do NodePorts answer?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from endpoints.node import Loopback, NodePortAddresses
from endpoints.nodeports import primary_address, resolve, selectors
from tests.unit.endpoints.build import NODE_ADDRESSES, node

LOCAL = NODE_ADDRESSES | {"172.16.0.11", "127.0.0.53"}
PRIMARY = {Family.IPV4: "192.168.0.11", Family.IPV6: "fd00:192:168::11"}
EVERY = NodePortAddresses(match_all=True)
EVERY_AND_LOOPBACK = NodePortAddresses(match_all=True, addresses=("127.0.0.1",))


def only(*addresses: str) -> NodePortAddresses:
    return NodePortAddresses(addresses=addresses)


# selectors -> in IPv4, in IPv6
TABLE: list[tuple[tuple[str, ...], NodePortAddresses, NodePortAddresses]] = [
    ((), EVERY, EVERY),
    (("all",), EVERY, EVERY),
    (("0.0.0.0/0", "::/0"), EVERY, EVERY),
    (("primary",), only("192.168.0.11"), only("fd00:192:168::11")),
    (("localhost",), only("127.0.0.1"), only()),
    (("primary", "localhost"), only("127.0.0.1", "192.168.0.11"), only("fd00:192:168::11")),
    (("all", "localhost"), EVERY_AND_LOOPBACK, EVERY),
    (("all", "172.16.0.0/16"), EVERY, EVERY),
    # CIDRs of one family say nothing of the other: all of its addresses.
    (("172.16.0.0/16",), only("172.16.0.11"), EVERY),
    (("fd00:192:168::/64",), EVERY, only("fd00:192:168::11")),
    (("172.16.0.0/16", "primary"), only("172.16.0.11", "192.168.0.11"), only("fd00:192:168::11")),
    (("172.16.0.0/16", "localhost"), only("127.0.0.1", "172.16.0.11"), only()),
    (("172.16.0.0/16", "192.168.0.0/24", "::/0"), only("172.16.0.11", "192.168.0.11"), EVERY),
    # A zero CIDR makes the rest moot, and is not by itself a wish for loopback.
    (("172.16.0.0/16", "0.0.0.0/0"), EVERY, EVERY),
    (("0.0.0.0/0", "localhost"), EVERY_AND_LOOPBACK, only()),
    # A range of loopback addresses is one, but only for 127.0.0.1.
    (("127.0.0.0/8",), only("127.0.0.1"), EVERY),
    (("127.0.0.53/32",), only(), EVERY),
    (("127.0.0.0/8", "0.0.0.0/0"), EVERY_AND_LOOPBACK, EVERY),
    # A wider range is not.
    (("0.0.0.0/1",), only("10.244.1.1"), EVERY),
    # IPv6 loopback: never.
    (("::1/128",), EVERY, only()),
    # An address that the node does not have.
    (("203.0.113.0/24",), only(), EVERY),
]


@pytest.mark.parametrize(("chosen", "v4", "v6"), TABLE)
def test_resolve(chosen: tuple[str, ...], v4: NodePortAddresses, v6: NodePortAddresses) -> None:
    assert resolve(chosen, Family.IPV4, LOCAL, PRIMARY[Family.IPV4]) == v4
    assert resolve(chosen, Family.IPV6, LOCAL, PRIMARY[Family.IPV6]) == v6


LOOPBACK_V4 = only("127.0.0.1")

# selectors -> in IPv4, where loopback is served in every range that holds it, and where never
LOOPBACK: list[tuple[tuple[str, ...], NodePortAddresses, NodePortAddresses]] = [
    ((), EVERY_AND_LOOPBACK, EVERY),
    (("all",), EVERY_AND_LOOPBACK, EVERY),
    (("all", "localhost"), EVERY_AND_LOOPBACK, EVERY),
    (("0.0.0.0/0", "::/0"), EVERY_AND_LOOPBACK, EVERY),
    (("0.0.0.0/1",), only("10.244.1.1", "127.0.0.1"), only("10.244.1.1")),
    (("127.0.0.0/8",), LOOPBACK_V4, only()),
    (("127.0.0.53/32",), only(), only()),
    (("localhost",), LOOPBACK_V4, only()),
    (("fd00:192:168::/64",), EVERY_AND_LOOPBACK, EVERY),
    # What does not hold loopback does not serve it.
    (("primary",), only("192.168.0.11"), only("192.168.0.11")),
    (("172.16.0.0/16",), only("172.16.0.11"), only("172.16.0.11")),
    (("::/0", "primary"), only("192.168.0.11"), only("192.168.0.11")),
]


@pytest.mark.parametrize(("chosen", "in_range", "never"), LOOPBACK)
def test_loopback_as_the_iptables_mode_serves_it(
    chosen: tuple[str, ...], in_range: NodePortAddresses, never: NodePortAddresses
) -> None:
    def resolved(of: Family, loopback: Loopback) -> NodePortAddresses:
        return resolve(chosen, of, LOCAL, PRIMARY[of], loopback)

    assert resolved(Family.IPV4, Loopback.IN_RANGE) == in_range
    assert resolved(Family.IPV4, Loopback.NEVER) == never
    by_name = resolved(Family.IPV6, Loopback.BY_NAME)
    assert resolved(Family.IPV6, Loopback.IN_RANGE) == by_name
    assert resolved(Family.IPV6, Loopback.NEVER) == by_name


def test_primary_without_an_address_of_the_family_serves_nothing_of_it() -> None:
    assert resolve(("primary",), Family.IPV6, LOCAL, None) == only()


@pytest.mark.parametrize(
    "bad", ["192.168.0.11", "primry", "", "10.0.0.0/33", "all/8", "fd00::/129"]
)
def test_a_selector_that_is_none_is_named(bad: str) -> None:
    with pytest.raises(ValueError, match=f"nodePortAddresses: '{bad}'"):
        selectors(("primary", bad))


def test_selectors_are_made_canonical() -> None:
    assert selectors((" 192.168.0.11/24", "FD00::1/64", "all")) == (
        "192.168.0.0/24",
        "fd00::/64",
        "all",
    )


PODS = ("10.244.1.0/24", "fd00:10:244:1::/64")


def test_primary_is_the_first_internal_ip_that_is_local() -> None:
    of = node(internal=["192.168.9.9", "172.16.0.11", "192.168.0.11", "fd00:192:168::11"])
    assert primary_address(Family.IPV4, of, LOCAL, PODS) == "172.16.0.11"
    assert primary_address(Family.IPV6, of, LOCAL, PODS) == "fd00:192:168::11"


def test_without_a_node_primary_is_the_least_address_that_others_can_reach() -> None:
    local = {"127.0.0.1", "10.244.1.1", "169.254.20.10", "192.168.0.11", "172.16.0.11", "::1"}
    assert primary_address(Family.IPV4, None, local, PODS) == "172.16.0.11"
    assert primary_address(Family.IPV6, None, local, PODS) is None


def test_least_is_by_number_not_by_text() -> None:
    assert primary_address(Family.IPV4, None, {"10.0.0.10", "10.0.0.9"}, ()) == "10.0.0.9"
