"""How do nfacct's counters look in netlink messages? Pure.

Rules of xt_nfacct count into objects with names, which must exist before the rule and outlive it
(include/uapi/linux/netfilter/nfnetlink_acct.h). kube-proxy's metrics are named after the same two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

INVALID_DROPPED = "ct_state_invalid_dropped_pkts"
"""Packets that conntrack called INVALID and KUBE-FORWARD dropped."""
LOCALHOST_NODEPORTS = "localhost_nps_accepted_pkts"
"""Packets to NodePorts on 127.0.0.1."""
COUNTERS = (INVALID_DROPPED, LOCALHOST_NODEPORTS)
METRICS = {
    INVALID_DROPPED: "kubeproxy_iptables_ct_state_invalid_dropped_packets",
    LOCALHOST_NODEPORTS: "kubeproxy_iptables_localhost_nodeports_accepted_packets",
}

NEW, GET, DELETE = 0, 1, 3
CREATE, DUMP = 0x400, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
_REQUEST_ACK = 0x1 | 0x4
_SUBSYSTEM = 7 << 8
_NAME, _PACKETS = 1, 2
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = 4
_ATTRIBUTE = struct.Struct("=HH")


def message(kind: int, flags: int = 0, name: str = "") -> bytes:
    """A request about one counter, or with DUMP about all."""
    body = bytes(_NFGENMSG)
    if name:
        value = name.encode() + b"\0"
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), _NAME)
        body += value + bytes(-len(value) % 4)
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SUBSYSTEM | kind, _REQUEST_ACK | flags, 0, 0) + body


def answers(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of a datagram: the kind of each, and what follows its header."""
    offset = 0
    while offset < len(datagram):
        size, kind, *_ = _HEADER.unpack_from(datagram, offset)
        yield kind, datagram[offset + _HEADER.size : offset + size]
        offset += (size + 3) & ~3


def error(payload: bytes) -> int:
    """The errno of an acknowledgement or of a dump's end; 0: done."""
    return -int(struct.unpack_from("=i", payload)[0]) if payload else 0


def packets(payload: bytes) -> tuple[str, int]:
    """The name and the packets of one counter of a dump."""
    name, count = "", 0
    offset = _NFGENMSG
    while offset < len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, offset)
        value = payload[offset + _ATTRIBUTE.size : offset + size]
        if kind == _NAME:
            name = value.rstrip(b"\0").decode()
        elif kind == _PACKETS:
            count = int.from_bytes(value, "big")
        offset += (size + 3) & ~3
    return name, count
