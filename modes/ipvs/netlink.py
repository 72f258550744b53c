"""Which bytes say to IPVS what we mean, and what do its answers mean? Pure.

The generic netlink family "IPVS" (linux/ip_vs.h). Integers are in host order, but for ports and the
netmask of persistence. Addresses are 16 bytes long in answers, whatever their family.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from endpoints.addresses import pack, unpack
from endpoints.names import Family, Protocol
from modes.base import KernelFault
from modes.ipvs.servers import (
    HASHED,
    PERSISTENT,
    Command,
    FoundReal,
    RealServer,
    ServerKey,
    Traffic,
    Verb,
    VirtualServer,
)
from modes.wire import (
    ADDRESS_FAMILY,
    FAMILY_OF,
    NLA_F_NESTED,
    attr,
    attributes,
    host_order,
    nested,
    text,
    u16,
    u32,
    words,
)

FAMILY_NAME = "IPVS"
GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
GET_SERVICE, GET_DEST, SET_CONFIG, GET_INFO = 4, 8, 12, 15

_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_SERVICE, _DEST, _TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP = 1, 2, 4, 5, 6
_AF, _PROTOCOL, _ADDR, _PORT, _FWMARK, _SCHED_NAME, _FLAGS, _TIMEOUT, _NETMASK = range(1, 10)
_STATS, _STATS64 = 10, 12
_DEST_ADDR, _DEST_PORT, _FWD_METHOD, _WEIGHT, _U_THRESH, _L_THRESH = range(1, 7)
_ACTIVE_CONNS, _INACT_CONNS = 7, 8
_DEST_STATS, _DEST_FAMILY, _DEST_STATS64 = 10, 11, 12
_CONNS, _INPKTS, _OUTPKTS, _INBYTES, _OUTBYTES = range(1, 6)

_GENERIC = struct.Struct("=BBxx")
_VERSION = 1
_FLAGS_AND_MASK = struct.Struct("=II")
_ALL_FLAGS = 0xFFFFFFFF
_METHODS = 0x7
"""Bits of the method of forwarding; the others of that attribute are flags of connections."""
_WHOLE_ADDRESS = {Family.IPV4: bytes([255] * 4), Family.IPV6: struct.pack("=I", 128)}
"""Clients of persistence are told apart by all of their address: a mask, or the prefix's length."""
_SIZES = {Family.IPV4: 4, Family.IPV6: 16}
_PROTOCOLS = {protocol.number: protocol for protocol in Protocol}
_BY_TRANSLATION = u32(_FWD_METHOD, 0)
_UNCOUNTED = Traffic()
_NO_THRESHOLDS = u32(_U_THRESH, 0) + u32(_L_THRESH, 0)


class DecodedServer(NamedTuple):
    """A virtual server of a dump; its real servers are asked for separately."""

    key: ServerKey
    server: VirtualServer
    traffic: Traffic


def opening(command: int) -> bytes:
    """The header of generic netlink."""
    return _GENERIC.pack(command, _VERSION)


def get_family() -> bytes:
    """Asks the controller for the number of the family; that loads the module ip_vs."""
    return opening(CTRL_CMD_GETFAMILY) + text(_CTRL_ATTR_FAMILY_NAME, FAMILY_NAME)


def decode_family(payload: bytes) -> int:
    """The number of the family. Raises KernelFault if the answer has none."""
    number = dict(attributes(payload)).get(_CTRL_ATTR_FAMILY_ID)
    if not number:
        raise KernelFault(f"the kernel tells no number of {FAMILY_NAME}")
    return host_order(number)


def encode(command: Command) -> bytes:
    """The payload of a message. Raises ValueError if the command lacks what its verb needs."""
    head = opening(command.verb)
    if command.verb in (Verb.NEW_SERVER, Verb.SET_SERVER):
        if command.server is None:
            raise ValueError(f"{command.verb.name} {command.key} has no virtual server")
        return head + nested(_SERVICE, _key(command.key), _settings(command))
    service = _service(command.key)
    if command.verb is Verb.DELETE_SERVER:
        return head + service
    if command.real is None:
        raise ValueError(f"{command.verb.name} {command.key} has no real server")
    weight = None if command.verb is Verb.DELETE_REAL else command.weight
    address, port = pack(command.real.address), command.real.port
    real = attr(_DEST_ADDR, address) + _real(len(address), port, weight)
    return head + service + attr(_DEST | NLA_F_NESTED, real)


def get_server(key: ServerKey) -> bytes:
    """Asks for one virtual server."""
    return opening(GET_SERVICE) + _service(key)


def get_reals(key: ServerKey) -> bytes:
    """Asks for the real servers of one virtual server: a dump, empty if there is no such server."""
    return opening(GET_DEST) + _service(key)


def set_timeouts(tcp: int, tcpfin: int, udp: int) -> bytes:
    """Sets how long idle connections are kept, in seconds; 0 leaves one as it is."""
    wanted = ((_TIMEOUT_TCP, tcp), (_TIMEOUT_TCP_FIN, tcpfin), (_TIMEOUT_UDP, udp))
    return opening(SET_CONFIG) + b"".join(u32(kind, seconds) for kind, seconds in wanted)


