"""What do the rules that the kernel holds mean to an operator? Pure.

Rules of a kube-proxy that was stopped are told in the same way. What neither it nor we write is
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from math import ceil
from typing import NamedTuple

import msgspec

from endpoints.names import Family
from endpoints.plan import TrafficPolicy
from modes.held import EVERYTHING, DumpedClient, DumpedFrontend, DumpedService, Only
from modes.iptables.belonging import UNKNOWN, may_be_at, titled
from modes.xtables import chains, names
from modes.xtables.names import Table
from modes.xtables.remembered import Remembered
from modes.xtables.restore import Unreadable, parse
from modes.xtables.rules import CERTAIN, DNAT, DROP, REJECT, ChainName, Rule

_NODE = "node"
_DISPATCHING = (chains.NAT_SERVICES, chains.NAT_NODEPORTS)
_REFUSING = (chains.SERVICES, chains.EXTERNAL_SERVICES, chains.EXTERNAL_NODEPORTS)
_SVC, _SVL, _EXT, _FW, _SEP = names.OF_A_SERVICE
_TRANSLATION = re.compile(
    r"-p (\w+) (?:-m statistic --mode random --probability ([\d.]+) )?"
    r"-j DNAT --to-destination ([\d.]+:\d+)"
)
_BOTH = f"{TrafficPolicy.LOCAL} (pods: {TrafficPolicy.CLUSTER})"


Found = Mapping[Family, Mapping[ChainName, Sequence[str]]]
Packets = Mapping[Family, Mapping[ChainName, Sequence[int]]]


def services_in(
    found: Found,
    packets: Packets | None = None,
    remembered: Mapping[str, Iterable[Remembered]] | None = None,
    only: Only = EVERYTHING,
) -> tuple[DumpedService, ...]:
    """The Services that are asked for, sorted by name, protocol and family.

    `found`: the chains of each family with the specs of their rules, as `script.read` has them.
    `packets`: how many each rule counted; None: nobody knows. `remembered`: what the lists of
    xt_recent hold. Only rules that concern these Services are parsed: there may be 100,000 others.
    """
    readers = {
        family: _Reader(family, held, packets.get(family, {}) if packets is not None else None)
        for family, held in found.items()
    }
    services = _told(readers, remembered or {}, _wanted(readers, only))
    return tuple(of for of in services if only.holds(of))


def _wanted(readers: Mapping[Family, _Reader], only: Only) -> Callable[[str], bool]:
    """Which rules of shared chains are needed, by their specs."""
    if only.all:
        return lambda _: True
    if only.service:
        return lambda spec: only.names(titled(spec))
    found = {
        place.name
        for reader in readers.values()
        for place in reader.ways(may_be_at(only))
        if place.port == only.port and place.address in (only.address, _NODE)
    }
    return lambda spec: titled(spec) in found


def _told(
    readers: Mapping[Family, _Reader],
    remembered: Mapping[str, Iterable[Remembered]],
    is_wanted: Callable[[str], bool],
) -> Iterator[DumpedService]:
    found: dict[tuple[str, str, str], tuple[_Reader, dict[_Place, _Way]]] = {}
    for family, reader in readers.items():
        for place, way in reader.ways(is_wanted).items():
            service = (place.name, place.protocol, family.value)
            found.setdefault(service, (reader, {}))[1][place] = way
    for service, (reader, ways) in sorted(found.items()):
        listed = (reader.frontend(place, way) for place, way in ways.items())
        lists = dict.fromkeys(c for way in ways.values() for c in (way.cluster, way.local) if c)
        yield DumpedService(
            *service,
            frontends=tuple(sorted(listed, key=_order)),
            affinity_seconds=reader.affinity_seconds(lists),
            clients=tuple(sorted(reader.clients(lists, remembered), key=msgspec.structs.astuple)),
            endpoint_flows=reader.endpoint_flows(lists),
        )


def _order(frontend: DumpedFrontend) -> tuple[bool, str, int]:
    return (frontend.address == _NODE, frontend.address, frontend.port)


class _Counted(NamedTuple):
    """A rule and the packets that it counted."""

    rule: Rule
    packets: int


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
            rule.comment.partition(" ")[0] or UNKNOWN,
            rule.protocol.upper(),
            # What counts for localhost stands before a rule that does the same without.
            (not rule.counter and rule.destination.partition("/")[0]) or _NODE,
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
    packets: int = 0
    """What dispatched them counted."""

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

    def __init__(
        self,
        family: Family,
        held: Mapping[ChainName, Sequence[str]],
        packets: Mapping[ChainName, Sequence[int]] | None,
    ) -> None:
        self._family = family
        self._held = held
        self._packets = packets
        self._read: dict[ChainName, tuple[_Counted, ...]] = {}
        self._translated: dict[str, tuple[tuple[str, int], ...]] = {}

    def rules(self, chain: ChainName) -> tuple[_Counted, ...]:
        """What of a chain we can read; nothing if it is not there."""
        if chain not in self._read:
            self._read[chain] = tuple(self._readable(chain))
        return self._read[chain]

    def _readable(
        self, chain: ChainName, is_wanted: Callable[[str], bool] = lambda _: True
    ) -> Iterator[_Counted]:
        texts = self._held.get(chain, ())
        packets = (self._packets or {}).get(chain, repeat(0))
        for text, count in zip(texts, packets, strict=False):
            if is_wanted(text):
                try:
                    yield _Counted(_translation(text) or parse(text, self._family), count)
                except Unreadable:
                    continue  # nobody's that writes these rules: no Service is told from it

    def ways(self, is_wanted: Callable[[str], bool]) -> dict[_Place, _Way]:
        """Each place where a Service is reached, by the rules that are wanted."""
        ways: dict[_Place, _Way] = {}
        for chain in _DISPATCHING:
            for rule, packets in self._readable(chain, is_wanted):
                if rule.target.startswith(names.OF_A_SERVICE):
                    way = ways.setdefault(_Place.of(rule), _Way())
                    way.packets += packets
                    if not way.path:
                        way.path.append(chain.name)
                        self._follow(rule.target, way)
        for chain in _REFUSING:
            for rule, _ in self._readable(chain, is_wanted):
                if rule.destination_port and rule.target in {DROP, REJECT}:
                    way = ways.setdefault(_Place.of(rule), _Way())
                    way.refusal = f"{chain} -> {rule.target}"
        for rule, _ in self._readable(chains.PROXY_FIREWALL, is_wanted):
            place = _Place.of(rule)
            if place in ways and rule.target.startswith(_FW):
                ways[place].firewall = rule.target
        return ways

    def _follow(self, target: str, way: _Way) -> None:
        if target.startswith(_FW):
            way.path.append(target)
            way.firewall = target
            targets = (rule.target for rule, _ in self.rules(_nat(target)))
            target = next((to for to in targets if to.startswith(_EXT)), "")
        if target.startswith(_EXT):
            way.path.append(target)
            for rule, _ in self.rules(_nat(target)):
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
            endpoints=tuple(endpoint for endpoint, _ in self._endpoints(way.cluster)),
            local_endpoints=tuple(endpoint for endpoint, _ in self._endpoints(way.local)),
            source_ranges=tuple(self._source_ranges(way.firewall)),
            new_flows=way.packets if self._packets is not None and way.path else None,
        )

    def affinity_seconds(self, lists: Iterable[str]) -> int | None:
        """The affinity timeout, which all lists of a Service share."""
        return next((rule.recent_seconds for rule in self._sticking(lists)), None)

    def clients(
        self, lists: Iterable[str], remembered: Mapping[str, Iterable[Remembered]]
    ) -> Iterator[DumpedClient]:
        """Whom affinity keeps, and where."""
        for rule in self._sticking(lists):
            for endpoint, _ in self._endpoints(rule.target):
                for client in remembered.get(rule.recent, ()):
                    left = None
                    if client.seconds_ago is not None:
                        left = ceil(rule.recent_seconds - client.seconds_ago)
                    if left is None or left > 0:
                        yield DumpedClient(client.address, endpoint, left)

    def _sticking(self, lists: Iterable[str]) -> Iterator[Rule]:
        for chain in lists:
            for rule, _ in self.rules(_nat(chain)):
                if rule.recent and rule.recent_seconds:
                    yield rule

    def endpoint_flows(self, lists: Iterable[str]) -> dict[str, int]:
        """How many packets each endpoint's translation counted: the first of each connection."""
        found: dict[str, int] = {}
        if self._packets is not None:
            for chain in lists:
                for endpoint, packets in self._endpoints(chain):
                    found[endpoint] = found.get(endpoint, 0) + packets
        return found

    def _endpoints(self, chain: str) -> tuple[tuple[str, int], ...]:
        """What a chain chooses among, in its order, and the packets of each."""
        if chain not in self._translated:
            self._translated[chain] = tuple(self._translations(chain))
        return self._translated[chain]

    def _translations(self, chain: str) -> Iterator[tuple[str, int]]:
        for rule, packets in self.rules(_nat(chain)):
            if rule.target == DNAT:
                yield rule.to_destination, packets
            # By affinity the same ones are reached, before.
            elif rule.target.startswith(_SEP) and not rule.recent:
                yield from self._translations(rule.target)

    def _source_ranges(self, firewall: str) -> list[str]:
        """The filter table holds them where nothing is translated."""
        for table in (Table.NAT, Table.FILTER):
            if rules := self.rules(ChainName(table, firewall)):
                return sorted({rule.source for rule, _ in rules if rule.source})
        return []


def _translation(text: str) -> Rule | None:
    """The same as `parse` for most rules of a large cluster, and ten times as fast."""
    found = _TRANSLATION.fullmatch(text)
    if found is None:
        return None
    protocol, probability, destination = found.groups()
    share = round(float(probability or 0) * CERTAIN)
    return Rule(DNAT, protocol=protocol, probability=share, to_destination=destination)


def _nat(chain: str) -> ChainName:
    return ChainName(Table.NAT, chain)
