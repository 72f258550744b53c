"""Which rules does one Service need? Pure.

The fragment of a Service: chains of its own, and single rules in chains that all Services share.
Shared rules may stand in any order: the plans have settled who owns an address and port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.iptables.rendering import Rendering
from modes.iptables.service_chains import (
    cluster_chain,
    endpoint_chain,
    external_chain,
    firewall_chain,
    local_chain,
)
from modes.xtables import chains, names
from modes.xtables.chains import LOOPBACK, local_pods, reject, remark
from modes.xtables.counters import LOCALHOST_NODEPORTS
from modes.xtables.names import Table
from modes.xtables.rules import ACCEPT, DNAT, DROP, LOCAL, RETURN, ChainName, Rule, share

NO_ENDPOINTS = "has no endpoints"
NO_LOCAL_ENDPOINTS = "has no local endpoints"
KIND = {
    FrontendKind.CLUSTER_IP: "cluster IP",
    FrontendKind.EXTERNAL_IP: "external IP",
    FrontendKind.LOAD_BALANCER: "loadbalancer IP",
}
"""How kube-proxy's comments call a frontend."""


class Fragment(msgspec.Struct, frozen=True):
    """The rules of one Service in one family."""

    chains: Mapping[ChainName, tuple[Rule, ...]]
    """Its own, whole; those that are jumped to come first."""
    shared: tuple[tuple[ChainName, Rule], ...]


def count_endpoints(plans: Iterable[ServicePlan], family: Family) -> int:
    """How many endpoints the ports of a Service have, each port's counted for itself."""
    return sum(len({*plan.cluster, *plan.local}) for plan in plans if plan.family is family)


def render(
    plans: Iterable[ServicePlan], node: NodeView, styles: Mapping[Family, Rendering]
) -> dict[Family, Fragment]:
    """The fragments of one Service; families in which it has no plan are left out."""
    parts: dict[Family, list[_ServicePort]] = {}
    for plan in plans:
        part = _ServicePort(plan, node, styles[plan.family])
        part.render()
        parts.setdefault(plan.family, []).append(part)
    return {
        family: Fragment(
            {name: rules for part in of for name, rules in part.chains.items()},
            tuple(dict.fromkeys(rule for part in of for rule in part.shared)),
        )
        for family, of in parts.items()
    }


