"""What is an address, and which bytes does it stand for? Pure.

Addresses travel through the program as canonical text: readable in a `repr`, interned by the
dictionaries they are keys of, and free to compare. Bytes are made once, where a mode renders.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from endpoints.names import Family

_OCTET = {str(number): number for number in range(256)}.__getitem__
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def canonical(text: str) -> str:
    """The canonical text of an IPv4 or IPv6 address.

    Raises ValueError for anything else, also for IPv4 octets with leading zeros, which other
    programs read as octal numbers, and for zone-scoped IPv6 addresses.
    """
    if ":" not in text:
        try:
            same = unpack(pack(text)) == text
        except ValueError:
            same = False
        if not same:
            raise ValueError(f"{text!r} is not an IP address")
        return text
    address = ipaddress.IPv6Address(text)
    if address.scope_id is not None:
        raise ValueError(f"{text!r} has a zone")
    return str(address)


def pack(text: str) -> bytes:
    """The 4 or 16 bytes, in network order, of an address in canonical form.

    Of anything else only `canonical` knows whether it is an address; ValueError may be raised.
    """
    if ":" in text:
        return ipaddress.IPv6Address(text).packed
    try:
        return bytes(map(_OCTET, text.split(".")))
    except KeyError as octet:
        raise ValueError(f"{text!r} is not an IP address: {octet}") from None


def unpack(packed: bytes) -> str:
    """The canonical text of 4 or 16 bytes in network order. Raises ValueError for others."""
    if len(packed) == 4:  # noqa: PLR2004 (octets)
        return "{}.{}.{}.{}".format(*packed)
    return str(ipaddress.IPv6Address(packed))


def family(text: str) -> Family:
    """The family of an address, or of a network in CIDR form, that is already known to be one."""
    return Family.IPV6 if ":" in text else Family.IPV4


def bracketed(text: str) -> str:
    """The address as it stands before a colon and a port: `10.96.7.7`, `[fd00:10:96::7]`."""
    return f"[{text}]" if ":" in text else text


@lru_cache(maxsize=65536)
def network(text: str) -> Network:
    """A network in CIDR form; host bits are allowed, as kube-proxy allows them.

    Raises ValueError if the text is none.
    """
    return ipaddress.ip_network(text.strip(), strict=False)


def contains(cidr: str, address: str) -> bool:
    """Whether the network holds the address; families that differ never match."""
    return ipaddress.ip_address(address) in network(cidr)
