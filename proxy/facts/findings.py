"""What on this machine, besides our rules, keeps a connection from arriving? Pure.

A healthy machine gives no finding: each has a cause that breaks the connection, or that breaks it
under a condition which the sentence names.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.explain import Explanation, Packet
from endpoints.node import NodeView
from proxy.facts.bridges import bridges
from proxy.facts.facts import Facts, Tracked, Ways
from proxy.facts.finding import Cause, Finding
from proxy.facts.reach import reach
from proxy.facts.stale import stale_flows

_COUNT, _MOST = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
_NEARLY = 0.95


def findings(
    packet: Packet,
    explanation: Explanation,
    node: NodeView,
    facts: Facts,
    ways: Ways,
    flows: tuple[Tracked, ...],
) -> tuple[Finding, ...]:
    """What was found, certain breaks first.

    `ways` and `flows` are of this packet and explanation; empty ones, `Ways()` and `()`, as of
    a snapshot, are not judged.
    """
    found = [
        *_conntrack_table(facts),
        *reach(packet, explanation, node, facts, ways),
        *bridges(packet, explanation, facts, ways),
        *stale_flows(packet, explanation, flows),
    ]
    return tuple(sorted(found, key=lambda finding: not finding.breaks))


def _conntrack_table(facts: Facts) -> Iterator[Finding]:
    """Without room for a flow the kernel drops its first packet, unless another one can be lost."""
    count, most = facts.number(_COUNT), facts.number(_MOST)
    if count is None or not most or count < _NEARLY * most:
        return
    is_full = count >= most
    state = "full" if is_full else "nearly full"
    fate = "packets of new connections are dropped" if is_full else "soon new connections fail"
    yield Finding(
        Cause.CONNTRACK_FULL,
        is_full,
        f"conntrack table is {state}: {count} of {most} entries ({_MOST}), so {fate}",
        f"sysctl -w {_MOST}={2 * most}, and set conntrack.min of the configuration to as much",
    )
