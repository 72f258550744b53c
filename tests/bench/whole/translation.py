"""Where does a rule of iptables send a connection? Pure. As the kernel keeps it, in both variants.

The extension DNAT of xtables: struct nf_nat_ipv4_multi_range_compat in revision 0, struct
nf_nat_range and nf_nat_range2 in those after it (linux/netfilter/nf_nat.h).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from tests.bench import cluster
from tests.bench.whole.content import Wanted

DNAT = "DNAT"
_FIRST = struct.Struct("=II4s4s2s2s")
"""How many ranges there are, flags, the least and the last address, the least and the last port."""
_LATER = struct.Struct("=I4s12x4s12x2s2s")
"""The same of the one range that there is; an address has room for one of IPv6."""
_PORT = cluster.TARGET_PORT.to_bytes(2, "big")

Destination = bytes
"""An IPv4 address and a port, in network order."""


def destination(revision: int, told: bytes) -> Destination:
    """The one address and port that a DNAT leads to.

    Raises RuntimeError if there are several.
    """
    if revision:
        _, least, last, port, last_port = _LATER.unpack_from(told)
        ranges = 1
    else:
        ranges, _, least, last, port, last_port = _FIRST.unpack_from(told)
    if ranges != 1 or least != last or port != last_port:
        raise RuntimeError(f"a DNAT to more than one address and port: {told.hex()}")
    return bytes(least + port)


def destinations(endpoints: Iterable[str]) -> set[Destination]:
    """What these pods are to a DNAT."""
    return {socket.inet_aton(address) + _PORT for address in endpoints}


def address(wanted: Wanted) -> bytes:
    """The cluster IP of a Service."""
    return socket.inet_aton(cluster.cluster_ip(wanted.number))
