"""What do virtual servers of headgate and of kube-proxy in IPVS mode hold of one Service? IPv4.

Both give a cluster IP a virtual server of its address, and the address to a link. Asked by
getsockopt (linux/ip_vs.h): a tenth of what netlink takes for the same. The sets that are about
masquerade are not looked at.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from tests.bench import cluster
from tests.bench.whole.content import Wanted
from tests.bench.whole.translation import Destination, address, destinations

_GET_DESTS = 1156
_DESTS = struct.Struct("=H2x4s2s2xII4x")
"""struct ip_vs_get_dests: protocol, address, port, mark, number; real servers follow."""
_DEST = struct.Struct("=4s2s2xIi80x")
"""struct ip_vs_dest_entry: address, port, how to forward, weight."""
_PORT = cluster.PORT.to_bytes(2, "big")


class Ipvs:
    """The virtual servers of this network namespace; an `Observer`."""

    def __init__(self, _program: str) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._room = 16
        self._asked: bytes | None = None
        self._lacks_address = False
        """Of the Service that was asked for last all is as it was wanted but for the address."""
        self._local: set[bytes] = set()
        """Addresses that the node has: only a Service that goes gives its one up."""

    def mark(self) -> object:
        """What there is of the Service that was asked for last: IPVS numbers nothing.

        So it moves too when another one is asked for, and always before the first one is.
        """
        if self._asked is None:
            return object()
        is_local = self._lacks_address and _is_local(self._asked)
        return self._asked, self._real_servers(self._asked), is_local

    def holds(self, wanted: Wanted) -> bool:
        """As an `Observer`. The address is looked at last: that takes longest."""
        at = self._asked = address(wanted)
        found = _destinations(self._real_servers(at))
        if not found:
            self._local.discard(at)
        self._lacks_address = False
        if found != destinations(wanted.endpoints or ()):
            return False
        if at not in self._local and _is_local(at):
            self._local.add(at)
        self._lacks_address = (at in self._local) != (wanted.endpoints is not None)
        return not self._lacks_address

    def commits(self) -> None:
        """The kernel counts none."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _real_servers(self, at: bytes) -> bytes:
        """The real servers of a cluster IP as the kernel tells them; empty ones follow.

        Nothing at all where there is no virtual server. Raises OSError.
        """
        while True:
            head = _DESTS.pack(socket.IPPROTO_TCP, at, _PORT, 0, self._room)
            size = _DESTS.size + self._room * _DEST.size
            told, length = ctypes.create_string_buffer(head, size), ctypes.c_uint32(size)
            if self._libc.getsockopt(
                self._socket.fileno(), socket.IPPROTO_IP, _GET_DESTS, told, ctypes.byref(length)
            ):
                code = ctypes.get_errno()
                if code == errno.ESRCH:
                    return b""
                raise OSError(code, f"IPVS: {os.strerror(code)}")
            found = told.raw[_DESTS.size :]
            if not any(found[-_DEST.size :]):
                return found
            self._room *= 2


def _destinations(told: bytes) -> set[Destination]:
    """Where new connections go: what drains has no weight."""
    return {at + port for at, port, _, weight in _DEST.iter_unpack(told) if weight > 0}


def _is_local(at: bytes) -> bool:
    """Whether this network namespace has an address: only to such a one a socket is bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        try:
            bound.bind((socket.inet_ntoa(at), 0))
        except OSError as fault:
            if fault.errno != errno.EADDRNOTAVAIL:
                raise
            return False
    return True
