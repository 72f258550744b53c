"""What does this machine do to packets that explains what became of a flow?"""

from __future__ import annotations

from endpoints.explain import Explanation, Forward, Hook, Hop, Packet, Pass
from endpoints.node import NodeView
from endpoints.plan import Endpoint
from modes.tracing.following import Flow
from modes.tracing.kernel import link_name
from modes.tracing.outcome import Became, Outcome
from modes.tracing.program import PREROUTING, Aim
from proxy.facts import machine
from proxy.facts.finding import Finding
from proxy.facts.findings import findings
from proxy.facts.routing import ways

_NOBODY = NodeView(name="", zone="", addresses=frozenset())


def causes(aim: Aim, flow: Flow, became: Became, node: NodeView | None) -> tuple[Finding, ...]:
    """Of a flow that was lost or not answered, and by no rule; asks the kernel, changes nothing.

    `node`: None where nobody says what this node is. Raises EnvironmentFault and KernelFault.
    """
    if became.outcome in (Outcome.REACHED, Outcome.REFUSED) or became.rule is not None:
        return ()
    first, now = flow.way.first, flow.way.latest.header.ends
    is_sent_here = first.place.hook != PREROUTING
    packet = Packet(
        flow.ends.source,
        aim.address,
        aim.port,
        aim.protocol,
        Hook.OUTPUT if is_sent_here else Hook.PREROUTING,
        None if is_sent_here else link_name(first.arrived_by),
    )
    explanation = Explanation(Pass(), ())
    if (now.destination, now.destination_port) != (aim.address, aim.port):
        chosen = Endpoint(now.destination, now.destination_port)
        hops = frozenset({Hop(chosen, now.source != flow.ends.source)})
        explanation = Explanation(Forward(hops), ())
    facts = machine.facts()
    asked = ways(packet, explanation, facts)
    return findings(packet, explanation, node or _NOBODY, facts, asked, machine.flows(packet))
