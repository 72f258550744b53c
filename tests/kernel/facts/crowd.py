"""How are a hundred thousand flows made in a second?

One entry is written in full, and the others differ in the client's address and port only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from conntrack.flows import opening
from endpoints.addresses import pack
from endpoints.names import Family
from modes.wire import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLMSG_ERROR, message, replies
from tests.unit.conntrack.flowing import entry, flow

_NEW = 1 << 8
_NETLINK_NETFILTER = 12
_AT_ONCE = 256
_SECONDS = 3600
_PORTS = range(1024, 65024)
_ASSURED = 1 << 3 | 1 << 2 | 1 << 1  # CONFIRMED, ASSURED, SEEN_REPLY: not dropped to make room
_STATUS = (1 << 3 | 1 << 1 | 1 << 5).to_bytes(4, "big")  # that of `flow`
_STANDING = bytes((198, 18))
"""The addresses of benchmarks (RFC 2544)."""


def crowd(address: str, port: int, count: int, *, until_full: bool = False) -> None:
    """Let this many clients have a UDP flow there, untranslated and never dropped for others.

    `until_full`: go on until the kernel takes no more, which it must do before the last one.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as table:
        table.bind((0, 0))
        made = _entries(address, port, count)
        for start in range(0, count, _AT_ONCE):
            size = min(_AT_ONCE, count - start)
            flags = [NLM_F_CREATE | NLM_F_EXCL] * size
            flags[-1] |= NLM_F_ACK
            table.sendall(b"".join(message(_NEW, flag, 1, next(made)) for flag in flags))
            errors = {
                answer.error
                for answer in replies(table.recv(1 << 20))
                if answer.kind == NLMSG_ERROR and answer.error
            }
            if until_full and errors == {errno.ENOMEM}:
                return
            assert not errors
    assert not until_full


def _entries(address: str, port: int, count: int) -> Iterator[bytes]:
    one = flow(f"{address}:{port}", port=_PORTS[0])
    client = pack(one.original.source.address)
    whole = opening(Family.IPV4) + entry(one, _SECONDS).replace(
        _STATUS, _ASSURED.to_bytes(4, "big")
    )
    first = _PORTS[0].to_bytes(2, "big")
    assert whole.count(client) == whole.count(first) == 2
    for number in range(count):
        host, at = divmod(number, len(_PORTS))
        theirs = _STANDING + host.to_bytes(2, "big")
        yield whole.replace(client, theirs).replace(first, _PORTS[at].to_bytes(2, "big"))
