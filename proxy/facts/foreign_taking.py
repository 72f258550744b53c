"""Which rules of others keep a packet from going where a Service sends it? Pure.

The order in which the kernel asks (netfilter of Linux 5.10 and newer):

* Chains of one hook come by priority; those of type nat all together at -100 (prerouting, output),
  by priority among themselves, and the first that translates has the last word. Of two that are
  registered with the same priority, the younger one comes first.
* What is translated in prerouting or output is seen with its endpoint for a destination by all
  that comes after. IPVS takes a packet in input at 99, or in output at -99, and sends it to its
  endpoint through output, from the begin, and postrouting; it does not pass forward.
* What no conntrack entry is made for (notrack, before -200) is not translated at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from endpoints.addresses import bracketed, family
from endpoints.explain import Explanation, Forward, Hook, Hop, Packet, Pass
from endpoints.names import Family
from endpoints.node import NodeView
from endpoints.plan import Endpoint, FrontendKind, TrafficPolicy
from proxy.facts.finding import Cause, Finding
from proxy.facts.foreign import KUBE_PROXY, OF_KUBERNETES, ForeignChain, ForeignChains, Kind
from proxy.facts.foreign_replies import reply, stages
from proxy.facts.foreign_way import (
    ENDS,
    HIGHEST,
    SOURCES,
    TRANSLATIONS,
    Seen,
    Stage,
    Taken,
    Way,
    chains_of,
)

_CONNTRACK, _DNAT, _SNAT = -200, -100, 100
_IPVS = "ipvs"
_NFT = "nft"
_POSTROUTING = "postrouting"
_NAMED_ENDPOINTS = 4


class _Hit(NamedTuple):
    taken: Taken
    certain: bool
    in_doubt: bool
    """Whether it comes before our own rules is not known."""

    @property
    def key(self) -> tuple[str, str]:
        """Of two with one key the same is told."""
        return self.taken.base.place, self.taken.rule.text


def taking(
    rules: ForeignChains,
    packet: Packet,
    explanation: Explanation,
    node: NodeView,
    mode: str,
    leaves_by: Mapping[str, str] | None = None,
) -> tuple[Finding, ...]:
    """What rules of others do to this packet, certainly or possibly.

    `rules`: of `foreign_rules`; `mode`: the one that serves; `leaves_by`: the interface towards an
    endpoint's address, as far as it is known. Possible is only told of rules that name the packet's
    destination address or port, or drop by its source; of rules for replies those that name either
    address or the endpoint's port. Breaks: certain, for all endpoints that the packet may go to.
    """
    return tuple(_Search(rules, packet, explanation, node, mode, leaves_by or {}).findings())


class _Search:
    def __init__(
        self,
        rules: ForeignChains,
        packet: Packet,
        explanation: Explanation,
        node: NodeView,
        mode: str,
        leaves_by: Mapping[str, str],
    ) -> None:
        self._rules = rules
        self._by_name = chains_of(rules)
        self._packet = packet
        self._explanation = explanation
        self._node = node
        self._is_ipvs = mode == _IPVS
        self._mode = mode
        self._leaves_by = leaves_by
        self._family = "ip" if family(packet.destination) is Family.IPV4 else "ip6"
        frontend = explanation.frontend
        held = {frontend.address} if node.holds_addresses and frontend and frontend.address else {}
        self._local = node.addresses | frozenset(held)

    def findings(self) -> Iterator[Finding]:
        """All of them, in the order of the packet's way."""
        verdict = self._explanation.verdict
        passes = isinstance(verdict, Pass)
        hits = self._road(self._before())
        for hit in hits:
            if not passes or hit.taken.rule.kind in TRANSLATIONS:
                yield self._told_before(hit, breaks=hit.certain and not passes)
        stops = any(hit.certain and hit.taken.rule.kind is not Kind.NOTRACK for hit in hits)
        if isinstance(verdict, Forward) and not stops:
            yield from self._behind(verdict)

    # Until our own rules see the packet.

    def _seen(self, destination: str = "", port: int = 0) -> Seen:
        is_own = self._packet.hook is Hook.OUTPUT
        return Seen(
            self._family,
            self._packet.source,
            destination or self._packet.destination,
            port or self._packet.port,
            self._packet.protocol.lower(),
            arrives_on="" if is_own else self._packet.interface,
            leaves_by=self._leaves_by.get(destination) if is_own else "",
            local=self._local,
        )

    def _before(self) -> Iterator[Stage]:
        seen, hook = self._seen(), str(self._packet.hook)
        if self._packet.hook is Hook.PREROUTING:
            yield Stage("ingress", seen)
        yield Stage(hook, seen, highest=_DNAT)
        yield Stage(hook, seen, nat=True)
        if self._is_ipvs and self._packet.hook is Hook.PREROUTING:
            yield Stage(hook, seen, lowest=_DNAT + 1)
            yield Stage("input", seen, highest=_SNAT - 2)

    # From then on.

    def _behind(self, verdict: Forward) -> Iterator[Finding]:
        found: dict[tuple[str, str], tuple[_Hit, list[Endpoint]]] = {}
        replied: dict[tuple[str, str], tuple[_Hit, list[Endpoint]]] = {}
        for hop in sorted(verdict.hops):
            hits = self._road(self._after(hop.endpoint, masqueraded=hop.masqueraded))
            for hit in hits:
                found.setdefault(hit.key, (hit, []))[1].append(hop.endpoint)
            if not any(hit.certain for hit in hits):
                for hit in self._road(self._back(hop)):
                    replied.setdefault(hit.key, (hit, []))[1].append(hop.endpoint)
        for hit, endpoints in found.values():
            yield _told_behind(hit, endpoints, breaks=len(endpoints) == len(verdict.hops))
        for key, (hit, endpoints) in replied.items():
            if key not in found:
                yield _told_of_replies(hit, endpoints)
        yield from self._sources(verdict)

    def _after(self, endpoint: Endpoint, *, masqueraded: bool) -> Iterator[Stage]:
        states = frozenset(("NEW",) if self._is_ipvs else ("NEW", "DNAT"))
        seen = self._seen(endpoint.address, endpoint.port)
        seen = seen._replace(states=states, masqueraded=masqueraded)
        leaves_by = self._leaves_by.get(endpoint.address)
        is_own = self._packet.hook is Hook.OUTPUT
        if endpoint.address in self._node.addresses and not is_own:
            if not self._is_ipvs:
                yield Stage("prerouting", seen, lowest=_DNAT + 1)
                yield Stage("input", seen)
            return
        going = seen._replace(leaves_by=leaves_by)
        if self._is_ipvs:
            yield Stage("output", going._replace(arrives_on=""))
        elif is_own:
            yield Stage("output", going, lowest=_DNAT + 1)
        else:
            yield Stage("prerouting", seen, lowest=_DNAT + 1)
            yield Stage("forward", going)
        leaving = going._replace(arrives_on=None)
        yield Stage(_POSTROUTING, leaving, highest=_SNAT - 1 if masqueraded else HIGHEST)

    def _back(self, hop: Hop) -> Iterator[Stage]:
        first, of_ipvs, packet = self._seen(), self._is_ipvs, self._packet
        seen = reply(packet, hop.endpoint, first, is_ipvs=of_ipvs, snat=hop.masqueraded)
        towards = self._leaves_by.get(hop.endpoint.address)
        return stages(seen, packet, self._node, towards, is_ipvs=of_ipvs)

    def _sources(self, verdict: Forward) -> Iterator[Finding]:
        """Who replaces a source that policy Local promises to keep."""
        frontend = self._explanation.frontend
        if frontend is None or frontend.kind is FrontendKind.CLUSTER_IP:
            return
        if frontend.policy is not TrafficPolicy.LOCAL:
            return
        kept = [hop.endpoint for hop in sorted(verdict.hops) if not hop.masqueraded]
        told = set()
        for endpoint in kept:
            leaving = list(self._after(endpoint, masqueraded=False))[-1:]
            stages = [stage._replace(nat=True) for stage in leaving if stage.hook == _POSTROUTING]
            for stage, chain in ((s, chain) for s in stages for chain in self._chains(s)):
                hits = self._walk(chain, stage.seen, SOURCES, ours_end=False)
                for hit in hits:
                    if hit.certain and (hit.rule, chain) not in told:
                        told.add((hit.rule, chain))
                        yield _finding(
                            Cause.FOREIGN_SOURCE,
                            hit,
                            f"replaces the source {self._packet.source} that "
                            "externalTrafficPolicy Local keeps",
                            breaks=False,
                        )

    # Following.

    def _road(self, stages: Iterator[Stage]) -> list[_Hit]:
        """What takes the packet, up to the first that does so for certain."""
        found: list[_Hit] = []
        for stage in stages:
            follow = self._translating if stage.nat else self._filtering
            for hits in follow(stage):
                found += hits
                if any(h.certain and h.taken.rule.kind is not Kind.NOTRACK for h in hits):
                    return found
        return found

    def _chains(self, stage: Stage) -> list[ForeignChain]:
        """The base chains of a stage, in their order; the younger of two first."""
        found = [
            chain
            for chain in self._rules
            if chain.hook == stage.hook
            and (chain.type == "nat") is stage.nat
            and stage.lowest <= chain.priority <= stage.highest
            and chain.family in (self._family, "inet", "netdev")
        ]
        return sorted(found, key=lambda chain: (chain.priority, -chain.age))

    def _filtering(self, stage: Stage) -> Iterator[list[_Hit]]:
        for chain in self._chains(stage):
            wanted = ENDS | {Kind.TPROXY}
            if chain.priority < _CONNTRACK:
                wanted |= {Kind.NOTRACK}
            certain = True
            if chain.device and chain.device != stage.seen.arrives_on:
                if stage.seen.arrives_on is not None:
                    continue
                certain = False
            taken = self._walk(chain, stage.seen, wanted, certain=certain, ours_end=False)
            yield [_Hit(one, one.certain, in_doubt=False) for one in taken]

    def _translating(self, stage: Stage) -> Iterator[list[_Hit]]:
        ours = self._ours(stage)
        for chain in self._chains(stage):
            if ours and chain.priority > ours.priority:
                return
            taken = self._walk(chain, stage.seen, TRANSLATIONS | ENDS, ours_end=not self._is_ipvs)
            in_doubt = ours is not None and chain is not ours and _is_in_doubt(chain, ours)
            yield [_Hit(one, one.certain and not in_doubt, in_doubt) for one in taken]

    def _ours(self, stage: Stage) -> ForeignChain | None:
        """The chain in which our own rules take the packet; IPVS comes after all of them."""
        if self._is_ipvs:
            return None
        found = [
            chain
            for chain in self._chains(stage)
            if any(rule.kind is Kind.OURS for rule in chain.rules)
        ]
        is_nft = self._mode == "nftables"
        return next((chain for chain in found if (chain.tool == _NFT) is is_nft), None)

    def _walk(
        self,
        chain: ForeignChain,
        seen: Seen,
        wanted: frozenset[Kind],
        *,
        certain: bool = True,
        ours_end: bool,
    ) -> list[Taken]:
        """One that takes it for certain, or the first that may and names the packet."""
        way = Way(self._by_name, chain, seen, wanted)
        way.walk(certain=certain, ours_end=ours_end)
        sure = [one for one in way.taken if one.certain]
        named = [one for one in way.taken if one.named or one.chain.table == KUBE_PROXY]
        return (sure or named)[:1]

    # Telling.

    def _told_before(self, hit: _Hit, *, breaks: bool) -> Finding:
        kind = hit.taken.rule.kind
        place = f"{bracketed(self._packet.destination)}:{self._packet.port}"
        what = f"{place}/{self._packet.protocol}"
        cause = Cause.FOREIGN_DROP if kind in ENDS else Cause.FOREIGN_TRANSLATION
        does = {
            Kind.DROP: f"drops {what}",
            Kind.REJECT: f"refuses {what}",
            Kind.REDIRECT: f"takes {what} to this machine itself",
            Kind.TPROXY: f"takes {what} to a proxy on this machine",
            Kind.NOTRACK: f"keeps {what} from conntrack, without which nothing is translated",
        }.get(kind, f"translates {what}")
        if kind is Kind.DNAT and hit.taken.rule.to:
            does += f" to {hit.taken.rule.to}"
        return _finding(cause, hit.taken, does, breaks=breaks, in_doubt=hit.in_doubt)


