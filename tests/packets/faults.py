"""Which twelve faults are planted, and which command must name each? See docs/debugging.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from endpoints.names import Protocol
from proxy.facts.finding import Cause
from tests.lab import topology
from tests.lab.objects import Port
from tests.lab.probes import Outcome
from tests.packets import planting
from tests.packets.planting import (
    BALANCER,
    CLIENT,
    ELSEWHERE,
    GONE,
    NODE,
    NODE_PORT,
    POD,
    VIPS,
    Plant,
)


@dataclass(frozen=True)
class Ask:
    """A command on node-a, and what it must say."""

    words: str
    """After `headgate`. FOLDER: of the manifests; FLAGS: those of the running headgate."""
    says: str
    untraced: str = ""
    """What it says where the kernel cannot trace: Debian's user-mode Linux."""
    cause: Cause | None = None
    """Of the only finding; None: it finds nothing on this machine that is wrong."""
    breaks: bool = True


@dataclass(frozen=True)
class Fault:
    """One way for a connection not to arrive. Texts are those of IPv4."""

    number: str
    name: str
    sender: str
    target: str
    meets: Sequence[Outcome | str]
    """What becomes of the connection: an outcome, or who answers that should not."""
    asks: Sequence[Ask]
    plant: Plant
    """Yields how the connection is tried, if it is not a new one."""
    protocol: Protocol = Protocol.TCP
    ipv6: bool = True
    is_advised: bool = False
    """Whether the remedy that the last command tells cures it."""


_FAILS = (Outcome.REFUSED, Outcome.UNREACHABLE, Outcome.TIMEOUT)
_RESET = "it answers with a reset (nothing listens there"
_UNTRACED = "conntrack forgot it at once, as it does after a reset"
_PAY = "explain 10.96.7.7:80 --from 10.244.1.3"
_NODE_PORT = "explain 192.168.0.11:30080 --from 203.0.113.7"

