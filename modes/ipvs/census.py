"""How much do IPVS, its sets and its link hold? Asked so that the answer costs the same always."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator

from endpoints.addresses import unpack
from endpoints.names import Family
from modes.base import KernelFault
from modes.ipvs import ipset_messages as ip
from modes.ipvs.channel import Channel, Request
from modes.ipvs.ipsets import Kind, SetName
from modes.ipvs.lookout import Counts
from modes.ipvs.servers import LINK
from modes.listening import attach, enlarge
from modes.wire import attributes, replies

_NETLINK_NETFILTER = 12
_IP_VS_SO_GET_INFO = 1153
_INFO = struct.Struct("=III")  # version, size of the table of connections, virtual servers
_CROWD = 250
"""Where there are more sets, ours are asked for one by one."""
_OURS = {str(SetName(kind, family)): kind for kind in Kind for family in Family}
_ADDRESS_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_DELADDR = 21
_ADDRESS, _LOCAL = 1, 2
_MESSAGE = struct.Struct("=BBBBI")
_DATAGRAM = 1 << 16


class Census:
    """Counts, in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        """Open the sockets, and listen for addresses that go. Raises OSError."""
        self._sets = Channel(_NETLINK_NETFILTER)
        self._ipvs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._news.settimeout(0)
        enlarge(self._news)
        attach(self._news, _only_deletions())
        self._news.bind((0, _ADDRESS_GROUPS))
        self._is_crowded = False
        self._link = 0

    def close(self) -> None:
        """Give the sockets back."""
        self._sets.close()
        self._ipvs.close()
        self._news.close()

    def count(self) -> Counts:
        """The counts of now. Raises KernelFault and OSError."""
        known, self._link = self._link, _index()
        lost, deaf = self._lost({known, self._link})
        info = self._ipvs.getsockopt(socket.IPPROTO_IP, _IP_VS_SO_GET_INFO, _INFO.size)
        return Counts(_INFO.unpack(info)[2], dict(self._of_sets()), self._link, lost, deaf)

    def _of_sets(self) -> Iterator[tuple[str, int]]:
        if not self._is_crowded:
            found = self._headers()
            self._is_crowded = len(found) > _CROWD
        else:
            found = [one for name in _OURS for one in self._headers(name)]
        for name, number in found:
            if name in _OURS:
                yield name, 0 if _OURS[name] is Kind.DRAINING else number

    def _headers(self, name: str = "") -> list[tuple[str, int]]:
        found, end = self._sets.dump(Request(ip.kind(ip.LIST), 0, ip.list_headers(name)))
        if end.error == errno.ENOENT:
            return []
        if end.error:
            raise KernelFault(f"sets cannot be counted: {self._sets.said(end)}")
        return [ip.decode_header(answer.payload) for answer in found]

    def _lost(self, links: set[int]) -> tuple[frozenset[str], bool]:
        lost: set[str] = set()
        deaf = False
        while True:
            try:
                datagram = self._news.recv(_DATAGRAM)
            except BlockingIOError:
                return frozenset(lost), deaf
            except OSError as fault:
                if fault.errno != errno.ENOBUFS:
                    raise
                deaf = True
                continue
            for answer in replies(datagram, 0):
                if _MESSAGE.unpack_from(answer.payload)[4] in links:
                    told = dict(attributes(answer.payload, _MESSAGE.size))
                    lost.add(unpack(told.get(_LOCAL) or told[_ADDRESS]))


def _index() -> int:
    try:
        return socket.if_nametoindex(LINK)
    except OSError:
        return 0


def _only_deletions() -> list[tuple[int, int, int, int]]:
    """Classic BPF: of each datagram the kind of its first message, of addresses its only one."""
    kind = int.from_bytes(_DELADDR.to_bytes(2, sys.byteorder), "big")
    load_half, if_equal, end = 0x28, 0x15, 0x06
    return [(load_half, 0, 0, 4), (if_equal, 0, 1, kind), (end, 0, 0, 0xFFFFFFFF), (end, 0, 0, 0)]
