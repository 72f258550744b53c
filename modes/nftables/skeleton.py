"""Which tables, chains, sets and rules are there, whatever the Services are? Pure.

The constant part of the dataplane (see README.md for the way of a packet through it). Chains
that depend on a number (`pick-3`, `learn-60`) are made when an element first names them; their
rules follow from their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

from endpoints.addresses import network, pack
from endpoints.names import Family, Protocol
from modes.nftables import expressions as x
from modes.nftables.netlink import NFPROTO
from modes.nftables.sets import S
from modes.nftables.shape import Shape

TABLE = "headgate"
TABLE_FAMILY = {Family.IPV4: "ip", Family.IPV6: "ip6"}
"""What nft calls a family of tables."""
LOCAL_OFFSET = 1 << 20
"""Slots of local lists start here, in the same map as the slots of cluster lists."""


class BaseChain(NamedTuple):
    """Where a chain is hooked into the kernel's packet path."""

    type: str
    hook: int
    priority: int
    policy: int = x.NF_ACCEPT


Rule = tuple[bytes, ...]
"""The expressions of a rule, each as `modes.nftables.expressions` spells it."""


class Chain(NamedTuple):
    """A chain with its rules."""

    name: str
    rules: tuple[Rule, ...]
    base: BaseChain | None = None


