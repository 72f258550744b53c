"""Which answers never come back from a bridge? Pure.

A bridge forwards frames between its ports by itself. With br_netfilter it shows the packets in them
to netfilter first, as if they were routed; without it, what one pod answers to another one on the
same bridge passes nobody who would translate it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from endpoints.addresses import family
from endpoints.explain import Explanation, Forward, Hook, Packet
from endpoints.names import Family
from proxy.facts.facts import Facts, Link, Way, Ways
from proxy.facts.finding import Cause, Finding
from proxy.facts.wording import listed


def bridges(
    packet: Packet, explanation: Explanation, facts: Facts, ways: Ways
) -> Iterator[Finding]:
    """Findings on endpoints that hang on the client's own bridge."""
    verdict = explanation.verdict
    if packet.hook is not Hook.PREROUTING or not isinstance(verdict, Forward):
        return
    masqueraded = {hop.endpoint.address for hop in verdict.hops if hop.masqueraded}
    of = family(packet.destination)
    near = list(_near(packet, facts, ways))
    direct = [
        (bridge, way.destination)
        for bridge, way in near
        if way.destination not in masqueraded and not facts.calls_netfilter(bridge, of)
    ]
    if direct:
        is_all = len(direct) == len(ways.there)
        yield _bypass(
            packet, facts, direct[0][0], [address for _, address in direct], is_all=is_all
        )
    for bridge, way in near:
        is_shown = facts.calls_netfilter(bridge, of)
        if way.destination == packet.source and is_shown and not _returns(facts, bridge):
            yield _hairpin(packet, bridge, is_only=len(ways.there) == 1)


def _near(packet: Packet, facts: Facts, ways: Ways) -> Iterator[tuple[Link, Way]]:
    """The endpoints that are in one network with the client, on one bridge."""
    homes = {way.interface for way in ways.back if not way.error}
    for way in ways.there:
        bridge = facts.link(way.interface)
        if (
            bridge is not None
            and bridge.kind == "bridge"
            and bridge.name in homes
            and facts.is_neighbour(bridge, way.destination, packet.source)
        ):
            yield bridge, way


def _returns(facts: Facts, bridge: Link) -> bool:
    """Whether any port may send a frame back: which is the client's is not known."""
    return any(link.hairpin for link in facts.links if link.master == bridge.name)


def _bypass(
    packet: Packet, facts: Facts, bridge: Link, endpoints: Iterable[str], *, is_all: bool
) -> Finding:
    tables = "ip6tables" if family(packet.destination) is Family.IPV6 else "iptables"
    sysctl = f"net.bridge.bridge-nf-call-{tables}"
    is_loaded = facts.number(sysctl) is not None
    why = f"{sysctl} is 0" if is_loaded else "the kernel module br_netfilter is not loaded"
    text = (
        f"{why}: {listed(endpoints)} answers {packet.source} within bridge {bridge.name}, "
        f"where nothing translates the answer back to {packet.destination}"
    )
    remedy = f"sysctl -w {sysctl}=1"
    remedy = remedy if is_loaded else f"modprobe br_netfilter && {remedy}"
    return Finding(Cause.BRIDGE_BYPASS, is_all, text, remedy)


def _hairpin(packet: Packet, bridge: Link, *, is_only: bool) -> Finding:
    text = (
        f"no port of bridge {bridge.name} has hairpin mode: {packet.source} does not reach itself "
        "by a Service"
    )
    remedy = (
        "bridge link set dev PORT hairpin on, for the pod's port; for new pods set hairpinMode in "
        "the configuration of the CNI plug-in"
    )
    return Finding(Cause.HAIRPIN, is_only, text, remedy)
