"""What do the rules that the kernel holds mean to an operator? Pure.

Rules of a kube-proxy that was stopped are told in the same way. What neither it nor we write is
passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from endpoints.names import Family
from endpoints.plan import TrafficPolicy
from modes.held import DumpedFrontend, DumpedService
from modes.xtables import chains, names
from modes.xtables.names import Table
from modes.xtables.restore import Unreadable, parse
from modes.xtables.rules import DNAT, DROP, REJECT, ChainName, Rule

_NODE = "node"
_UNKNOWN = "?"
_DISPATCHING = (chains.NAT_SERVICES, chains.NAT_NODEPORTS)
_REFUSING = (chains.SERVICES, chains.EXTERNAL_SERVICES, chains.EXTERNAL_NODEPORTS)
_SVC, _SVL, _EXT, _FW, _SEP = names.OF_A_SERVICE
_BOTH = f"{TrafficPolicy.LOCAL} (pods: {TrafficPolicy.CLUSTER})"


def services_in(
    found: Mapping[Family, Mapping[ChainName, Sequence[str]]],
) -> tuple[DumpedService, ...]:
    """All Services, sorted by name, protocol and family.

    `found`: the chains of each family with the specs of their rules, as `script.read` has them.
    """
    frontends: dict[tuple[str, str, str], list[DumpedFrontend]] = {}
    affinity: dict[tuple[str, str, str], int] = {}
    for family, held in found.items():
        reader = _Reader(family, held)
        for place, way in reader.ways().items():
            service = (place.name, place.protocol, family.value)
            frontends.setdefault(service, []).append(reader.frontend(place, way))
            if seconds := reader.affinity_seconds(way):
                affinity[service] = seconds
    return tuple(
        DumpedService(*service, tuple(sorted(listed, key=_order)), affinity.get(service))
        for service, listed in sorted(frontends.items())
    )


def _order(frontend: DumpedFrontend) -> tuple[bool, str, int]:
    return (frontend.address == _NODE, frontend.address, frontend.port)


class _Place(msgspec.Struct, frozen=True):
    """Where a Service port is reached."""

    name: str
    protocol: str
    address: str
    port: int

    @classmethod
    def of(cls, rule: Rule) -> _Place:
        """The place that a rule of a shared chain is for; its comment begins with the name."""
        return cls(
            rule.comment.partition(" ")[0] or _UNKNOWN,
            rule.protocol.upper(),
            rule.destination.partition("/")[0] or _NODE,
            rule.destination_port,
        )


class _Way(msgspec.Struct):
    """The chains that a packet to a place goes through."""

    path: list[str] = []
    """From the chain that dispatches, by way of KUBE-FW-… and KUBE-EXT-…"""
    cluster: str = ""
    """KUBE-SVC-…"""
    local: str = ""
    """KUBE-SVL-…"""
    is_outside_local: bool = False
    """Policy Local from outside: KUBE-EXT-… leads only some to `cluster`."""
    firewall: str = ""
    """KUBE-FW-… that leads on to KUBE-EXT-…"""
    refusal: str = ""
    """`filter KUBE-SERVICES -> REJECT`."""

    @property
    def policy(self) -> str:
        """As far as rules tell it: where all is refused, it made no difference."""
        if self.is_outside_local:
            return _BOTH
        is_local = self.local or self.refusal.endswith(f" {DROP}")
        return TrafficPolicy.LOCAL.value if is_local else TrafficPolicy.CLUSTER.value

    @property
    def text(self) -> str:
        """All of it: `KUBE-SERVICES -> KUBE-EXT-… -> KUBE-SVL-… (pods: KUBE-SVC-…)`."""
        path = list(self.path)
        if self.is_outside_local:
            path += [self.local] if self.local else []
            path[-1] += f" (pods: {self.cluster})"
        elif self.local or self.cluster:
            path.append(self.local or self.cluster)
        return "; ".join(filter(None, (" -> ".join(path), self.refusal)))


class _Reader:
    """The rules of one family, read when they are asked for."""

    def __init__(self, family: Family, held: Mapping[ChainName, Sequence[str]]) -> None:
        self._family = family
        self._held = held
        self._read: dict[ChainName, tuple[Rule, ...]] = {}

    def rules(self, chain: ChainName) -> tuple[Rule, ...]:
        """What of a chain we can read; nothing if it is not there."""
        if chain not in self._read:
            self._read[chain] = tuple(self._readable(chain))
        return self._read[chain]

    def _readable(self, chain: ChainName) -> Iterator[Rule]:
        for text in self._held.get(chain, ()):
            try:
                yield parse(text, self._family)
            except Unreadable:
                continue  # nobody's that writes these rules: no Service is told from it

    def ways(self) -> dict[_Place, _Way]:
        """Each place where a Service is reached."""
        ways: dict[_Place, _Way] = {}
        for chain in _DISPATCHING:
            for rule in self.rules(chain):
                # What counts stands before a rule that does the same without.
                if rule.target.startswith(names.OF_A_SERVICE) and not rule.counter:
                    self._follow(rule.target, ways.setdefault(_Place.of(rule), _Way([chain.name])))
        for chain in _REFUSING:
            for rule in self.rules(chain):
                if rule.destination_port and rule.target in {DROP, REJECT}:
                    way = ways.setdefault(_Place.of(rule), _Way())
                    way.refusal = f"{chain} -> {rule.target}"
        for rule in self.rules(chains.PROXY_FIREWALL):
            place = _Place.of(rule)
            if place in ways and rule.target.startswith(_FW):
                ways[place].firewall = rule.target
        return ways

    def _follow(self, target: str, way: _Way) -> None:
        if target.startswith(_FW):
            way.path.append(target)
            way.firewall = target
            targets = (rule.target for rule in self.rules(_nat(target)))
            target = next((to for to in targets if to.startswith(_EXT)), "")
        if target.startswith(_EXT):
            way.path.append(target)
            for rule in self.rules(_nat(target)):
                self._choose(rule, way)
        else:
            self._choose(Rule(target), way)

    @staticmethod
    def _choose(rule: Rule, way: _Way) -> None:
        if rule.target.startswith(_SVC):
            way.cluster = rule.target
            way.is_outside_local |= rule != Rule(rule.target, comment=rule.comment)
        elif rule.target.startswith(_SVL):
            way.local = rule.target

    def frontend(self, place: _Place, way: _Way) -> DumpedFrontend:
        """A place with all that belongs to it."""
        return DumpedFrontend(
            address=place.address,
            port=place.port,
            policy=way.policy,
            rule=way.text,
            endpoints=tuple(self._endpoints(way.cluster)),
            local_endpoints=tuple(self._endpoints(way.local)),
            source_ranges=tuple(self._source_ranges(way.firewall)),
        )

    def affinity_seconds(self, way: _Way) -> int | None:
        """The affinity timeout, which all lists of a Service share."""
        rules = self.rules(_nat(way.cluster or way.local))
        return next((rule.recent_seconds for rule in rules if rule.recent), None)

    def _endpoints(self, chain: str) -> Iterator[str]:
        """What a chain chooses among, in its order; affinity leads to the same ones before."""
        for rule in self.rules(_nat(chain)):
            if rule.target == DNAT:
                yield rule.to_destination
            elif rule.target.startswith(_SEP) and not rule.recent:
                yield from self._endpoints(rule.target)

    def _source_ranges(self, firewall: str) -> list[str]:
        """The filter table holds them where nothing is translated."""
        for table in (Table.NAT, Table.FILTER):
            if rules := self.rules(ChainName(table, firewall)):
                return sorted({rule.source for rule in rules if rule.source})
        return []


def _nat(chain: str) -> ChainName:
    return ChainName(Table.NAT, chain)
