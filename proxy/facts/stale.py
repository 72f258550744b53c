"""Which flows still go where no packet would be sent today? Pure.

A flow keeps what its first packet was given: an endpoint, or no translation at all. For UDP and
SCTP that lasts for as long as packets come from the same port; of TCP only a connection that nobody
has answered yet is lost, for an established one to an endpoint that went is none to save.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from conntrack.flows import End
from endpoints.addresses import bracketed, family
from endpoints.explain import Explanation, Forward, Packet
from endpoints.names import Family, Protocol
from endpoints.plan import EndpointState
from proxy.facts.facts import Tracked
from proxy.facts.finding import Cause, Finding

_BEGINNING = "SYN_SENT"


def stale_flows(
    packet: Packet, explanation: Explanation, flows: Iterable[Tracked]
) -> Iterator[Finding]:
    """One finding for each end to which flows go that is no endpoint of the Service.

    As in `conntrack.stale`, an endpoint that serves keeps its flows though policy or topology
    would not choose it now; and flows in zones of others are not looked at.
    """
    if not isinstance(explanation.verdict, Forward):
        return
    serving = {End(hop.endpoint.address, hop.endpoint.port) for hop in explanation.verdict.hops}
    serving |= {
        End(of.endpoint.address, of.endpoint.port)
        for of in explanation.unused
        if of.endpoint.state is not EndpointState.NOT_READY
    }
    stale: defaultdict[End, list[Tracked]] = defaultdict(list)
    for entry in flows:
        answering = entry.flow.reply.source
        is_kept = packet.protocol is not Protocol.TCP or entry.state == _BEGINNING
        if is_kept and entry.flow.zone == 0 and answering not in serving:
            stale[answering].append(entry)
    for answering, entries in sorted(stale.items()):
        yield _finding(packet, answering, entries)


def _finding(packet: Packet, answering: End, entries: Sequence[Tracked]) -> Finding:
    asked = End(packet.destination, packet.port)
    is_translated = answering != asked
    where = (
        f"{_end(answering)}, which is no endpoint that serves it"
        if is_translated
        else "no endpoint: they began before the rules, and nothing translates them"
    )
    clients = [entry.flow.original.source for entry in entries]
    of_client = [client for client in clients if client.address == packet.source]
    shown = _end((of_client or clients)[0])
    whose = shown if len(entries) == 1 else f"{shown} and {len(entries) - 1} more"
    seconds = max(entry.seconds_left for entry in entries)
    text = (
        f"conntrack still sends packets from {whose} for {_end(asked)}/{packet.protocol} to "
        f"{where} (for {seconds} s, and longer while packets come)"
    )
    # A sender of datagrams goes on from its port; a client of TCP tries again from another one.
    breaks = bool(of_client) and packet.protocol is not Protocol.TCP
    return Finding(Cause.STALE_FLOW, breaks, text, _remedy(packet, answering))


def _remedy(packet: Packet, answering: End) -> str:
    ipv6 = "-f ipv6 " if family(packet.destination) is Family.IPV6 else ""
    return (
        f"conntrack -D {ipv6}-p {packet.protocol.lower()} --orig-dst {packet.destination} "
        f"--orig-port-dst {packet.port} --reply-src {answering.address}"
    )


def _end(of: End) -> str:
    return f"{bracketed(of.address)}:{of.port}"
