"""Which rules of iptables does the IPVS mode need, whatever the Services are? Pure.

They ask the sets, so that they are constant: README.md draws the way of a packet through them.
Packets of the node itself meet IPVS in OUTPUT before the filter table (at -98), those of others in
INPUT after it: what drops stands in mangle, which comes first on both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from endpoints.names import Family, Protocol
from endpoints.node import NodeView
from modes.ipvs.adopt import KUBE_PROXY, OURS
from modes.ipvs.ipsets import NODE_PORTS, Kind, SetName
from modes.ipvs.marks import Layout
from modes.xtables import names
from modes.xtables.abilities import Abilities
from modes.xtables.adopt import Found, is_ours, target
from modes.xtables.chains import (
    FORWARD,
    IPVS_FILTER,
    LOCAL_POLICY,
    LOCAL_POLICY_POST,
    LOOPBACK,
    MARK_MASQ,
    NAT_NODE_PORT,
    NAT_SERVICES,
    NODE_PORT,
    POSTROUTING,
    REFUSE,
    Chain,
    Guest,
    Skeleton,
    local_pods,
    reject,
    remark,
)
from modes.xtables.rules import (
    ACCEPT,
    DROP,
    LOCAL,
    MARK,
    MASQUERADE,
    RETURN,
    SET,
    ChainName,
    Mark,
    Rule,
    SetMatch,
)

ASKED = "-VIRTUAL-SERVERS "
"""Rules of ours ask this set; kube-proxy has no such one."""
_ALL_BITS = 0xFFFFFFFF
_PING = {Family.IPV4: "icmp", Family.IPV6: "ipv6-icmp"}


def whose(families: Iterable[Found]) -> str:
    """Whose the rules are that were found: OURS, KUBE_PROXY, or nobody's."""
    filters = [found[IPVS_FILTER] for found in families if IPVS_FILTER in found]
    if any(ASKED in rule for rules in filters for rule in rules):
        return OURS
    return KUBE_PROXY if filters else ""


def abilities(found: Found) -> Abilities:
    """What the host's iptables can, as far as the rules show that it was given before.

    To try it out would be to write. Where there are no rules of ours, all of it.
    """
    ours = [spec for chain, specs in found.items() if is_ours(chain) for spec in specs]
    masquerades = [spec for spec in ours if target(spec) == MASQUERADE]
    return Abilities(
        comment=not ours or any("--comment " in spec for spec in ours),
        random_fully=not masquerades or any("--random-fully" in spec for spec in masquerades),
        ipvs=not ours or any("-m ipvs " in spec for spec in ours),
    )


def skeleton(node: NodeView, family: Family, abilities: Abilities, layout: Layout) -> Skeleton:
    """The chains and jumps for a node in one family."""
    builder = _Builder(node, family, abilities, layout)
    return Skeleton(
        {
            REFUSE: Chain((reject(family, "tcp"), reject(family, ""))),
            IPVS_FILTER: Chain(tuple(builder.filter())),
            NODE_PORT: Chain(tuple(builder.health_checks())),
            FORWARD: Chain(tuple(builder.forward())),
            LOCAL_POLICY: Chain(tuple(builder.local_policy())),
            LOCAL_POLICY_POST: Chain(tuple(builder.local_policy_post())),
            MARK_MASQ: Chain((Rule(MARK, set_mark=builder.masquerade),)),
            POSTROUTING: Chain(tuple(builder.postrouting())),
            NAT_NODE_PORT: Chain(tuple(builder.node_ports())),
            NAT_SERVICES: Chain(tuple(builder.services())),
        },
        tuple(builder.jumps()),
    )


