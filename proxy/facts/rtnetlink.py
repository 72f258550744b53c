"""How does the kernel speak of links, addresses and routes? Pure.

rtnetlink(7), linux/if_link.h, linux/rtnetlink.h; integers of attributes are in host order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from endpoints.addresses import pack, unpack
from endpoints.names import Family
from modes.wire import ADDRESS_FAMILY, FAMILY_OF, attr, attributes, host_order, u32, words
from proxy.facts.facts import Link, Route

GET_LINK, GET_ADDRESS, GET_ROUTE = 18, 22, 26
_NEW_LINK, _NEW_ADDRESS, NEW_ROUTE = 16, 20, 24
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_IFF_UP = 1
_IFLA_NAME, _IFLA_MASTER, _IFLA_LINK_INFO, _IFLA_AF_SPEC = 3, 10, 18, 26
_IFLA_EXT_MASK, _IFLA_CARRIER = 29, 33
_SKIP_STATS = 1 << 3
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_BRIDGE_CALLS = {36: Family.IPV4, 37: Family.IPV6}  # IFLA_BR_NF_CALL_IPTABLES, _IP6TABLES
_PORT_HAIRPIN = 4  # IFLA_BRPORT_MODE
_VALUE = struct.Struct("=i")
_CONF = 1  # IFLA_INET_CONF, IFLA_INET6_CONF
# IPV4_DEVCONF_*: the kernel tells an array that begins with number 1; of IPv6 it begins with 0.
_FORWARDING, _RP_FILTER, _ROUTE_LOCALNET = 1, 8, 26
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY = 1, 2, 3, 4, 5
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 9, 15, 18
_RTNEXTHOP = struct.Struct("=HBBi")
_FIB_MATCH = 0x2000
"""RTM_F_FIB_MATCH: tell the route that matched, not just where this packet goes."""
_LOCAL = 2
_KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_BITS = {Family.IPV4: 32, Family.IPV6: 128}


class Match(NamedTuple):
    """The route that the kernel takes for a packet."""

    interface: str
    gateway: str
    network: str
    is_local: bool


class Held(NamedTuple):
    """An address, and the index of its link."""

    link: int
    address: str
    """`10.244.1.1/24`."""


def all_links() -> bytes:
    """What follows the header of GET_LINK, asked as a dump; without counters."""
    return bytes(_IFINFOMSG.size) + u32(_IFLA_EXT_MASK, _SKIP_STATS)


def all_addresses() -> bytes:
    """What follows the header of GET_ADDRESS, asked as a dump."""
    return bytes(_IFADDRMSG.size)


def all_routes(of: Family) -> bytes:
    """What follows the header of GET_ROUTE, asked as a dump."""
    return _RTMSG.pack(ADDRESS_FAMILY[of], *[0] * 8)


def route_of(of: Family, destination: str, source: str = "", arrival: int = 0) -> bytes:
    """What follows the header of GET_ROUTE, asked about one packet.

    `arrival`: the index of the link where it arrives; 0: this machine sends it. Then `source`, if
    one is given, must be an address of the machine.
    """
    lengths = (_BITS[of], _BITS[of] if source else 0)
    parts = [_RTMSG.pack(ADDRESS_FAMILY[of], *lengths, 0, 0, 0, 0, 0, _FIB_MATCH)]
    parts.append(attr(_RTA_DST, pack(destination)))
    if source:
        parts.append(attr(_RTA_SRC, pack(source)))
    if arrival:
        parts.append(u32(_RTA_IIF, arrival))
    return b"".join(parts)


def held_addresses(bodies: Iterable[tuple[int, bytes]], without: int) -> Iterator[Held]:
    """The addresses that messages tell of, but for those of one link."""
    for kind, body in bodies:
        if kind != _NEW_ADDRESS or len(body) < _IFADDRMSG.size:
            continue
        number, length, _, _, link = _IFADDRMSG.unpack_from(body)
        if link == without or number not in FAMILY_OF:
            continue
        told = dict(attributes(body, _IFADDRMSG.size))
        packed = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS) or b""
        if len(packed) * 8 == _BITS[FAMILY_OF[number]]:
            yield Held(link, f"{unpack(packed)}/{length}")


class RawLink(NamedTuple):
    """A link as one message tells of it; `master` is an index, and its addresses come later."""

    number: int
    """Its index."""
    master: int
    is_up: bool
    told: Mapping[int, bytes]

    @property
    def name(self) -> str:
        """Its name."""
        return words(self.told.get(_IFLA_NAME, b""))


def raw_links(bodies: Iterable[tuple[int, bytes]]) -> Iterator[RawLink]:
    """The links that messages tell of."""
    for kind, body in bodies:
        if kind == _NEW_LINK and len(body) >= _IFINFOMSG.size:
            _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
            told = dict(attributes(body, _IFINFOMSG.size))
            master = host_order(told.get(_IFLA_MASTER, b""))
            yield RawLink(index, master, bool(flags & _IFF_UP), told)


def link(raw: RawLink, names: Mapping[int, str], addresses: Iterable[str]) -> Link:
    """The value of a link; `names` of all links by their index."""
    about = dict(attributes(raw.told.get(_IFLA_LINK_INFO, b"")))
    kind = words(about.get(_INFO_KIND, b""))
    bridge = dict(attributes(about.get(_INFO_DATA, b""))) if kind == "bridge" else {}
    is_port = words(about.get(_INFO_SLAVE_KIND, b"")) == "bridge"
    port = dict(attributes(about.get(_INFO_SLAVE_DATA, b""))) if is_port else {}
    settings = _settings(raw.told.get(_IFLA_AF_SPEC, b""))
    forwards = {of: bool(values[0]) for of, values in settings.items() if values}
    ipv4 = settings.get(Family.IPV4, ())
    return Link(
        name=raw.name,
        index=raw.number,
        kind=kind,
        master=names.get(raw.master, ""),
        is_up=raw.is_up,
        has_carrier=raw.told.get(_IFLA_CARRIER, b"\1") != b"\0",
        addresses=tuple(addresses),
        forwards=forwards,
        rp_filter=_number(ipv4, _RP_FILTER),
        route_localnet=bool(_number(ipv4, _ROUTE_LOCALNET)),
        hairpin=any(port.get(_PORT_HAIRPIN, b"")),
        calls=frozenset(of for number, of in _BRIDGE_CALLS.items() if any(bridge.get(number, b""))),
    )


def _settings(spec: bytes) -> dict[Family, tuple[int, ...]]:
    """The values of net.ipv4.conf.NAME and net.ipv6.conf.NAME, in the order of their numbers."""
    found: dict[Family, tuple[int, ...]] = {}
    for number, told in attributes(spec):
        values = dict(attributes(told)).get(_CONF, b"")
        if number in FAMILY_OF and len(values) % _VALUE.size == 0:
            found[FAMILY_OF[number]] = tuple(value for (value,) in _VALUE.iter_unpack(values))
    return found


def _number(values: tuple[int, ...], number: int) -> int:
    return values[number - 1] if len(values) >= number else 0


def routes(body: bytes, names: Mapping[int, str]) -> Iterator[Route]:
    """The nexthops of the route that a message tells of; none of a local or multicast one."""
    if len(body) < _RTMSG.size:
        return
    number, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
    if number not in FAMILY_OF or kind not in _KINDS:
        return
    told = dict(attributes(body, _RTMSG.size))
    table = host_order(told.get(_RTA_TABLE, bytes((table,))))
    network = _network(FAMILY_OF[number], length, told)
    for interface, gateway in _nexthops(told, names):
        yield Route(network, interface, gateway, _KINDS[kind], table)


def match(body: bytes, names: Mapping[int, str]) -> Match | None:
    """The route that an answer to `route_of` tells of; of several nexthops the first.

    None: it tells of none.
    """
    if len(body) < _RTMSG.size or body[0] not in FAMILY_OF:
        return None
    number, length, _, _, _, _, _, kind, _ = _RTMSG.unpack_from(body)
    told = dict(attributes(body, _RTMSG.size))
    interface, gateway = next(_nexthops(told, names), ("", ""))
    network = _network(FAMILY_OF[number], length, told)
    return Match(interface, gateway, network, kind == _LOCAL)


def _network(of: Family, length: int, told: Mapping[int, bytes]) -> str:
    size = _BITS[of] // 8
    packed = told.get(_RTA_DST, b"")
    return f"{unpack(packed if len(packed) == size else bytes(size))}/{min(length, _BITS[of])}"


def _nexthops(told: Mapping[int, bytes], names: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Link and gateway of each; one of neither for a route that leads nowhere."""
    several = told.get(_RTA_MULTIPATH)
    if several is None:
        yield names.get(host_order(told.get(_RTA_OIF, b"")), ""), _gateway(told)
        return
    position = 0
    while position + _RTNEXTHOP.size <= len(several):
        length, _, _, index = _RTNEXTHOP.unpack_from(several, position)
        if length < _RTNEXTHOP.size:
            return
        inner = dict(attributes(several, position + _RTNEXTHOP.size, position + length))
        yield names.get(index, ""), _gateway(inner)
        position += (length + 3) & ~3


def _gateway(told: Mapping[int, bytes]) -> str:
    """An IPv4 route may have a gateway of IPv6 (Linux 5.2), told with its family before it."""
    packed = told.get(_RTA_GATEWAY) or told.get(_RTA_VIA, b"")[2:]
    return unpack(packed) if len(packed) * 8 in _BITS.values() else ""
