"""Which chains are there whatever the Services are, and what leads into them? Pure.

README.md draws how they hang together. The layout is kube-proxy's (REFERENCE A.2, iptables
chains); what is ours alone is said where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from modes.iptables.rendering import Rendering
from modes.xtables import names
from modes.xtables.chains import (
    CLUSTER_IPS,
    EXTERNAL_NODEPORTS,
    EXTERNAL_SERVICES,
    FIREWALL,
    FORWARD,
    LOOPBACK,
    MARK_MASQ,
    MARTIANS,
    NAT_NODEPORTS,
    NAT_SERVICES,
    NODEPORTS,
    POSTROUTING,
    PROXY_FIREWALL,
    REFUSE,
    ROUTE_LOCALNET_WAS_OFF,
    SERVICES,
    UNKNOWN_PORTS,
    Chain,
    Guest,
    Skeleton,
    martian_rule,
    reject,
    remark,
)
from modes.xtables.counters import INVALID_DROPPED
from modes.xtables.names import Table
from modes.xtables.rules import (
    ACCEPT,
    DROP,
    LOCAL,
    MARK,
    MASQUERADE,
    RETURN,
    ChainName,
    Mark,
    Rule,
)


def skeleton(
    node: NodeView,
    family: Family,
    style: Rendering,
    *,
    drops_invalid: bool,
    localnet_was_off: bool = False,
) -> Skeleton:
    """The chains and jumps for a node in one family.

    `drops_invalid`: whether packets that conntrack cannot place are dropped; they are where it is
    strict about TCP windows (net.netfilter.nf_conntrack_tcp_be_liberal is 0). `localnet_was_off`:
    whether to note that `net.ipv4.conf.all.route_localnet` was 0 before us.
    """
    found = _Builder(node, family, style).skeleton(drops_invalid=drops_invalid)
    if localnet_was_off:
        found.chains[ROUTE_LOCALNET_WAS_OFF] = Chain()
    return found


class _Builder:
    def __init__(self, node: NodeView, family: Family, style: Rendering) -> None:
        self.node_ports = node.node_ports(family)
        self.family = family
        self.style = style
        mark = style.masquerade_mark
        self.mark = Mark(mark, mark)
        self.serves_loopback = any(map(is_loopback, self.node_ports.addresses))

    def skeleton(self, *, drops_invalid: bool) -> Skeleton:
        translated = (Rule(RETURN, ct_state=("DNAT",)),)
        to_node_ports = tuple(self._to_node_ports(names.NODEPORTS))
        refused_node_ports = tuple(self._to_node_ports(names.EXTERNAL_NODEPORTS))
        unknown_ports = Rule(names.UNKNOWN_PORTS)
        return Skeleton(
            {
                REFUSE: Chain((reject(self.family, "tcp"), reject(self.family, ""))),
                CLUSTER_IPS: Chain(is_shared=True),
                UNKNOWN_PORTS: Chain(),
                SERVICES: Chain(translated, is_shared=True),
                EXTERNAL_NODEPORTS: Chain(is_shared=True),
                EXTERNAL_SERVICES: Chain(
                    translated, (unknown_ports, *refused_node_ports), is_shared=True
                ),
                PROXY_FIREWALL: Chain(translated, is_shared=True),
                NODEPORTS: Chain(is_shared=True),
                FORWARD: Chain(tuple(self._forward(drops_invalid=drops_invalid))),
                MARK_MASQ: Chain((Rule(MARK, set_mark=self.mark),)),
                POSTROUTING: Chain(tuple(self._postrouting())),
                NAT_NODEPORTS: Chain(is_shared=True),
                NAT_SERVICES: Chain(tail=to_node_ports, is_shared=True),
            },
            (*self._jumps(), *self._martians()),
        )

    def _remark(self, text: str) -> str:
        return remark(self.style.abilities, text)

    def _to_node_ports(self, chain: str) -> Iterator[Rule]:
        text = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
        note = self._remark(text)
        length = 32 if self.family is Family.IPV4 else 128
        for address in self.node_ports.addresses:
            # Since localhost is routed, a neighbour may route packets for it here (CVE-2020-8558).
            source = LOCAL if is_loopback(address) else ""
            yield Rule(chain, destination=f"{address}/{length}", src_type=source, comment=note)
        if self.node_ports.match_all:
            yield Rule(
                chain,
                destination=LOOPBACK[self.family],
                inverted="destination",
                dst_type=LOCAL,
                comment=note,
            )

    def _forward(self, *, drops_invalid: bool) -> Iterator[Rule]:
        if drops_invalid:
            counter = INVALID_DROPPED if self.style.abilities.counters else ""
            yield Rule(DROP, ct_state=("INVALID",), counter=counter)
        rules = self._remark("kubernetes forwarding rules")
        flows = self._remark("kubernetes forwarding conntrack rule")
        yield Rule(ACCEPT, mark=self.mark, comment=rules)
        yield Rule(ACCEPT, ct_state=("ESTABLISHED", "RELATED"), comment=flows)

    def _postrouting(self) -> Iterator[Rule]:
        note = self._remark("kubernetes service traffic requiring SNAT")
        yield Rule(RETURN, mark=self.mark, mark_inverted=True)
        yield Rule(MARK, set_mark=Mark(self.style.masquerade_mark, 0))
        yield Rule(MASQUERADE, comment=note, random_fully=self.style.abilities.random_fully)

    def _jumps(self) -> Iterator[Guest]:
        """kube-proxy's, and three more: INPUT and OUTPUT see what they refuse there too."""
        firewall = "kubernetes load balancer firewall"
        portals, external = (
            "kubernetes service portals",
            "kubernetes externally-visible service portals",
        )
        for base in ("INPUT", "FORWARD", "OUTPUT"):
            yield self._jump(base, PROXY_FIREWALL, firewall, is_new=True)
            if base == "INPUT":
                yield self._jump(base, NODEPORTS, "kubernetes health check service ports")
            if base == "FORWARD":
                yield self._jump(base, FORWARD, "kubernetes forwarding rules")
            yield self._jump(base, SERVICES, portals, is_new=True)
            yield self._jump(base, EXTERNAL_SERVICES, external, is_new=True)
        for base in ("PREROUTING", "OUTPUT"):
            yield self._jump(base, NAT_SERVICES, portals)
        yield self._jump("POSTROUTING", POSTROUTING, "kubernetes postrouting rules")

    def _jump(self, base: str, to: ChainName, note: str, *, is_new: bool = False) -> Guest:
        states = ("NEW",) if is_new else ()
        rule = Rule(to.name, ct_state=states, comment=self._remark(note))
        return Guest(ChainName(to.table, base), rule)

    def _martians(self) -> Iterator[Guest]:
        """Where localhost is routed, nobody else may reach it (CVE-2020-8558).

        The kubelet makes the same rule in the same chain.
        """
        if not self.serves_loopback or self.family is not Family.IPV4:
            return
        loopback = LOOPBACK[Family.IPV4]
        for base in ("INPUT", "OUTPUT"):
            yield Guest(ChainName(Table.FILTER, base), Rule(names.FIREWALL))
        yield Guest(FIREWALL, martian_rule(loopback, self._remark(MARTIANS)))
