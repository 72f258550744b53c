"""Which clients does IPVS keep on a real server? Pure.

/proc/net/ip_vs_conn of a network namespace (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_conn_seq_show,
Linux 2.6.28 to 6.18) lists every connection, and for each client of a persistent virtual server a
template, which has port 0 where a connection has the client's. Netlink tells of none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from endpoints.addresses import unpack
from endpoints.names import Family
from modes.ipvs.servers import RealServer, ServerKey
from modes.ipvs.table import PROTOCOLS

_NO_PORT = b"0000"
_FIELDS = 9
"""Protocol; client, virtual and real server with their ports; state, seconds left. More may follow:
the word of a protocol's own persistence (SIP)."""


class Kept(msgspec.Struct, frozen=True):
    """A client whom affinity keeps."""

    key: ServerKey
    """The virtual server."""
    client: str
    real: RealServer
    seconds_left: int
    """If no packet of it comes."""


def kept(lines: Iterable[bytes]) -> Iterator[Kept]:
    """The templates of a list of connections; a line that is of no known form is passed over."""
    for line in lines:
        fields = line.split(None, 3)
        if len(fields) > 3 and fields[2] == _NO_PORT:  # noqa: PLR2004 (the rest)
            found = _kept(line.split())
            if found is not None:
                yield found


def _kept(fields: list[bytes]) -> Kept | None:
    protocol = PROTOCOLS.get(fields[0])
    if protocol is None or len(fields) < _FIELDS:
        return None
    try:
        client, virtual, real = (_address(fields[at]) for at in (1, 3, 5))
        ports = int(fields[4], 16), int(fields[6], 16)
        family = Family.IPV6 if ":" in virtual else Family.IPV4
        key = ServerKey(family, protocol, virtual, ports[0])
        return Kept(key, client, RealServer(real, ports[1]), int(fields[8]))
    except ValueError:
        return None


def _address(text: bytes) -> str:
    """Of `0A600707`, or `fd00:0010:0096:0000:0000:0000:0000:0007`."""
    return unpack(bytes.fromhex(text.decode("ascii").strip("[]").replace(":", "")))
