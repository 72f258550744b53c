"""What is this host called, and which addresses does its kernel call its own?

The addresses come by rtnetlink(7): one dump, and then another one each time the kernel says that
an address came or went. The 80 lines are our own because importing pyroute2 costs 130 ms and
24 MB, more than the rest of the program.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

from endpoints.addresses import unpack
from proxy.sources.base import Died, LocalAddresses, Sink

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_SIZE = 1 << 16
_RECEIVE_BUFFER = 1 << 20
_DUMP_ATTEMPTS = 20


def host_name(override: str) -> str:
    """The name of this node's Node object: the override, or the host's name, in lower case."""
    return (override or os.uname().nodename).strip().lower()


def local_addresses() -> frozenset[str]:
    """Every address that the kernel calls local, loopback included, both families.

    Raises OSError if rtnetlink refuses, which it does to nobody.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.bind((0, 0))
        for _ in range(_DUMP_ATTEMPTS):
            route.send(
                _HEADER.pack(_HEADER.size + 4, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0)
                + bytes(4)
            )
            found = _read_dump(route)
            if found is not None:
                return found
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
        self.addresses = local_addresses()

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
                self._drain()
                addresses = local_addresses()
                if addresses != self.addresses:
                    self.addresses = addresses
                    self._sink.put(LocalAddresses(addresses))
        except OSError as error:
            self._sink.put(Died("addresses", error))

    def _drain(self) -> None:
        """Throw the notifications away: only that there were some matters."""
        while True:
            try:
                self._changes.recv(_BUFFER_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost; the dump makes up for them
                    raise


def _read_dump(route: socket.socket) -> frozenset[str] | None:
    """The addresses of one dump; None if they changed while it was made."""
    found: set[str] = set()
    interrupted = False
    while True:
        for kind, flags, body in _messages(route.recv(_BUFFER_SIZE)):
            interrupted |= bool(flags & _NLM_F_DUMP_INTR)
            if kind == _NLMSG_DONE:
                return None if interrupted else frozenset(found)
            if kind == _NLMSG_ERROR:
                number = -int.from_bytes(body[:4], "little", signed=True)
                raise OSError(number, os.strerror(number))
            if kind == _RTM_NEWADDR and (address := _address(body)):
                found.add(address)


def _messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    position = 0
    while position < len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, position)
        yield kind, flags, datagram[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _address(body: bytes) -> str | None:
    """The address of an interface; of a point-to-point link ours and not the peer's."""
    family = _IFADDRMSG.unpack_from(body)[0]
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    values: dict[int, bytes] = {}
    position = _IFADDRMSG.size
    while position < len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        values[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    return unpack(packed) if packed else None
