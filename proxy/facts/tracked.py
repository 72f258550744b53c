"""In which state is a flow that conntrack tells of? Pure.

Attributes as in linux/netfilter/nfnetlink_conntrack.h, as `conntrack.flows` reads them; the states
of TCP as in linux/netfilter/nf_conntrack_tcp.h.
"""

from __future__ import annotations

from conntrack.flows import decode
from endpoints.names import Family, Protocol
from modes.wire import attributes
from proxy.facts.facts import Tracked

_PROTOCOL_STATE, _TIMEOUT = 4, 7
_OF_TCP, _TCP_STATE = 1, 1
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2
_TCP_STATES = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"),
)


def tracked(family: Family, payload: bytes) -> Tracked | None:
    """What an entry of a dump tells, without its opening; None as `conntrack.flows.decode`."""
    flow = decode(family, payload)
    if flow is None:
        return None
    told = dict(attributes(payload))
    seconds = int.from_bytes(told.get(_TIMEOUT, b""), "big")
    if flow.protocol is Protocol.TCP:
        tcp = dict(attributes(dict(attributes(told.get(_PROTOCOL_STATE, b""))).get(_OF_TCP, b"")))
        number = int.from_bytes(tcp.get(_TCP_STATE, b""), "big")
        state = _TCP_STATES[number] if number < len(_TCP_STATES) else ""
    elif flow.status & _ASSURED:
        state = "ASSURED"
    else:
        state = "REPLIED" if flow.status & _SEEN_REPLY else "UNREPLIED"
    return Tracked(flow, state, seconds)