class _ServicePort:
    """One plan on its way into a fragment."""

    def __init__(self, plan: ServicePlan, node: NodeView, style: Rendering) -> None:
        self.plan = plan
        self.style = style
        self.masquerade_all = node.masquerade_all
        self.pods = local_pods(node, plan.family)
        self.serves_loopback = any(map(is_loopback, node.node_ports(plan.family).addresses))
        self.protocol = plan.name.protocol.lower()
        self.title = str(plan.name)
        self.length = 32 if plan.family is Family.IPV4 else 128
        self.sticky = bool(plan.affinity_seconds) and style.abilities.recent
        self.chains: dict[ChainName, tuple[Rule, ...]] = {}
        self.shared: list[tuple[ChainName, Rule]] = []

    def render(self) -> None:
        """Fill `chains` and `shared`."""
        plan = self.plan
        external = [f for f in plan.frontends if f.kind is not FrontendKind.CLUSTER_IP]
        if plan.has_any:
            internal_local = self._internal_policy() is TrafficPolicy.LOCAL
            masquerade = tuple(self._masquerade_internal())
            cluster, local = cluster_chain(plan.name), local_chain(plan.name)
            self._choice(cluster, plan.cluster, () if internal_local else masquerade)
            # A client that is remembered by both lists would be led by one where the other says.
            is_twin = self.sticky and bool(plan.cluster)
            self._choice(local, plan.local, masquerade if internal_local else (), is_twin=is_twin)
            if external:
                self._own(external_chain(plan.name), self._external(external[0].policy))
        for frontend in plan.frontends:
            self._frontend(frontend)
        if plan.health_check_node_port:
            self._health_check(plan.health_check_node_port)

    def _frontend(self, frontend: Frontend) -> None:
        if frontend.kind is FrontendKind.CLUSTER_IP:
            note = self._note(f"{self.plan.name.service} cluster IP")
            rule = Rule(names.REFUSE, destination=self._host(frontend), comment=note)
            self._share(chains.CLUSTER_IPS, rule)
        self._guard(frontend)
        self._dispatch(frontend)

    def _dispatch(self, frontend: Frontend) -> None:
        """Lead to the endpoints, or refuse, or drop."""
        plan, kind = self.plan, frontend.kind
        if not plan.has_any:
            self._refuse(frontend, reject(plan.family, self.protocol), NO_ENDPOINTS)
            return
        is_local = frontend.policy is TrafficPolicy.LOCAL
        if is_local and not plan.local:
            self._refuse(frontend, Rule(DROP), NO_LOCAL_ENDPOINTS)
        if kind is FrontendKind.CLUSTER_IP:
            if plan.local if is_local else plan.cluster:
                chain = local_chain if is_local else cluster_chain
                self._share(chains.NAT_SERVICES, self._to(frontend, chain(plan.name)))
            return
        target = external_chain(plan.name)
        if kind is FrontendKind.NODE_PORT:
            self._node_port(frontend, target)
            return
        if frontend.source_ranges:
            target = firewall_chain(plan.name)
            self._own(target, self._allowed(frontend, external_chain(plan.name)))
        self._share(chains.NAT_SERVICES, self._to(frontend, target))

    def _node_port(self, frontend: Frontend, target: str) -> None:
        if self.style.abilities.counters and self.serves_loopback:
            counted = self._to(frontend, target)
            loopback = LOOPBACK[self.plan.family]
            counted = _with(counted, destination=loopback, counter=LOCALHOST_NODEPORTS)
            self._share(chains.NAT_NODEPORTS, counted)
        self._share(chains.NAT_NODEPORTS, self._to(frontend, target))

    def _to(self, frontend: Frontend, target: str, note: str = "") -> Rule:
        """A rule for what is addressed to a frontend."""
        text = note or KIND.get(frontend.kind, "")
        return Rule(
            target,
            destination=self._host(frontend) if frontend.address else "",
            protocol=self.protocol,
            comment=self._note(f"{self.title} {text}".rstrip()),
            destination_port=frontend.port,
        )

    def _refuse(self, frontend: Frontend, how: Rule, why: str) -> None:
        place = {
            FrontendKind.CLUSTER_IP: chains.SERVICES,
            FrontendKind.NODE_PORT: chains.EXTERNAL_NODEPORTS,
        }.get(frontend.kind, chains.EXTERNAL_SERVICES)
        rule = self._to(frontend, how.target, why)
        self._share(place, _with(rule, reject_with=how.reject_with))

    def _guard(self, frontend: Frontend) -> None:
        """Drop what the source ranges do not allow: what they do is translated by now.

        Without endpoints nothing is, and the ranges are looked at in the filter table too.
        """
        if not frontend.source_ranges:
            return
        firewall = firewall_chain(self.plan.name)
        note = f"traffic not accepted by {firewall}"
        if self.plan.has_any and (self.plan.local or frontend.policy is TrafficPolicy.CLUSTER):
            self._share(chains.PROXY_FIREWALL, self._to(frontend, DROP, note))
            return
        allowed = (*self._allowed(frontend, RETURN), Rule(DROP))
        self._own(firewall, allowed, Table.FILTER)
        self._share(chains.PROXY_FIREWALL, self._to(frontend, firewall, note))

    def _allowed(self, frontend: Frontend, target: str) -> tuple[Rule, ...]:
        note = self._short_note(f"{self.title} loadbalancer IP")
        return tuple(Rule(target, source=cidr, comment=note) for cidr in frontend.source_ranges)

    def _external(self, policy: TrafficPolicy) -> Iterator[Rule]:
        """What comes from outside; pods and the node itself bypass policy Local."""
        where = f"{self.title} external destinations"
        cluster = cluster_chain(self.plan.name)
        if policy is TrafficPolicy.CLUSTER:
            note = self._short_note(f"masquerade traffic for {where}")
            yield Rule(names.MARK_MASQ, comment=note)
            yield Rule(cluster)
            return
        source, interface = self.pods
        if source or interface:
            note = self._short_note(f"pod traffic for {where}")
            yield Rule(cluster, source=source, in_interface=interface, comment=note)
        note = self._short_note(f"masquerade LOCAL traffic for {where}")
        yield Rule(names.MARK_MASQ, src_type=LOCAL, comment=note)
        note = self._short_note(f"route LOCAL traffic for {where}")
        yield Rule(cluster, src_type=LOCAL, comment=note)
        if self.plan.local:
            yield Rule(local_chain(self.plan.name))

    def _internal_policy(self) -> TrafficPolicy | None:
        kinds = (f.policy for f in self.plan.frontends if f.kind is FrontendKind.CLUSTER_IP)
        return next(kinds, None)

    def _masquerade_internal(self) -> Iterator[Rule]:
        """Mark what goes to the cluster IP and does not come from a local pod."""
        source, interface = self.pods
        for frontend in self.plan.frontends:
            if frontend.kind is not FrontendKind.CLUSTER_IP:
                continue
            rule = self._to(frontend, names.MARK_MASQ)
            rule = _with(rule, comment=self._short_note(f"{self.title} cluster IP"))
            if self.masquerade_all:
                yield rule
            elif source:
                yield _with(rule, source=source, inverted="source")
            elif interface:
                yield _with(rule, in_interface=interface, inverted="in_interface")

    def _choice(
        self,
        chain: str,
        endpoints: tuple[Endpoint, ...],
        first: tuple[Rule, ...],
        *,
        is_twin: bool = False,
    ) -> None:
        """A chain that chooses among endpoints, each with the same probability, and theirs."""
        if not endpoints:
            return
        targets: dict[Endpoint, str] = {}
        for endpoint in endpoints:
            if not self.style.large or self.sticky or _may_be_here(endpoint):
                name = endpoint_chain(self.plan.name, endpoint, is_twin=is_twin)
                targets[endpoint] = name
                self._own(name, self._endpoint(name, endpoint))
        rules = list(first)
        if self.sticky:
            for endpoint, target in targets.items():
                seconds = self.plan.affinity_seconds or 0
                note = self._short_note(f"{self.title} -> {endpoint}")
                rules.append(Rule(target, comment=note, recent=target, recent_seconds=seconds))
        for number, endpoint in enumerate(endpoints):
            probability = share(len(endpoints), number)
            if endpoint in targets:
                note = self._short_note(f"{self.title} -> {endpoint}")
                rules.append(Rule(targets[endpoint], comment=note, probability=probability))
            else:
                rules.append(self._translate(endpoint, probability=probability))
        self._own(chain, rules)

    def _endpoint(self, name: str, endpoint: Endpoint) -> Iterator[Rule]:
        note = self._short_note(self.title)
        if _may_be_here(endpoint):
            source = f"{endpoint.address}/{self.length}"
            yield Rule(names.MARK_MASQ, source=source, comment=note)
        yield _with(self._translate(endpoint, note), recent=name if self.sticky else "")

    def _translate(self, endpoint: Endpoint, note: str = "", probability: int = 0) -> Rule:
        return Rule(
            DNAT,
            protocol=self.protocol,
            comment=note,
            probability=probability,
            to_destination=str(endpoint),
        )

    def _health_check(self, port: int) -> None:
        text = f"{self.plan.name.service} health check node port"
        rule = Rule(ACCEPT, protocol="tcp", destination_port=port, comment=self._note(text))
        self._share(chains.NODEPORTS, rule)

    def _host(self, frontend: Frontend) -> str:
        return f"{frontend.address}/{self.length}"

    def _note(self, text: str) -> str:
        """A comment that is always there: `dump` has the names of Services from these."""
        return remark(self.style.abilities, text)

    def _short_note(self, text: str) -> str:
        """A comment that only readers need."""
        return "" if self.style.large else remark(self.style.abilities, text)

    def _own(self, chain: str, rules: Iterable[Rule], table: Table = Table.NAT) -> None:
        self.chains[ChainName(table, chain)] = tuple(rules)

    def _share(self, chain: ChainName, rule: Rule) -> None:
        self.shared.append((chain, rule))


def _may_be_here(endpoint: Endpoint) -> bool:
    """Only a pod of this node can reach itself through this node."""
    return endpoint.is_local or endpoint.node is None


def _with(rule: Rule, **fields: object) -> Rule:
    return msgspec.structs.replace(rule, **fields)
