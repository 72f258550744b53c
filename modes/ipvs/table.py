"""Which real servers does the text list that the kernel makes of all virtual ones? Pure.

/proc/net/ip_vs of a network namespace (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show), the
same since Linux 3.18, when the family of a real server became its own. It tells real servers by the
page, where netlink needs a question for each virtual server; but no statistics, not all of a
scheduler's flags, and of a virtual server with a mark not its family. A virtual server and its real
ones come together, however large they are; one that comes or goes may hide another one.
"""

from __future__ import annotations

from collections.abc import Iterable

from endpoints.addresses import unpack
from endpoints.names import Family, Protocol
from modes.ipvs.servers import FoundReal, RealServer, ServerKey

Table = dict[ServerKey, dict[RealServer, FoundReal]]

PROTOCOLS = {protocol.value.encode(): protocol for protocol in Protocol}
"""By the words of the kernel's lists."""
_METHODS = {b"Masq": 0, b"Local": 1, b"Tunnel": 2, b"Route": 3, b"Bypass": 4}
_REAL = b"  -> "
_SERVER_FIELDS = 3


def table(lines: Iterable[bytes]) -> Table:
    """The real servers of each virtual one that is known by its address.

    A virtual server with a line that is of no known form is left out.
    """
    found: Table = {}
    key: ServerKey | None = None
    for line in lines:
        if not line.startswith(_REAL):
            key = _key(line)
            if key is not None:
                found[key] = {}
        elif key is not None:
            try:
                _, where, method, weight, active, inactive = line.split()
                at = FoundReal(int(weight), int(active), int(inactive), _METHODS[method])
                found[key][RealServer(*place(where))] = at
            except (ValueError, KeyError):
                del found[key]
                key = None
    return found


def _key(line: bytes) -> ServerKey | None:
    fields = line.split(None, _SERVER_FIELDS - 1)
    protocol = PROTOCOLS.get(fields[0]) if len(fields) == _SERVER_FIELDS else None
    if protocol is None:
        return None
    try:
        address, port = place(fields[1])
    except ValueError:
        return None
    return ServerKey(Family.IPV6 if ":" in address else Family.IPV4, protocol, address, port)


def place(text: bytes) -> tuple[str, int]:
    """Of `0A600707:0050`, or `[fd00:0010:0096:0000:0000:0000:0000:0007]:0050`."""
    address, _, port = text.decode("ascii").rpartition(":")
    return unpack(bytes.fromhex(address.strip("[]").replace(":", ""))), int(port, 16)