class _Builder:
    def __init__(
        self, node: NodeView, family: Family, abilities: Abilities, layout: Layout
    ) -> None:
        self.node = node
        self.family = family
        self.abilities = abilities
        self.masquerade = Mark(layout.masquerade, layout.masquerade)
        self.bypass = Mark(layout.tag, layout.mask)
        self.pods = local_pods(node, family)

    def _in(self, kind: Kind, directions: str = "dst,dst") -> SetMatch:
        return SetMatch(str(SetName(kind, self.family)), directions)

    def _not_in(self, kind: Kind, directions: str = "dst,dst") -> SetMatch:
        return SetMatch(str(SetName(kind, self.family)), directions, inverted=True)

    def _note(self, text: str) -> str:
        return remark(self.abilities, text)

    def _sent_on(self) -> Iterator[Rule]:
        """What IPVS has sent to an endpoint is judged by what was asked for, not by where it goes.

        Packets of the node itself meet filter OUTPUT, and the loopback link if the endpoint is
        here, after it: the endpoint's place may be a frontend of another Service.
        """
        if self.abilities.ipvs:
            yield Rule(RETURN, comment=self._note("sent on by IPVS"), is_by_ipvs=True)

    def local_policy(self) -> Iterator[Rule]:
        """Source ranges; and who bypasses policy Local is marked, before all others may drop."""
        yield from self._sent_on()
        firewall = self._in(Kind.LOAD_BALANCER_FW)
        not_itself = self._not_in(Kind.LOAD_BALANCER_SOURCE_IP, "dst,dst,src")
        not_inside = self._not_in(Kind.LOAD_BALANCER_SOURCE_CIDR, "dst,dst,src")
        note = self._note("outside of loadBalancerSourceRanges")
        yield Rule(DROP, comment=note, sets=(firewall, not_inside, not_itself))
        note = self._note("the node itself is outside of loadBalancerSourceRanges")
        held = self._in(Kind.IPVS_IPS, "src")
        yield Rule(DROP, comment=note, sets=(firewall, held, not_itself))
        bypass = self._in(Kind.LOCAL_BYPASS)
        source, interface = self.pods
        if source or interface:
            note = self._note("pods bypass externalTrafficPolicy Local")
            yield Rule(SET, source=source, in_interface=interface, comment=note, map_mark_of=bypass)
        note = self._note("the node itself bypasses externalTrafficPolicy Local")
        yield Rule(SET, comment=note, src_type=LOCAL, map_mark_of=bypass)
        yield Rule(
            DROP,
            comment=self._note("policy Local and no endpoint on this node"),
            mark=self.bypass,
            mark_inverted=True,
            sets=(self._in(Kind.NO_LOCAL_ENDPOINTS),),
        )

    def local_policy_post(self) -> Iterator[Rule]:
        """The mark has done its work, and must not lead IPVS to the packet around this one."""
        masquerade = Mark(self.masquerade.value, _ALL_BITS)
        note = self._note("the node itself: masquerade")
        yield Rule(MARK, comment=note, mark=self.bypass, src_type=LOCAL, set_mark=masquerade)
        yield Rule(MARK, mark=self.bypass, set_mark=Mark(0, _ALL_BITS))

    def filter(self) -> Iterator[Rule]:
        """Only virtual servers answer at the addresses that the node holds for Services."""
        yield from self._sent_on()
        yield Rule(RETURN, protocol=_PING[self.family])
        note = self._note("services without endpoints")
        yield Rule(names.REFUSE, comment=note, sets=(self._in(Kind.NO_ENDPOINTS),))
        yield Rule(RETURN, mark=self.bypass)
        yield Rule(RETURN, sets=(self._in(Kind.VIRTUAL_SERVERS),))
        note = self._note("no process of the node answers for services")
        yield Rule(names.REFUSE, comment=note, sets=(self._in(Kind.IPVS_IPS, "dst"),))

    def health_checks(self) -> Iterator[Rule]:
        note = self._note("Kubernetes health check node port")
        yield Rule(
            ACCEPT,
            protocol="tcp",
            comment=note,
            sets=(self._in(Kind.HEALTH_CHECK_NODE_PORT, "dst"),),
        )

    def forward(self) -> Iterator[Rule]:
        note = self._note("kubernetes forwarding rules")
        yield Rule(ACCEPT, mark=self.masquerade, comment=note)
        note = self._note("kubernetes forwarding conntrack rule")
        yield Rule(ACCEPT, ct_state=("ESTABLISHED", "RELATED"), comment=note)

    def services(self) -> Iterator[Rule]:
        """What is masqueraded, hairpins and packets of the node to addresses it holds aside."""
        yield Rule(RETURN, source=LOOPBACK[self.family])
        yield from self._cluster_ips()
        note = self._note("Kubernetes service external ip, policy Cluster")
        yield Rule(names.MARK_MASQ, comment=note, sets=(self._in(Kind.EXTERNAL_IP),))
        note = self._note("Kubernetes service lb portal, policy Cluster")
        yield Rule(
            names.MARK_MASQ,
            comment=note,
            sets=(self._in(Kind.LOAD_BALANCER), self._not_in(Kind.LOAD_BALANCER_LOCAL)),
        )
        yield Rule(names.NODE_PORT, dst_type=LOCAL)

    def _cluster_ips(self) -> Iterator[Rule]:
        note = self._note("Kubernetes service cluster ip")
        of = (self._in(Kind.CLUSTER_IP),)
        source, interface = self.pods
        if self.node.masquerade_all:
            yield Rule(names.MARK_MASQ, comment=note, sets=of)
        elif source:
            yield Rule(names.MARK_MASQ, source=source, inverted="source", comment=note, sets=of)
        elif interface:
            yield Rule(
                names.MARK_MASQ,
                in_interface=interface,
                inverted="in_interface",
                comment=note,
                sets=of,
            )

    def node_ports(self) -> Iterator[Rule]:
        note = self._note("Kubernetes nodeport, policy Cluster")
        for protocol, (every, local) in NODE_PORTS.items():
            directions = "dst,dst" if protocol is Protocol.SCTP else "dst"
            yield Rule(
                names.MARK_MASQ,
                protocol=protocol.lower(),
                comment=note,
                sets=(self._in(every, directions), self._not_in(local, directions)),
            )

    def postrouting(self) -> Iterator[Rule]:
        fully = self.abilities.random_fully
        note = self._note("a pod that reaches itself (hairpin)")
        hairpin = (self._in(Kind.LOOP_BACK, "dst,dst,src"),)
        yield Rule(MASQUERADE, comment=note, sets=hairpin)
        note = self._note("the node itself, from an address that it holds for services")
        held = (self._in(Kind.IPVS_IPS, "src"),)
        yield Rule(MASQUERADE, comment=note, sets=held, random_fully=fully)
        yield Rule(RETURN, mark=self.masquerade, mark_inverted=True)
        yield Rule(MARK, set_mark=Mark(self.masquerade.value, 0))
        note = self._note("kubernetes service traffic requiring SNAT")
        yield Rule(MASQUERADE, comment=note, random_fully=fully)

    def jumps(self) -> Iterator[Guest]:
        for base in ("INPUT", "OUTPUT"):
            if base == "INPUT":
                yield self._jump(base, NODE_PORT, "kubernetes health check rules")
            yield self._jump(base, IPVS_FILTER, "kubernetes ipvs access filter", is_new=True)
        yield self._jump("FORWARD", FORWARD, "kubernetes forwarding rules")
        for base in ("PREROUTING", "OUTPUT"):
            yield self._jump(base, LOCAL_POLICY, "kubernetes traffic policy", is_new=True)
            yield self._jump(base, NAT_SERVICES, "kubernetes service portals")
        yield self._jump("POSTROUTING", LOCAL_POLICY_POST, "kubernetes traffic policy")
        yield self._jump("POSTROUTING", POSTROUTING, "kubernetes postrouting rules")

    def _jump(self, base: str, to: ChainName, note: str, *, is_new: bool = False) -> Guest:
        states = ("NEW",) if is_new else ()
        rule = Rule(to.name, ct_state=states, comment=self._note(note))
        return Guest(ChainName(to.table, base), rule)
