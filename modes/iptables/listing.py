"""Which rules does a node get, in the words of iptables-save? Pure: no kernel is asked."""

from __future__ import annotations

from collections.abc import Mapping

from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import ModeSettings, Plans
from modes.iptables.fragment import count_endpoints, render
from modes.iptables.program import ServiceProgram, written
from modes.iptables.rendering import LARGE_CLUSTER, Rendering
from modes.iptables.skeleton import skeleton
from modes.xtables.listing import ListedTable, listed, text

__all__ = ["ListedTable", "tables", "text"]


def tables(
    services: Mapping[ObjectName, Plans], node: NodeView, settings: ModeSettings
) -> tuple[ListedTable, ...]:
    """The tables of both families that hold these Services on this node.

    For hosts whose iptables has all that we use but the counters of nfacct, and on which conntrack
    is strict (net.netfilter.nf_conntrack_tcp_be_liberal is 0).
    """
    programs = (_program(family, services, node, settings) for family in Family)
    return tuple(table for program in programs for table in listed(program))


def _program(
    family: Family,
    services: Mapping[ObjectName, Plans],
    node: NodeView,
    settings: ModeSettings,
) -> ServiceProgram:
    own = {name: [p for p in plans if p.family is family] for name, plans in services.items()}
    endpoints = sum(count_endpoints(plans, family) for plans in own.values())
    style = Rendering(
        masquerade_bit=settings.masquerade_bit,
        large=endpoints > LARGE_CLUSTER,
    )
    program = ServiceProgram(family, skeleton(node, family, style, drops_invalid=True))
    styles = {family: style}
    program.commit(
        {name: written(family, render(of, node, styles).get(family)) for name, of in own.items()}
    )
    return program