def _key(key: ServerKey) -> bytes:
    family = u16(_AF, ADDRESS_FAMILY[key.family])
    if key.mark:
        return family + u32(_FWMARK, key.mark)
    address = attr(_ADDR, pack(key.address)) + attr(_PORT, key.port.to_bytes(2, "big"))
    return family + u16(_PROTOCOL, key.protocol.number) + address


@lru_cache(maxsize=1024)
def _service(key: ServerKey) -> bytes:
    return nested(_SERVICE, _key(key))


def _settings(command: Command) -> bytes:
    server = command.server
    assert server is not None  # noqa: S101 (`encode` has seen it)
    return (
        text(_SCHED_NAME, server.scheduler)
        + attr(_FLAGS, _FLAGS_AND_MASK.pack(server.flags, _ALL_FLAGS))
        + u32(_TIMEOUT, server.persistence_seconds)
        + attr(_NETMASK, _WHOLE_ADDRESS[command.key.family])
    )


@lru_cache(maxsize=1024)
def _real(size: int, port: int, weight: int | None) -> bytes:
    """What is said of a real server besides its address; without a weight, only who is meant."""
    family = Family.IPV6 if size == _SIZES[Family.IPV6] else Family.IPV4
    said = attr(_DEST_PORT, port.to_bytes(2, "big")) + u16(_DEST_FAMILY, ADDRESS_FAMILY[family])
    if weight is None:
        return said
    return said + _BY_TRANSLATION + u32(_WEIGHT, weight) + _NO_THRESHOLDS


def decode_server(payload: bytes, *, counted: bool = True) -> DecodedServer | None:
    """A virtual server as the kernel tells it; None where it is of a kind that we cannot name.

    Its statistics are read only if `counted`.
    """
    found = dict(attributes(dict(attributes(payload)).get(_SERVICE, b"")))
    key = _decode_key(found)
    told = found.get(_FLAGS, b"")
    if key is None or _SCHED_NAME not in found or len(told) != _FLAGS_AND_MASK.size:
        return None
    flags = _FLAGS_AND_MASK.unpack(told)[0] & ~HASHED
    seconds = host_order(found.get(_TIMEOUT, b"")) if flags & PERSISTENT else 0
    server = VirtualServer(words(found[_SCHED_NAME]), flags, seconds)
    traffic = _traffic(found, _STATS64, _STATS) if counted else _UNCOUNTED
    return DecodedServer(key, server, traffic)


def _decode_key(found: Mapping[int, bytes]) -> ServerKey | None:
    family = FAMILY_OF.get(host_order(found.get(_AF, b"")))
    if family is None:
        return None
    if _FWMARK in found:
        return ServerKey(family, mark=host_order(found[_FWMARK]))
    protocol = _PROTOCOLS.get(host_order(found.get(_PROTOCOL, b"")))
    address = _address(found.get(_ADDR, b""), family)
    if protocol is None or not address or _PORT not in found:
        return None
    return ServerKey(family, protocol, address, int.from_bytes(found[_PORT], "big"))


def _address(packed: bytes, family: Family) -> str:
    """An address, for which there is always room for one of IPv6; empty if it is none."""
    size = _SIZES[family]
    return unpack(packed[:size]) if len(packed) >= size else ""


def decode_real(payload: bytes, family: Family) -> tuple[RealServer, FoundReal] | None:
    """A real server as the kernel tells it.

    Args:
        payload: of a reply to `get_reals`.
        family: of the virtual server; before Linux 3.18 that of the real server is not told.
    """
    found = dict(attributes(dict(attributes(payload)).get(_DEST, b"")))
    if _DEST_FAMILY in found:
        family = FAMILY_OF.get(host_order(found[_DEST_FAMILY]), family)
    address = _address(found.get(_DEST_ADDR, b""), family)
    if not address or _DEST_PORT not in found:
        return None
    return RealServer(address, int.from_bytes(found[_DEST_PORT], "big")), FoundReal(
        host_order(found.get(_WEIGHT, b"")),
        host_order(found.get(_ACTIVE_CONNS, b"")),
        host_order(found.get(_INACT_CONNS, b"")),
        host_order(found.get(_FWD_METHOD, b"")) & _METHODS,
        _traffic(found, _DEST_STATS64, _DEST_STATS),
    )


def _traffic(found: Mapping[int, bytes], wide: int, narrow: int) -> Traffic:
    """Since Linux 4.1 counters have 64 bits, in an attribute of their own."""
    return _counted(found.get(wide) or found.get(narrow, b""))


@lru_cache(maxsize=1024)
def _counted(told: bytes) -> Traffic:
    """Most servers are as busy as many others: not at all."""
    counted = dict(attributes(told))
    kinds = (_CONNS, _INPKTS, _OUTPKTS, _INBYTES, _OUTBYTES)
    return Traffic(*(host_order(counted.get(kind, b"")) for kind in kinds))
