"""Which hooks does an endpoint's reply pass on this node, and as what? Pure.

A reply meets no chain of type nat: conntrack undoes what the first packet met (Linux 5.10 and
newer). What masquerade put in as its source is replaced in prerouting or output at -100; the
endpoint's own address becomes the Service's again at the very end, at 100 in postrouting or input.
IPVS does that in forward and input already, from 98 on.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.explain import Hook, Packet
from endpoints.node import NodeView
from endpoints.plan import Endpoint
from proxy.facts.foreign_way import HIGHEST, Seen, Stage

_DESTINATION_NAT, _SOURCE_NAT = -100, 100


def reply(packet: Packet, endpoint: Endpoint, first: Seen, *, is_ipvs: bool, snat: bool) -> Seen:
    """The reply to a packet that `endpoint` got, after prerouting or output.

    `first`: that packet as its own hook saw it; `snat`: it was masqueraded.
    """
    translated = ("SNAT",) * snat if is_ipvs else ("DNAT", *("SNAT",) * snat)
    return first._replace(
        source=endpoint.address,
        source_port=endpoint.port,
        destination=packet.source,
        port=0,
        states=frozenset(("ESTABLISHED", *translated)),
        is_reply=True,
    )


def stages(
    seen: Seen, packet: Packet, node: NodeView, towards: str | None, *, is_ipvs: bool
) -> Iterator[Stage]:
    """The way of a reply, `seen` as `reply` says; `towards`: the interface to the endpoint."""
    is_own = packet.hook is Hook.OUTPUT
    is_snat = "SNAT" in seen.states
    of_process = seen.source in node.addresses
    seen = seen._replace(arrives_on="" if of_process else towards, leaves_by="")
    early = seen._replace(destination="") if is_snat else seen
    going = seen._replace(leaves_by="" if is_own else packet.interface)
    if of_process:
        leaving = going._replace(leaves_by=None) if is_own else going
        yield Stage(
            "output", leaving._replace(destination=early.destination), highest=_DESTINATION_NAT - 1
        )
        yield Stage("output", leaving, lowest=_DESTINATION_NAT)
    else:
        yield Stage("ingress", early)
        yield Stage("prerouting", early, highest=_DESTINATION_NAT - 1)
        yield Stage("prerouting", seen, lowest=_DESTINATION_NAT)
        last = _SOURCE_NAT - (3 if is_ipvs else 1)
        if is_own:
            yield Stage("input", seen, highest=last)
        else:
            yield Stage("forward", going, highest=last if is_ipvs else HIGHEST)
    if not is_own and not is_ipvs:
        yield Stage("postrouting", going._replace(arrives_on=None), highest=_SOURCE_NAT - 1)
