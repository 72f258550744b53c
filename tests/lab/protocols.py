"""Which protocols do the sockets of this kernel speak?"""

from __future__ import annotations

import functools
import socket
import struct

from endpoints.names import Protocol

_SCTP_PEER_ADDR_PARAMS = (socket.IPPROTO_SCTP, 9)
# struct sctp_paddrparams: association, peer, milliseconds, retransmissions, MTU, delay, flags, label,
# DSCP. An end tells all its addresses, which nobody translates: a client's heartbeat goes past the
# Service to the pod itself, at the Service's port, and is answered by an abort.
_NO_HEARTBEAT = struct.pack("=i128sIHIIIIBx", 0, b"", 0, 0, 0, 0, 1 << 1, 0, 0)


def open_socket(family: socket.AddressFamily, protocol: Protocol) -> socket.socket:
    """A socket of the calling thread's namespace; of SCTP a one-to-one one, used as TCP's are.

    Raises:
        OSError: EPROTONOSUPPORT, a kernel without SCTP.
    """
    if protocol is Protocol.UDP:
        return socket.socket(family, socket.SOCK_DGRAM)
    if protocol is Protocol.TCP:
        return socket.socket(family, socket.SOCK_STREAM)
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    one.setsockopt(*_SCTP_PEER_ADDR_PARAMS, _NO_HEARTBEAT)
    return one


@functools.cache
def spoken() -> tuple[Protocol, ...]:
    """TCP and UDP, and SCTP where the kernel has it."""
    try:
        open_socket(socket.AF_INET, Protocol.SCTP).close()
    except OSError:
        return Protocol.TCP, Protocol.UDP
    return tuple(Protocol)
