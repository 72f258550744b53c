"""What is in the kernel's table of flows, and how does a test fill it?"""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from conntrack.flows import Flow, opening
from modes.wire import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLMSG_ERROR, message, replies
from tests.unit.conntrack.flowing import entry, flow

_NEW = 1 << 8
_SECONDS = 600
_AT_ONCE = 256
_NETLINK_NETFILTER = 12


class Seen(NamedTuple):
    """A flow as the program conntrack shows it."""

    protocol: str
    destination: str
    port: int
    answering: str
    answering_port: int
    zone: int


class Table:
    """Makes entries as packets would, and reads them by another program."""

    def __init__(self) -> None:
        """In the network of the calling thread."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self.has_zones = self._try_zones()

    def close(self) -> None:
        """Give the socket back; entries stay."""
        self._socket.close()

    def _try_zones(self) -> bool:
        """Whether the kernel has zones: Debian's user-mode Linux has none."""
        try:
            self._make([flow("192.0.2.1:1", zone=65535)])
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return False
        subprocess.run(["conntrack", "-D", "-w", "65535"], check=True, capture_output=True)
        return True

    def track(self, flows: Sequence[Flow]) -> list[Flow]:
        """Make entries, but for zones where there are none. Returns those that are tracked now.

        Raises OSError if there was one already.
        """
        made = [one for one in flows if self.has_zones or not one.zone]
        self._make(made)
        return made

    def _make(self, flows: Sequence[Flow]) -> None:
        for start in range(0, len(flows), _AT_ONCE):
            batch = flows[start : start + _AT_ONCE]
            flags = [NLM_F_CREATE | NLM_F_EXCL] * len(batch)
            flags[-1] |= NLM_F_ACK
            self._socket.sendall(
                b"".join(
                    message(_NEW, flag, 1, opening(one.family) + entry(one, _SECONDS))
                    for one, flag in zip(batch, flags, strict=True)
                )
            )
            self._acknowledged()

    def _acknowledged(self) -> None:
        for answer in replies(self._socket.recv(1 << 16)):
            if answer.kind == NLMSG_ERROR and answer.error:
                raise OSError(answer.error, os.strerror(answer.error))


def seen(family: str) -> list[Seen]:
    """All flows of a family, `ipv4` or `ipv6`, sorted."""
    listed = subprocess.run(
        ["conntrack", "-L", "-f", family], check=True, capture_output=True, text=True
    ).stdout
    return sorted(map(_seen, listed.splitlines()))


def _seen(line: str) -> Seen:
    """A line names addresses and ports twice: of the original packets, then of the replies."""
    told = re.findall(r"(\w+)=(\S+)", line)
    first, last = dict(reversed(told)), dict(told)
    return Seen(
        line.split(maxsplit=1)[0],
        first["dst"],
        int(first["dport"]),
        last["src"],
        int(last["sport"]),
        int(last.get("zone", "0")),
    )