FAULTS = (
    Fault(
        number="1",
        name="endpoint not ready",
        sender=POD,
        target="10.96.7.7:80",
        meets=(Outcome.REFUSED,),
        asks=(Ask(_PAY, "10.244.2.2:8080   not ready"),),
        plant=planting.not_ready,
    ),
    Fault(
        number="2",
        name="wrong zone hints",
        sender=POD,
        target="10.96.7.9:80",
        meets=(Outcome.REFUSED,),
        asks=(
            Ask("trace 10.96.7.9:80", _RESET, _UNTRACED),
            Ask(
                "explain 10.96.7.9:80 --from 10.244.1.3",
                "10.244.3.2:8082   ready, but hinted for zone eu-1b; this node is in eu-1a",
            ),
        ),
        plant=planting.wrong_hints,
    ),
    Fault(
        number="3",
        name="externalTrafficPolicy Local, no pod here",
        sender=CLIENT,
        target="192.168.0.11:30080",
        meets=(Outcome.TIMEOUT,),
        asks=(Ask(_NODE_PORT, "has no endpoint on this node that it may use"),),
        plant=planting.with_spec({"externalTrafficPolicy": "Local"}),
    ),
    Fault(
        number="4",
        name="loadBalancerSourceRanges excludes the client",
        sender=CLIENT,
        target="198.51.100.20:80",
        meets=(Outcome.TIMEOUT,),
        asks=(
            Ask(
                "explain 198.51.100.20:80 --from 203.0.113.7",
                "loadBalancerSourceRanges allows 192.0.2.0/24 only: 203.0.113.7 is outside",
            ),
        ),
        plant=planting.with_spec({"loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8:2::/64"]}),
    ),
    Fault(
        number="5",
        name="Service port mistyped",
        sender=POD,
        target="10.96.7.7:80",
        meets=(Outcome.REFUSED,),
        asks=(Ask(_PAY, "10.96.7.7 has 8080/TCP of shop/pay:http"),),
        plant=planting.with_port(Port(8080, "http", node_port=NODE_PORT)),
    ),
    Fault(
        number="5b",
        name="targetPort mistyped",
        sender=POD,
        target="10.96.7.7:80",
        meets=(Outcome.REFUSED,),
        asks=(Ask("trace 10.96.7.7:80", _RESET, _UNTRACED),),
        plant=planting.with_port(Port(80, "http", node_port=NODE_PORT, target=9999)),
    ),
    Fault(
        number="6",
        name="rules flushed while headgate is stopped",
        sender=POD,
        target="10.96.7.7:80",
        meets=_FAILS,
        asks=(Ask("diff --manifests FOLDER --node node-a FLAGS", "nobody repairs this"),),
        plant=planting.flushed,
    ),
    Fault(
        number="7",
        name="a DNAT rule of others comes first",
        sender=POD,
        target="10.96.7.7:80",
        meets=(ELSEWHERE,),
        asks=(
            Ask(
                _PAY,
                "translates 10.96.7.7:80/TCP to 10.244.3.2:8080",
                cause=Cause.FOREIGN_TRANSLATION,
            ),
        ),
        plant=planting.foreign,
        is_advised=True,
    ),
    Fault(
        number="8",
        name="conntrack table full",
        sender=POD,
        target="10.96.7.7:80",
        meets=(Outcome.TIMEOUT,),
        asks=(Ask(_PAY, "conntrack table is full", cause=Cause.CONNTRACK_FULL),),
        plant=planting.full,
    ),
    Fault(
        number="9",
        name="rp_filter",
        sender=CLIENT,
        target="192.168.0.11:30080",
        meets=(Outcome.TIMEOUT,),
        asks=(
            Ask(
                _NODE_PORT,
                "would drop those from 203.0.113.7 if they arrive on eth0",
                cause=Cause.REVERSE_PATH,
                breaks=False,
            ),
            Ask(
                f"{_NODE_PORT} --interface eth0",
                "rp_filter=1 drops what arrives on eth0 from 203.0.113.7",
                cause=Cause.REVERSE_PATH,
            ),
        ),
        plant=planting.reverse_path,
        ipv6=False,
        is_advised=True,
    ),
    Fault(
        number="10",
        name="no route to the pod",
        sender=POD,
        target="10.96.7.7:80",
        meets=_FAILS,
        asks=(
            Ask(
                _PAY,
                "packets to 10.244.2.2 on node-b go nowhere: there is no route to it",
                cause=Cause.NO_ROUTE,
            ),
        ),
        plant=planting.no_route,
    ),
    Fault(
        number="10b",
        name="only the default route leads to the pod",
        sender=POD,
        target="10.96.7.7:80",
        meets=_FAILS,
        asks=(
            Ask(
                _PAY,
                "pod 10.244.2.2 on node-b has no route but the default one",
                cause=Cause.NO_ROUTE,
                breaks=False,
            ),
        ),
        plant=planting.lost_to_default,
    ),
    Fault(
        number="11",
        name="bridge-nf-call-iptables off",
        sender=POD,
        target="10.96.7.8:80",
        meets=(Outcome.TIMEOUT,),
        asks=(
            Ask(
                "explain 10.96.7.8:80 --from 10.244.1.3",
                "10.244.1.2 answers 10.244.1.3 within bridge cni0",
                cause=Cause.BRIDGE_BYPASS,
            ),
        ),
        plant=planting.bridged,
        is_advised=True,
    ),
    Fault(
        number="12",
        name="stale UDP flow",
        sender=POD,
        target="10.96.0.10:53",
        protocol=Protocol.UDP,
        meets=(Outcome.TIMEOUT, Outcome.UNREACHABLE),
        asks=(
            Ask(
                "explain 10.96.0.10:53/udp --from 10.244.1.3",
                "to 10.244.2.99:8080, which is no endpoint that serves it",
                cause=Cause.STALE_FLOW,
            ),
        ),
        plant=planting.stale,
        is_advised=True,
    ),
)


def in_family(text: str, family: int) -> str:
    """A text about addresses of the lab, in IPv4 (0) or IPv6 (1)."""
    if not family:
        return text

    def other(found: re.Match[str]) -> str:
        address = _IPV6[found[1]]
        return f"[{address}]{found[2]}" if found[2] else address

    return _ADDRESS.sub(other, text)


_ADDRESS = re.compile(r"(\d+\.\d+\.\d+\.\d+(?:/\d+)?)(:\d+)?")
_IPV6: Mapping[str, str] = {
    **dict((*VIPS.values(), BALANCER, GONE)),
    **{f"10.244.{n}.{m}": f"fd00:10:244:{n}::{m}" for n in (1, 2, 3) for m in (2, 3)},
    NODE.addresses[0]: NODE.addresses[1],
    topology.CLIENT_ADDRESSES[0]: topology.CLIENT_ADDRESSES[1],
    "192.0.2.0/24": "2001:db8:2::/64",
}
