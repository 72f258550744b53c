"""Which protocols do the sockets of this kernel speak?"""

from __future__ import annotations

import functools
import socket

from endpoints.names import Protocol


def open_socket(family: socket.AddressFamily, protocol: Protocol) -> socket.socket:
    """A socket of the calling thread's namespace; of SCTP a one-to-one one, used as TCP's are.

    Raises:
        OSError: EPROTONOSUPPORT, a kernel without SCTP.
    """
    if protocol is Protocol.UDP:
        return socket.socket(family, socket.SOCK_DGRAM)
    number = socket.IPPROTO_SCTP if protocol is Protocol.SCTP else socket.IPPROTO_TCP
    return socket.socket(family, socket.SOCK_STREAM, number)


@functools.cache
def spoken() -> tuple[Protocol, ...]:
    """TCP and UDP, and SCTP where the kernel has it."""
    try:
        open_socket(socket.AF_INET, Protocol.SCTP).close()
    except OSError:
        return Protocol.TCP, Protocol.UDP
    return tuple(Protocol)