def _is_in_doubt(chain: ForeignChain, ours: ForeignChain) -> bool:
    """Of two with one priority the younger comes first, and only tables tell their age."""
    if chain.priority != ours.priority:
        return False
    return not (chain.age and ours.age and chain.age > ours.age)


def _told_of_replies(hit: _Hit, endpoints: list[Endpoint]) -> Finding:
    """Never that it breaks: whether they come back through this node is not known here."""
    verb = {
        Kind.NOTRACK: "keeps from conntrack",
        Kind.REJECT: "refuses",
        Kind.TPROXY: "takes to a proxy",
    }.get(hit.taken.rule.kind, "drops")
    does = f"{verb} replies of {_named(endpoints)}"
    return _finding(Cause.FOREIGN_DROP, hit.taken, does, breaks=False)


def _named(endpoints: list[Endpoint]) -> str:
    names = ", ".join(str(one) for one in endpoints[:_NAMED_ENDPOINTS])
    if len(endpoints) > _NAMED_ENDPOINTS:
        names += f" and {len(endpoints) - _NAMED_ENDPOINTS} more"
    return names


def _told_behind(hit: _Hit, endpoints: list[Endpoint], *, breaks: bool) -> Finding:
    verb = {Kind.REJECT: "refuses", Kind.TPROXY: "takes to a proxy"}.get(
        hit.taken.rule.kind, "drops"
    )
    does = f"{verb} what goes on to {_named(endpoints)}"
    return _finding(Cause.FOREIGN_DROP, hit.taken, does, breaks=breaks and hit.certain)


