"""Which rules of others take a packet on its way through their chains? Pure.

A condition is met, is not met, or cannot be told: an interface may not be known, and rules have
conditions that nobody here reads. What is found is therefore certain or possible. A possible
`accept` before a rule makes that one no more than possible, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from endpoints.addresses import network
from proxy.facts.foreign import Condition, Field, ForeignChain, ForeignChains, ForeignRule, Kind

TRANSLATIONS = frozenset((Kind.DNAT, Kind.REDIRECT, Kind.TPROXY))
SOURCES = frozenset((Kind.SNAT, Kind.MASQUERADE))
ENDS = frozenset((Kind.DROP, Kind.REJECT))
_JUMPS = frozenset((Kind.JUMP, Kind.GOTO))
LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
"""Priorities of chains."""
_DEPTH = 16
"""Chains within chains: the kernel follows as many (NFT_JUMP_STACK_SIZE)."""
_NARROW = 256
"""Addresses of a network that still names a packet's destination rather than a region."""
_PORTS = (Field.SOURCE_PORT, Field.DESTINATION_PORT)
_LOCAL = "LOCAL"
_FORWARD_CHAIN = "KUBE-FORWARD"
"""Accepts replies and what our rules marked for masquerade, whatever stands behind it."""


class Met(Enum):
    """Whether a condition is met."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


class Seen(NamedTuple):
    """The first packet of a connection, or a reply, as one hook sees it."""

    family: str
    """`ip`, `ip6`."""
    source: str
    destination: str
    """Empty: not known."""
    port: int
    """0: not known."""
    protocol: str
    """`tcp`."""
    states: frozenset[str] = frozenset(("NEW",))
    arrives_on: str | None = None
    """The interface; None: not known. Empty: none, here."""
    leaves_by: str | None = ""
    local: frozenset[str] = frozenset()
    """Addresses of this node."""
    masqueraded: bool = False
    """Our rules have marked it for that."""
    source_port: int = 0
    """0: not known."""
    is_reply: bool = False


class Stage(NamedTuple):
    """Base chains of one hook that are asked one after the other about the same packet."""

    hook: str
    seen: Seen
    lowest: int = LOWEST
    highest: int = HIGHEST
    nat: bool = False


class Taken(NamedTuple):
    """A rule that takes the packet, or may."""

    chain: ForeignChain
    """The chain that it stands in."""
    base: ForeignChain
    """That in which the packet enters."""
    rule: ForeignRule
    certain: bool
    named: bool
    """Conditions on the way there that are met name the packet: see `names`."""


def chains_of(chains: ForeignChains) -> dict[tuple[str, str, str, str], ForeignChain]:
    """The chains, as jumps find them."""
    return {(c.tool, c.family, c.table, c.name): c for c in chains}


class Way:
    """A packet's way through one base chain."""

    def __init__(
        self,
        chains: dict[tuple[str, str, str, str], ForeignChain],
        base: ForeignChain,
        seen: Seen,
        wanted: frozenset[Kind],
    ) -> None:
        """`wanted`: the kinds that count; of the others only the effect on these."""
        self.taken: list[Taken] = []
        self.is_ours = False
        """Whether it met what leads to our own rules."""
        self._chains = chains
        self._base = base
        self._seen = seen
        self._wanted = wanted
        self._is_spared = False
        """Whether it may have been accepted."""

    def walk(self, *, certain: bool = True, ours_end: bool) -> None:
        """Follow it; `ours_end`: what our own rules serve goes no further in this chain."""
        self._ours_end = ours_end
        ends = self._through(self._base, certain=certain, named=False, depth=0)
        if not ends and self._base.drops and Kind.DROP in self._wanted:
            policy = ForeignRule(Kind.DROP, "policy drop")
            self._take(self._base, policy, certain=certain, named=False)

    def _take(self, chain: ForeignChain, rule: ForeignRule, *, certain: bool, named: bool) -> None:
        sure = certain and not self._is_spared
        self.taken.append(Taken(chain, self._base, rule, sure, named))

    def _through(self, chain: ForeignChain, *, certain: bool, named: bool, depth: int) -> bool:
        """Whether no packet comes back from a chain."""
        leaks = False
        for rule in chain.rules:
            met = matches(rule, self._seen)
            if met is Met.NO:
                continue
            yes = met is Met.YES
            sure = certain and yes and not leaks
            if rule.kind is Kind.RETURN:
                if yes:
                    return False
                leaks = True
            elif rule.kind in _JUMPS:
                ends = self._jump(chain, rule, sure=sure, named=named, depth=depth)
                if yes and ends:
                    return not leaks
                if yes and rule.kind is Kind.GOTO:
                    return False
                leaks = leaks or rule.kind is Kind.GOTO
            elif self._decides(chain, rule, sure=sure, named=named) and yes:
                return not leaks
        return False

    def _jump(
        self, chain: ForeignChain, rule: ForeignRule, *, sure: bool, named: bool, depth: int
    ) -> bool:
        target = self._chains.get((chain.tool, chain.family, chain.table, rule.to))
        if target is None or depth >= _DEPTH:
            self._is_spared = True
            return False
        name = named or names(rule, self._seen)
        return self._through(target, certain=sure, named=name, depth=depth + 1)

    def _decides(self, chain: ForeignChain, rule: ForeignRule, *, sure: bool, named: bool) -> bool:
        """Take what a rule says that is no jump; whether a packet that it matches ends there."""
        if rule.kind is Kind.OURS:
            self.is_ours = True
            of_ours = self._seen.masqueraded or self._seen.is_reply
            is_accepted = rule.to == _FORWARD_CHAIN and of_ours
            return self._ours_end or is_accepted
        if rule.kind in self._wanted:
            found = named or names(rule, self._seen)
            self._take(chain, rule, certain=sure, named=found)
        if rule.kind is Kind.NOTRACK:
            return False
        if rule.kind not in TRANSLATIONS | ENDS and not sure:
            self._is_spared = True
        if rule.kind is Kind.UNKNOWN:
            self._is_spared = True
            return False
        return True


