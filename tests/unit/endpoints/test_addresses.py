"""Is an address one text and one row of bytes, whoever spells it?"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.addresses import are_hosts, canonical, pack, unpack
from endpoints.names import Family

_ADDRESSES = st.ip_addresses()
_MIXED = st.tuples(st.sampled_from(["::", "::ffff:", "64:ff9b::"]), st.ip_addresses(v=4)).map(
    lambda parts: ipaddress.IPv6Address(f"{parts[0]}{parts[1]}")
)
"""Some of these the C library writes with dots."""
_NEARLY = st.text(alphabet="0123456789abcdfF:.%x ", max_size=20) | st.text(max_size=8)


@given(_ADDRESSES | _MIXED)
def test_text_and_bytes_are_those_of_ipaddress(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert pack(str(address)) == pack(address.exploded) == address.packed
    assert unpack(address.packed) == str(address)
    assert canonical(address.exploded) == str(address)


@given(_NEARLY)
def test_what_ipaddress_refuses_is_refused_too(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
        assert "%" not in text
    except (ValueError, AssertionError):
        with pytest.raises(ValueError, match=r"is not an IP address|has a zone"):
            canonical(text)
    else:
        assert canonical(text) == str(expected)
        assert pack(text) == expected.packed


@pytest.mark.parametrize("length", [0, 1, 3, 5, 15, 17])
def test_other_lengths_are_no_address(length: int) -> None:
    with pytest.raises(ValueError, match="length"):
        unpack(bytes(length))


@pytest.mark.parametrize(
    "text", ["01.2.3.4", "1.2.3", "1.2.3.4 ", "1.2.3.4\0", "::1\0", "\udcff", "", "٣.1.1.1"]
)
def test_nearly_an_address_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        canonical(text)


def test_a_zone_is_told() -> None:
    with pytest.raises(ValueError, match=r"'fe80::1%eth0' has a zone"):
        canonical("fe80::1%eth0")


@given(st.lists((_ADDRESSES.map(str) | _NEARLY | st.just("1.1.1.1 2.2.2.2")), max_size=4))
def test_all_are_hosts_only_if_each_is(texts: list[str]) -> None:
    for of in Family:
        assert are_hosts(texts, of) == all(are_hosts([text], of) for text in texts)


@given(_ADDRESSES.map(str) | _NEARLY)
def test_a_host_is_canonical_and_no_group(text: str) -> None:
    for of in Family:
        if are_hosts([text], of):
            address = ipaddress.ip_address(text)
            assert str(address) == text
            assert f"IPv{address.version}" == of
            assert not address.is_multicast
            assert not address.is_unspecified


@pytest.mark.parametrize("text", ["1.2.3.4", "223.255.255.255", "fd00::1", "2001:db8::", "fe80::1"])
def test_what_endpoints_have_is_known_at_once(text: str) -> None:
    assert are_hosts([text, text], Family.IPV6 if ":" in text else Family.IPV4)
