"""What must be written when Services change? Pure.

The fragments of Services are chains and rules of their own, and all of them together decide one
rule more: which network leads to the chain of cluster IPs.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from endpoints.addresses import pack
from endpoints.names import Family, ObjectName
from modes.iptables.fragment import Fragment
from modes.xtables import names
from modes.xtables.chains import CLUSTER_IPS, UNKNOWN_PORTS, Skeleton
from modes.xtables.delta import NOTHING, Changes, Program, Specs, Updates, Whole, Written
from modes.xtables.restore import spec
from modes.xtables.rules import ChainName, Rule


class ServiceProgram(Program):
    """The rules of one family with those of Services."""

    def __init__(self, family: Family, skeleton: Skeleton) -> None:
        """No Services yet."""
        super().__init__(family, skeleton)
        self._cluster_ips: Counter[int] = Counter()

    def commit(self, updates: Updates) -> None:
        """Remember that the kernel has taken the updates."""
        covered = bool(self._cluster_ips)
        for name, new in updates.items():
            old = self.fragments.get(name, NOTHING)
            self._cluster_ips.subtract(old.cluster_ips)
            self._cluster_ips.update(new.cluster_ips)
            for address in old.cluster_ips:
                if not self._cluster_ips[address]:
                    del self._cluster_ips[address]
        self.rules[UNKNOWN_PORTS.table] += bool(self._cluster_ips) - covered
        super().commit(updates)

    def changes(self, updates: Updates) -> Changes:
        """The difference that the updates make; costs as much as they are large."""
        changes = super().changes(updates)
        if any(self._moves(name, new) for name, new in updates.items()):
            before, after = self.cover(), self.cover(updates)
            if before != after:
                changes.rewritten.append(Whole(None, UNKNOWN_PORTS, after))
        return changes

    def _moves(self, name: ObjectName, new: Written) -> bool:
        return self.fragments.get(name, NOTHING).cluster_ips != new.cluster_ips

    def tail(self, chain: ChainName, updates: Updates | None = None) -> Specs:
        """The last rules of a chain of the skeleton, as the updates leave them."""
        return self.cover(updates) if chain == UNKNOWN_PORTS else super().tail(chain, updates)

    def cover(self, updates: Updates | None = None) -> Specs:
        """The only rule of KUBE-UNKNOWN-PORTS: one network that holds all cluster IPs."""
        addresses = self._cluster_ips
        if updates:
            addresses = addresses.copy()
            for name, new in updates.items():
                addresses.subtract(self.fragments.get(name, NOTHING).cluster_ips)
                addresses.update(new.cluster_ips)
        used = [address for address, count in addresses.items() if count > 0]
        if not used:
            return ()
        first, last = min(used), max(used)
        size = 32 if self.family is Family.IPV4 else 128
        length = size - (first ^ last).bit_length()
        start = (first >> (size - length) << (size - length)).to_bytes(size // 8, "big")
        network = str(ip_network((start, length)))
        return (spec(Rule(names.CLUSTER_IPS, destination=network), self.family),)


def written(family: Family, fragment: Fragment | None, endpoints: int = 0) -> Written:
    """A fragment as text."""
    if fragment is None:
        return NOTHING
    own = {
        chain: tuple([spec(rule, family) for rule in rules])
        for chain, rules in fragment.chains.items()
    }
    shared = tuple([(chain, spec(rule, family)) for chain, rule in fragment.shared])
    addresses = [rule.destination for chain, rule in fragment.shared if chain == CLUSTER_IPS]
    return Written(own, shared, endpoints, tuple(map(_number, addresses)))


def _number(host: str) -> int:
    return int.from_bytes(pack(host.partition("/")[0]), "big")