def matches(rule: ForeignRule, seen: Seen) -> Met:
    """Whether a rule matches a packet."""
    found = Met.MAYBE if rule.opaque else Met.YES
    for condition in rule.conditions:
        empty = Met.YES if condition.negated else Met.NO
        met = _met(condition, seen) if condition.values else empty
        if met is Met.NO:
            return met
        if met is Met.MAYBE:
            found = met
    return found


def names(rule: ForeignRule, seen: Seen) -> bool:
    """Whether conditions of a rule that are met name the packet, not just a region.

    Its destination or port; the source where the rule itself drops what comes from there: chains
    for what a pod sends are on every node with network policies. Of a reply either address, or the
    port it comes from.
    """
    by_source = seen.is_reply or rule.kind in ENDS
    return any(
        not condition.negated
        and _met(condition, seen) is Met.YES
        and (
            condition.field in _PORTS
            or (condition.field is Field.DESTINATION and _is_named(seen.destination, condition))
            or (by_source and condition.field is Field.SOURCE and _is_named(seen.source, condition))
        )
        for condition in rule.conditions
    )


def _is_named(address: str, condition: Condition) -> bool:
    """Whether a narrow one of the values holds the address."""
    low_and_high = (_bounds(value) for value in condition.values)
    narrow = ((low, high) for low, high in low_and_high if high - low < _NARROW)
    return any(low <= _number(address) <= high for low, high in narrow)


def _is_unknown(field: Field, seen: Seen) -> bool:
    match field:
        case Field.DESTINATION | Field.DESTINATION_TYPE:
            return not seen.destination
        case Field.SOURCE_PORT | Field.DESTINATION_PORT:
            return not _port(field, seen)
        case Field.IN_INTERFACE | Field.OUT_INTERFACE:
            return _interface(field, seen) is None
        case _:
            return False


def _port(field: Field, seen: Seen) -> int:
    return seen.port if field is Field.DESTINATION_PORT else seen.source_port


def _interface(field: Field, seen: Seen) -> str | None:
    return seen.arrives_on if field is Field.IN_INTERFACE else seen.leaves_by


def _met(condition: Condition, seen: Seen) -> Met:
    if _is_unknown(condition.field, seen):
        return Met.MAYBE
    return Met.YES if _is_true(condition, seen) is not condition.negated else Met.NO


def _is_true(condition: Condition, seen: Seen) -> bool:
    """Whether a packet's field has one of the values."""
    field, values = condition.field, condition.values
    match field:
        case Field.SOURCE:
            found = _is_in(seen.source, values)
        case Field.DESTINATION:
            found = _is_in(seen.destination, values)
        case Field.PROTOCOL:
            found = seen.protocol in values
        case Field.SOURCE_PORT | Field.DESTINATION_PORT:
            found = any(_covers(value, _port(field, seen)) for value in values)
        case Field.IN_INTERFACE | Field.OUT_INTERFACE:
            interface = _interface(field, seen) or ""
            found = any(_is_called(interface, value) for value in values)
        case Field.STATE:
            found = not seen.states.isdisjoint(values)
        case Field.FAMILY:
            found = seen.family in values
        case _:  # the type of an address
            address = seen.source if field is Field.SOURCE_TYPE else seen.destination
            found = _is_local(address, values, seen.local)
    return found


def _is_local(address: str, types: Iterable[str], local: frozenset[str]) -> bool:
    return (_LOCAL if address in local else "UNICAST") in types


def _covers(value: str, port: int) -> bool:
    low, _, high = value.partition("-")
    return int(low) <= port <= int(high or low)


def _is_called(interface: str, value: str) -> bool:
    return interface.startswith(value[:-1]) if value.endswith("*") else interface == value


def _is_in(address: str, values: Iterable[str]) -> bool:
    number = _number(address)
    of_six = ":" in address
    return any(
        low <= number <= high
        for low, high in (_bounds(value) for value in values if (":" in value) is of_six)
    )


@lru_cache(maxsize=1024)
def _number(address: str) -> int:
    return int(ip_address(address))


@lru_cache(maxsize=65536)
def _bounds(value: str) -> tuple[int, int]:
    """The first and the last address of a network or a range."""
    first, dash, last = value.partition("-")
    if dash:
        return int(ip_address(first)), int(ip_address(last))
    of = network(value)
    low: IPv4Address | IPv6Address = of.network_address
    return int(low), int(of.broadcast_address)
