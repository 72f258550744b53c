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
from typing import NamedTuple

from tests.bench import cluster
from tests.bench.whole.content import Wanted
from tests.bench.whole.translation import Destination, address, destinations

_GET_SERVICE, _GET_DESTS = 1155, 1156
_SERVICE = struct.Struct("=H2x4s2s2xI16s12xI56x")
"""struct ip_vs_service_entry: protocol, address, port, mark, scheduler, number of real servers."""
_DESTS = struct.Struct("=H2x4s2s2xII4x")
"""struct ip_vs_get_dests: protocol, address, port, mark, number; real servers follow."""
_DEST = struct.Struct("=4s2s2xIi80x")
"""struct ip_vs_dest_entry: address, port, how to forward, weight."""
_PORT = cluster.PORT.to_bytes(2, "big")


class Held(NamedTuple):
    """What there is of a cluster IP."""

    is_local: bool
    """The node holds the address: packets to it get to IPVS."""
    reals: bytes | None
    """Its real servers as the kernel tells them. None: there is no virtual server."""

    @property
    def destinations(self) -> set[Destination]:
        """Where new connections go: what drains has no weight."""
        found = _DEST.iter_unpack(self.reals or b"")
        return {address + port for address, port, _, weight in found if weight > 0}


class Ipvs:
    """The virtual servers of this network namespace; an `Observer`."""

    def __init__(self, _program: str) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._asked: bytes | None = None

    def mark(self) -> object:
        """What there is of the Service that was asked for last: IPVS numbers nothing.

        So it moves too when another one is asked for, and always before the first one is.
        """
        return object() if self._asked is None else (self._asked, self._held(self._asked))

    def holds(self, wanted: Wanted) -> bool:
        """As an `Observer`."""
        self._asked = address(wanted)
        held = self._held(self._asked)
        if not wanted.endpoints:
            return held.is_local == (wanted.endpoints is not None) and not held.destinations
        return held.is_local and held.destinations == destinations(wanted.endpoints)

    def commits(self) -> None:
        """The kernel counts none."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _held(self, at: bytes) -> Held:
        """What there is of a cluster IP. Raises OSError."""
        return Held(_is_local(at), self._reals(at))

    def _reals(self, at: bytes) -> bytes | None:
        head = socket.IPPROTO_TCP, at, _PORT, 0
        service = self._ask(_GET_SERVICE, _SERVICE.pack(*head, b"", 0))
        if service is None:
            return None
        number = _SERVICE.unpack(service)[-1]
        # One that goes between both questions leaves its place empty: it has no weight.
        room = bytes(number * _DEST.size)
        told = self._ask(_GET_DESTS, _DESTS.pack(*head, number) + room)
        return None if told is None else told[_DESTS.size :]

    def _ask(self, question: int, told: bytes) -> bytes | None:
        """The answer takes the place of the question; None if there is no such virtual server."""
        room = ctypes.create_string_buffer(told, len(told))
        length = ctypes.c_uint32(len(told))
        found = self._libc.getsockopt(
            self._socket.fileno(), socket.IPPROTO_IP, question, room, ctypes.byref(length)
        )
        if not found:
            return room.raw
        code = ctypes.get_errno()
        if code != errno.ESRCH:
            raise OSError(code, f"IPVS: {os.strerror(code)}")
        return None


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