class Layout:
    """The chains of one family's table, given its shape.

    Words of registers: K (address, protocol, port) starts at word 0, or behind the source
    address where affinity needs it in front; the translated address and port are loaded behind.
    """

    def __init__(self, shape: Shape) -> None:
        """Remember the sizes that the family implies."""
        self.shape = shape
        self.family = shape.family
        v4 = shape.family is Family.IPV4
        self._len, self._words = (4, 1) if v4 else (16, 4)
        self._saddr_offset, self._daddr_offset = (12, 16) if v4 else (8, 24)
        self._ct_daddr = x.CT_DST_IP if v4 else x.CT_DST_IP6
        self._unreachable = 3 if v4 else 4

    def base_chains(self) -> tuple[Chain, ...]:
        """The constant chains; those that others jump to come first."""
        guard = BaseChain("filter", 0, -300)
        return (
            *((Chain("loopback-guard", self._guard(), guard),) if self._is_guarded else ()),
            Chain("no-endpoints", self._no_endpoints()),
            Chain("masq", ((x.masquerade(),),)),
            Chain("lb-check", self._lb_check()),
            Chain("services", self._services()),
            Chain("special", self._special()),
            Chain("learning", self._by_original(S.LEARN, np=False)),
            Chain("learning-nodeports", self._by_original(S.LEARN_NODEPORTS, np=True)),
            Chain("post-extlocal", self._post_extlocal()),
            Chain("post-nodeports", self._post_nodeports()),
            Chain("post-special", self._post_special()),
            Chain("prerouting", self._prerouting(), BaseChain("nat", 0, -100)),
            Chain("output", self._output(), BaseChain("nat", 3, -100)),
            Chain("input", self._input(), BaseChain("nat", 1, 100)),
            Chain("postrouting", self._postrouting(), BaseChain("nat", 4, 100)),
        )

    def numbered_chain(self, name: str) -> Chain | None:
        """The chain that is made when first named, or None if it is no such name."""
        for pattern, rules in self._numbered():
            found = re.fullmatch(pattern, name)
            if found:
                return Chain(name, rules(int(found[1])))
        return None

    def _numbered(self) -> Iterator[tuple[str, Callable[[int], tuple[Rule, ...]]]]:
        number = r"([1-9]\d{0,6})"
        yield rf"pick-{number}", partial(self._pick, offset=0, np=False)
        yield rf"local-{number}", partial(self._pick, offset=LOCAL_OFFSET, np=False)
        yield rf"np-pick-{number}", partial(self._pick, offset=0, np=True)
        yield rf"np-local-{number}", partial(self._pick, offset=LOCAL_OFFSET, np=True)
        yield rf"sticky-pick-{number}", partial(self._sticky, then="pick", np=False)
        yield rf"sticky-local-{number}", partial(self._sticky, then="local", np=False)
        yield rf"np-sticky-pick-{number}", partial(self._sticky, then="np-pick", np=True)
        yield rf"np-sticky-local-{number}", partial(self._sticky, then="np-local", np=True)
        yield rf"learn-{number}", partial(self._learn, np=False)
        yield rf"np-learn-{number}", partial(self._learn, np=True)

    # Loading of keys.

    def _address(self, offset: int, word: int) -> bytes:
        return x.payload(x.NETWORK_HEADER, offset, self._len, word)

    def _saddr(self, word: int) -> bytes:
        return self._address(self._saddr_offset, word)

    def _daddr(self, word: int) -> bytes:
        return self._address(self._daddr_offset, word)

    def _kn(self, word: int) -> Rule:
        return (x.meta(x.META_L4PROTO, word), x.payload(x.TRANSPORT_HEADER, 2, 2, word + 1))

    def _k(self, word: int) -> Rule:
        return (self._daddr(word), *self._kn(word + self._words))

    def _original_kn(self, word: int) -> Rule:
        port = x.ct(x.CT_PROTO_DST, word + 1, original=True)
        return (x.meta(x.META_L4PROTO, word), port)

    def _original_k(self, word: int) -> Rule:
        address = x.ct(self._ct_daddr, word, original=True)
        return (address, *self._original_kn(word + self._words))

    def _key(self, word: int, *, np: bool) -> tuple[Rule, int]:
        """The key of a NodePort or of an address, and its size in words."""
        return (self._kn(word), 2) if np else (self._k(word), self._words + 2)

    # Conditions.

    def _not_a_local_pod(self) -> Rule:
        if not self.shape.interface:
            return tuple(part for cidr in self.shape.pod_cidrs for part in self._not_in(cidr))
        return self._interface(x.META_IIFNAME, x.CMP_NEQ)

    def _interface(self, key: int, operator: int) -> Rule:
        name = self.shape.interface
        exact = name.encode().ljust(x.IFNAMSIZ, b"\0")
        value = name[:-1].encode() if name.endswith("*") else exact
        return (x.meta(key, 0), x.cmp(operator, 0, value))

    def _bridged(self) -> Rule:
        # br_netfilter does not tell postrouting from where a packet comes that stays on its
        # bridge; a packet of the node itself comes from nowhere, too.
        return (
            *self._interface(x.META_OIFNAME, x.CMP_EQ),
            x.meta(x.META_IIFNAME, 0),
            x.cmp(x.CMP_EQ, 0, bytes(x.IFNAMSIZ)),
            x.fib_type(x.FIB_SADDR, 0),
            x.cmp(x.CMP_NEQ, 0, x.native32(x.RTN_LOCAL)),
        )

    def _not_in(self, cidr: str) -> Rule:
        net = network(cidr)
        mask = x.bitwise_and(0, net.netmask.packed)
        return (self._saddr(0), mask, x.cmp(x.CMP_NEQ, 0, net.network_address.packed))

    def _to_node_port_address(self) -> Rule:
        if not self.shape.node_ports_everywhere:
            return (self._daddr(0), x.lookup("nodeport-ips", 0))
        is_local = (x.fib_type(x.FIB_DADDR, 0), x.cmp(x.CMP_EQ, 0, x.native32(x.RTN_LOCAL)))
        if self.shape.node_ports_on_loopback:
            return is_local
        if self.family is Family.IPV6:
            return (*is_local, self._daddr(0), x.cmp(x.CMP_NEQ, 0, pack("::1")))
        first_octet = x.payload(x.NETWORK_HEADER, self._daddr_offset, 1, 0)
        return (*is_local, first_octet, x.cmp(x.CMP_NEQ, 0, b"\x7f"))

    def _hairpin(self) -> Rule:
        pair = (self._saddr(0), self._daddr(self._words))
        return (*pair, x.lookup("hairpin", 0))

    @staticmethod
    def _protocol(protocol: Protocol) -> Rule:
        return (x.meta(x.META_L4PROTO, 0), x.cmp(x.CMP_EQ, 0, bytes((protocol.number,))))

    # Chains.

    @property
    def _is_guarded(self) -> bool:
        return self.shape.node_ports_on_loopback and self.family is Family.IPV4

    def _guard(self) -> tuple[Rule, ...]:
        # NodePorts on 127.0.0.1 need route_localnet=1, which also lets in what the kernel
        # refuses otherwise: packets to 127/8 from the network.
        loopback = b"lo".ljust(x.IFNAMSIZ, b"\0")
        not_lo = (x.meta(x.META_IIFNAME, 0), x.cmp(x.CMP_NEQ, 0, loopback))
        first_octet = x.payload(x.NETWORK_HEADER, self._daddr_offset, 1, 0)
        to_loopback = (first_octet, x.cmp(x.CMP_EQ, 0, b"\x7f"))
        return ((*not_lo, *to_loopback, x.verdict("drop")),)

    def _no_endpoints(self) -> tuple[Rule, ...]:
        return (
            (*self._protocol(Protocol.TCP), x.reject_tcp_reset()),
            (x.reject_port_unreachable(self._unreachable),),
        )

    def _lb_check(self) -> tuple[Rule, ...]:
        key = (*self._k(0), self._saddr(self._words + 2))
        return ((*key, x.lookup("lb-sources", 0, invert=True), x.verdict("drop")),)

    def _services(self) -> tuple[Rule, ...]:
        unknown_port = (self._daddr(0), x.lookup("cluster-ips", 0), x.verdict("goto no-endpoints"))
        return (*self._sure((*self._k(0), x.vmap("services", 0))), unknown_port)

    def _sure(self, rule: Rule) -> tuple[Rule, ...]:
        """The rule, twice where a lookup can miss an element while a commit replaces it."""
        return (rule, rule) if self.shape.lookups_can_miss else (rule,)

    def _lb_gate(self) -> Rule:
        return (*self._k(0), x.lookup("lb-restricted", 0), x.verdict("jump lb-check"))

    def _to_special(self) -> Rule:
        # What few Services have stands behind one set of their addresses: each other lookup costs
        # the first packet of every flow. Who stays in that set is never missed there: an element
        # that several may want is deleted when nobody does, and never replaced.
        return (self._daddr(0), x.lookup("special-ips", 0))

    def _special(self) -> tuple[Rule, ...]:
        external = (*self._not_a_local_pod(), *self._k(0), x.vmap("external-local", 0))
        return (*self._sure(self._lb_gate()), *self._sure(external))

    def _prerouting(self) -> tuple[Rule, ...]:
        outside = self._not_a_local_pod()
        here = self._to_node_port_address()
        node_port_local = (*outside, *here, *self._kn(0), x.vmap("nodeport-local", 0))
        return (
            (*self._to_special(), x.verdict("jump special")),
            (x.verdict("jump services"),),
            *self._sure(node_port_local),
            *self._node_ports(),
        )

    def _node_ports(self) -> tuple[Rule, ...]:
        here = self._to_node_port_address()
        return self._sure((*here, *self._kn(0), x.vmap("nodeports", 0)))

    def _output(self) -> tuple[Rule, ...]:
        gate = self._sure((*self._to_special(), *self._lb_gate()))
        return (*gate, (x.verdict("jump services"),), *self._node_ports())

    def _translated(self) -> Rule:
        return (
            x.ct(x.CT_STATUS, 0),
            x.bitwise_and(0, x.native32(x.IPS_DST_NAT)),
            x.cmp(x.CMP_EQ, 0, x.native32(0)),
            x.verdict("return"),
        )

    def _by_original(self, set_id: S, *, np: bool, verdict: str = "") -> tuple[Rule, ...]:
        """Rules that look up what the client asked for: in a verdict map, or in a set.

        nft can list `ct original proto-dst` only where the protocol is known, hence a rule per
        protocol.
        """
        key = self._original_kn(0) if np else self._original_k(0)
        name = set_id.set_name
        action = (x.lookup(name, 0), x.verdict(verdict)) if verdict else (x.vmap(name, 0),)
        return tuple((*self._protocol(protocol), *key, *action) for protocol in Protocol)

    def _asked_for(self, set_name: str, *, invert: bool = False) -> Rule:
        """Whether the address that the client asked for is in a set."""
        address = x.ct(self._ct_daddr, 0, original=True)
        return (address, x.lookup(set_name, 0, invert=invert))

    def _input(self) -> tuple[Rule, ...]:
        # What is translated to an address of this node never passes postrouting.
        here = () if self.shape.node_ports_everywhere else self._asked_for("nodeport-ips")
        return (
            self._translated(),
            (*self._asked_for("special-ips"), x.verdict("jump learning")),
            (*here, x.verdict("jump learning-nodeports")),
        )

    def _postrouting(self) -> tuple[Rule, ...]:
        # Sets, not a verdict map: the kernel revalidates every element of every verdict map
        # that a rule names, at each commit that adds a verdict.
        special = (*self._asked_for("special-ips"), x.verdict("jump post-special"))
        return (self._translated(), special, *self._post_cluster())

    def _post_special(self) -> tuple[Rule, ...]:
        # What goes on behind this chain asked for a cluster IP, if for anything of ours: that of
        # one Service may be an external IP of another, and then only address, protocol and port
        # together tell which of them was asked.
        to_node = (*self._asked_for("nodeport-ips"), x.verdict("goto post-nodeports"))
        return (
            (x.verdict("jump learning"),),
            *self._by_original(S.POST_EXT, np=False, verdict="goto masq"),
            *self._by_original(S.POST_EXTLOCAL, np=False, verdict="goto post-extlocal"),
            *(() if self.shape.node_ports_everywhere else (to_node,)),
        )

    def _post_nodeports(self) -> tuple[Rule, ...]:
        extlocal = "goto post-extlocal"
        return (
            (x.verdict("jump learning-nodeports"),),
            *self._by_original(S.POST_EXT_NODEPORTS, np=True, verdict="goto masq"),
            *self._by_original(S.POST_EXTLOCAL_NODEPORTS, np=True, verdict=extlocal),
        )

    def _post_cluster(self) -> Iterator[Rule]:
        """Rules for those who asked for a cluster IP.

        Whether they did is looked up last: a pod's packet that keeps its source ends before that.
        """
        asked_for = self._asked_for("cluster-ips")
        if self.shape.node_ports_everywhere:
            elsewhere = self._asked_for("cluster-ips", invert=True)
            yield (*elsewhere, x.verdict("goto post-nodeports"))
            asked_for = ()
        masquerade = (*asked_for, x.verdict("goto masq"))
        if self.shape.masquerade_all:
            yield masquerade
            return
        yield (*self._hairpin(), *masquerade)
        if self.shape.interface:
            yield (*self._bridged(), x.verdict("return"))
        if self.shape.interface or self.shape.pod_cidrs:
            yield (*self._not_a_local_pod(), *masquerade)

    def _post_extlocal(self) -> tuple[Rule, ...]:
        from_node = (x.fib_type(x.FIB_SADDR, 0), x.cmp(x.CMP_EQ, 0, x.native32(x.RTN_LOCAL)))
        masquerade = (x.verdict("goto masq"),)
        # Whoever was sent here does not go on behind post-special.
        accept = (x.verdict("accept"),)
        return ((*self._hairpin(), *masquerade), (*from_node, *masquerade), accept)

    def _dnat(self, word: int) -> bytes:
        return x.dnat(NFPROTO[self.family], word, word + self._words)

    def _pick(self, count: int, *, offset: int, np: bool) -> tuple[Rule, ...]:
        # A packet may see the services map from before a commit and the endpoints map from
        # after it: then its slot may be gone. Slot 0 is there as long as any is; and no
        # packet to a Service leaves untranslated. Who has no slot has no endpoint, and refuses;
        # unless a lookup can miss, or what has none on this node has one elsewhere.
        key, words = self._key(0, np=np)
        name = "nodeport-endpoints" if np else "endpoints"

        def choose(modulus: int) -> Rule:
            slot = x.numgen_random(modulus, offset, words)
            return (*key, slot, x.lookup(name, 0, to=words + 1), self._dnat(words + 1))

        refuses = not (self.shape.lookups_can_miss or offset)
        last = "goto no-endpoints" if refuses else "drop"
        return (choose(count), choose(1), (x.verdict(last),))

    def _sticky(self, count: int, *, then: str, np: bool) -> tuple[Rule, ...]:
        key, words = self._key(self._words, np=np)
        name = "affinity-local" if then.endswith("local") else "affinity"
        name += "-nodeports" if np else ""
        to = self._words + words
        known = (self._saddr(0), *key, x.lookup(name, 0, to=to), self._dnat(to))
        return (known, (x.verdict(f"goto {then}-{count}"),))

    def _learn(self, seconds: int, *, np: bool) -> tuple[Rule, ...]:
        # Words: the client's address, the key, the endpoint; the last two are also the key
        # of the set of endpoints that may still be learnt. Each list has a memory of its own: a
        # client is looked for in that of the list in force for it only, so both may learn it.
        rules: list[Rule] = []
        suffix = "-nodeports" if np else ""
        for name, protocol in product(("affinity", "affinity-local"), Protocol):
            at = self._words
            key = self._original_kn(at) if np else self._original_k(at)
            to = at + (2 if np else self._words + 2)
            endpoint = (self._daddr(to), x.payload(x.TRANSPORT_HEADER, 2, 2, to + self._words))
            rules.append(
                (
                    *self._protocol(protocol),
                    *key,
                    *endpoint,
                    x.lookup(f"{name}-valid{suffix}", at),
                    self._saddr(0),
                    *key,
                    *endpoint,
                    x.update(f"{name}{suffix}", 0, to, seconds),
                )
            )
        return tuple(rules)
