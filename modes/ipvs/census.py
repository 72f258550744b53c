"""How much do IPVS, its sets and its link hold? Asked so that the answer costs the same always."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys

from endpoints.addresses import unpack
from endpoints.names import Family
from modes.base import KernelFault
from modes.ipvs import ipset_messages as ip
from modes.ipvs.channel import Channel, Request
from modes.ipvs.inbox import NOTHING
from modes.ipvs.ipsets import Kind, SetName
from modes.ipvs.lookout import Counts
from modes.ipvs.servers import LINK
from modes.listening import attach, enlarge
from modes.wire import (
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    Reply,
    attributes,
    host_order,
    message,
    replies,
)

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
_DATAGRAM = 1 << 12
"""News is of one address each."""
_SIOCGIFINDEX = 0x8933
_NAME_SIZE = 16
_ASKING = LINK.encode().ljust(_NAME_SIZE + 24, b"\0")  # struct ifreq


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
        self._all = _Listing(self._sets)
        self._each = [_Listing(self._sets, name) for name in _OURS]
        self._found: list[tuple[str, int]] = []
        self._numbers: dict[str, int] = {}
        self._is_crowded = False
        self._link = 0

    def close(self) -> None:
        """Give the sockets back."""
        self._sets.close()
        self._ipvs.close()
        self._news.close()

    def count(self) -> Counts:
        """The counts of now. Raises KernelFault and OSError."""
        known, self._link = self._link, self._index()
        lost, deaf = self._lost({known, self._link})
        info = self._ipvs.getsockopt(socket.IPPROTO_IP, _IP_VS_SO_GET_INFO, _INFO.size)
        return Counts(_INFO.unpack(info)[2], self._of_sets(), self._link, lost, deaf)

    def _index(self) -> int:
        try:
            told = fcntl.ioctl(self._ipvs, _SIOCGIFINDEX, _ASKING)
            return host_order(told[_NAME_SIZE : _NAME_SIZE + 4])
        except OSError as fault:
            if fault.errno != errno.ENODEV:
                raise
            return 0

    def _of_sets(self) -> dict[str, int]:
        if not self._is_crowded:
            found = self._all.headers()
            self._is_crowded = len(found) > _CROWD
        else:
            found = [one for listing in self._each for one in listing.headers()]
        if found != self._found:
            self._found = found
            self._numbers = {
                name: 0 if _OURS[name] is Kind.DRAINING else number
                for name, number in found
                if name in _OURS
            }
        return self._numbers

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


class _Listing:
    """The headers of a set, or of all: an answer like the one before it is not read."""

    def __init__(self, channel: Channel, name: str = "") -> None:
        self._channel = channel
        self._request = Request(ip.kind(ip.LIST), NLM_F_DUMP, ip.list_headers(name))
        self._question = message(self._request.kind, NLM_F_DUMP, 0, self._request.payload)
        self._told = NOTHING
        self._headers: list[tuple[str, int]] = []

    def headers(self) -> list[tuple[str, int]]:
        """Names, and how many elements each has. Raises KernelFault."""
        known, self._told = self._told, NOTHING
        told = self._channel.repeat(self._question, known)
        if told is None:
            self._told = known
            return self._headers
        answers = [answer for datagram in told.datagrams() or () for answer in replies(datagram)]
        if answers and _is_whole(answers):
            *found, end = answers
            self._told = told
        else:
            found, end = self._channel.dump(self._request)
        if end.error not in (0, errno.ENOENT):
            self._told = NOTHING
            raise KernelFault(f"sets cannot be counted: {self._channel.said(end)}")
        self._headers = [ip.decode_header(answer.payload) for answer in found]
        return self._headers


def _is_whole(answers: list[Reply]) -> bool:
    end = answers[-1]
    is_ended = end.kind in (NLMSG_DONE, NLMSG_ERROR) and end.error != errno.EINTR
    return is_ended and not any(answer.interrupted for answer in answers)


def _only_deletions() -> list[tuple[int, int, int, int]]:
    """Classic BPF: of each datagram the kind of its first message, of addresses its only one."""
    kind = int.from_bytes(_DELADDR.to_bytes(2, sys.byteorder), "big")
    load_half, if_equal, end = 0x28, 0x15, 0x06
    return [(load_half, 0, 0, 4), (if_equal, 0, 1, kind), (end, 0, 0, 0xFFFFFFFF), (end, 0, 0, 0)]
