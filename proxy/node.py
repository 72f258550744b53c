"""Which addresses does this host's kernel call its own?

The addresses come by rtnetlink(7): one dump, and then another one each time the kernel says that
an address came or went. Those of the link kube-ipvs0 are not the node's own but of Services: IPVS
needs them there. The 120 lines are our own because importing pyroute2 costs 130 ms and 24 MB, more
than the rest of the program.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

from endpoints.addresses import unpack
from modes.wire import attributes
from proxy.sources.base import Died, LocalAddresses, Sink

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFLA_IFNAME = 3
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_IFINFOMSG = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_SIZE = 1 << 16
_RECEIVE_BUFFER = 1 << 20
_DUMP_ATTEMPTS = 20
_SIZES: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}
_SERVICES_LINK = b"kube-ipvs0\0"
_NO_LINK = 0
"""The index of no link."""


class Found(NamedTuple):
    """What a look at the kernel found."""

    addresses: frozenset[str]
    """The node's own."""
    services_link: int
    """The index of the link with the addresses of Services; 0 if there is none."""


def local_addresses() -> frozenset[str]:
    """Every address that the kernel calls local, loopback included, both families.

    Without those that are of Services. Raises OSError if rtnetlink refuses, which it does to
    nobody.
    """
    return look().addresses


def look() -> Found:
    """The local addresses, and the link that is left out. Raises OSError as `local_addresses`.

    Only IPv4 addresses come with a name of their link; all have its index. What the name stands
    for is asked before and after the addresses: an index is not given to another link soon, so if
    both answers agree it was this link in between too.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.bind((0, 0))
        for _ in range(_DUMP_ATTEMPTS):
            link = _services_link(route)
            route.send(
                _HEADER.pack(_HEADER.size + 4, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0)
                + bytes(4)
            )
            found = _read_dump(route, link)
            if found is not None and _services_link(route) == link:
                return Found(found, link)
    raise OSError(errno.EAGAIN, "the addresses change too fast to be read")


class AddressWatch:
    """Tells when the local addresses are others than before; a thread of its own."""

    def __init__(self) -> None:
        """Listens from now on, in the network namespace of the calling thread."""
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._changes.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._changes.bind((0, _GROUPS))
        self._changes.setblocking(False)  # noqa: FBT003 (the socket's own signature)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="addresses", daemon=True)
        self.addresses, self._services_link = look()

    def start(self, sink: Sink) -> None:
        """Begin to tell."""
        self._sink = sink
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        self._changes.close()
        os.close(self._wakeup)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._changes, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        try:
            while self._wakeup not in {descriptor for descriptor, _ in poll.poll()}:
                if not self._is_news():
                    continue
                addresses, self._services_link = look()
                if addresses != self.addresses:
                    self.addresses = addresses
                    self._sink.put(LocalAddresses(addresses))
        except OSError as error:
            self._sink.put(Died("addresses", error))

    def _is_news(self) -> bool:
        """Throw the notifications away; whether one was not of the link of Services.

        That link has as many addresses as there are Services, and it is headgate that puts them
        there: looking at all of them each time would cost more than the change.
        """
        is_news = False
        while True:
            try:
                datagram = self._changes.recv(_BUFFER_SIZE)
            except BlockingIOError:
                return is_news
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                is_news = True  # some were lost; the dump makes up for them
            else:
                is_news |= any(
                    kind in (_RTM_NEWADDR, _RTM_DELADDR) and _link(body) != self._services_link
                    for kind, _, body in _messages(datagram)
                )


def _services_link(route: socket.socket) -> int:
    """The index of the link that has the addresses of Services, or 0."""
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(_SERVICES_LINK), _IFLA_IFNAME)
    body = bytes(_IFINFOMSG.size) + attribute + _SERVICES_LINK
    body += bytes(-len(body) % 4)
    length = _HEADER.size + len(body)
    route.send(_HEADER.pack(length, _RTM_GETLINK, _NLM_F_REQUEST, 0, 0) + body)
    for kind, _, answer in _messages(route.recv(_BUFFER_SIZE)):
        if kind == _RTM_NEWLINK:
            return _index(answer)
        number = _error(answer)
        if number != errno.ENODEV:
            raise OSError(number, os.strerror(number))
    return _NO_LINK


def _read_dump(route: socket.socket, without: int) -> frozenset[str] | None:
    """The addresses of one dump, but for one link's; None if they changed while it was made."""
    found: set[str] = set()
    interrupted = False
    while True:
        for kind, flags, body in _messages(route.recv(_BUFFER_SIZE)):
            interrupted |= bool(flags & _NLM_F_DUMP_INTR)
            if kind == _NLMSG_DONE:
                return None if interrupted else frozenset(found)
            if kind == _NLMSG_ERROR:
                number = _error(body)
                raise OSError(number, os.strerror(number))
            if kind != _RTM_NEWADDR or _link(body) == without:
                continue
            if address := _address(body):
                found.add(address)


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each message that is whole."""
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, position)
        if not _HEADER.size <= length <= len(datagram) - position:
            return
        yield kind, flags, datagram[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _error(body: bytes) -> int:
    """The number of an NLMSG_ERROR."""
    return -int.from_bytes(body[:4], "little", signed=True)


def _index(body: bytes) -> int:
    """The index of the link that a message of links is about."""
    index: int = _IFINFOMSG.unpack_from(body)[2] if len(body) >= _IFINFOMSG.size else _NO_LINK
    return index


def _link(body: bytes) -> int:
    """The index of the link that a message of addresses is about."""
    index: int = _IFADDRMSG.unpack_from(body)[4] if len(body) >= _IFADDRMSG.size else _NO_LINK
    return index


def _address(body: bytes) -> str | None:
    """The address of an interface; of a point-to-point link ours and not the peer's."""
    size = _SIZES.get(body[0]) if body else None
    values = dict(attributes(body, _IFADDRMSG.size))
    packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    return unpack(packed) if packed and len(packed) == size else None