def _finding(
    cause: Cause, taken: Taken, does: str, *, breaks: bool, in_doubt: bool = False
) -> Finding:
    hook = f"hook {taken.base.hook}, priority {taken.base.priority}"
    doubt = ""
    if in_doubt:
        doubt = " if it comes before headgate's, which has the same priority"
    elif not taken.certain:
        doubt = " under conditions that are not known here"
    text = f"{taken.chain.place} ({hook}) {does}{doubt}: {taken.rule.text}"
    return Finding(cause, breaks, text, _remedy(taken))


def _remedy(taken: Taken) -> str:
    chain, rule = taken.chain, taken.rule
    if chain.table == KUBE_PROXY or chain.name.startswith(OF_KUBERNETES):
        return "see what kube-proxy left: stop it, then kube-proxy --cleanup"
    if chain.tool == _NFT and rule.number:
        where = f"{chain.family} {chain.table} {chain.name}"
        return f"nft delete rule {where} handle {rule.number}"
    if chain.tool == _NFT:
        return f"nft chain {chain.family} {chain.table} {chain.name} '{{ policy accept; }}'"
    table = f"{chain.command} -t {chain.table}"
    return (
        f"{table} -D {chain.name} {rule.number}"
        if rule.number
        else f"{table} -P {chain.name} ACCEPT"
    )
