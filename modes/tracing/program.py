"""Which rules let the kernel tell of the packets of a flow, and of no others? Pure.

A table of our own for as long as the trace lasts: base chains that accept everything, around each
place where somebody may translate or drop. A packet with `nftrace` set is told of by every chain of
nf_tables that it passes (linux/netfilter/nf_tables.h, NFT_MSG_TRACE), also by one without rules: so
its addresses are known at each place, whoever changed them in between. Two chains set it: one looks
at the header before anybody did, the other asks conntrack whose reply a packet is.

iptables-legacy and a logger of the kernel make a line of the kernel's log of each rule that such a
packet passes. Where both are there (`quiet`), every chain takes the mark away again, and rules of
others are not told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from endpoints.addresses import family, pack
from endpoints.names import Family, Protocol
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.skeleton import BaseChain, Chain, Rule

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
TABLE_PREFIX = "headgate-trace-"

_OWNER = 0x2  # NFT_TABLE_F_OWNER: the table goes with the socket that made it, since Linux 5.12
_NFTRACE = 12  # NFT_META_NFTRACE
_CT_DIRECTION, _CT_PROTOCOL, _CT_PROTO_SRC, _CT_SRC_IP, _CT_SRC_IP6 = 1, 10, 11, 19, 21
_REPLY = b"\1"
_PER_SECOND, _BURST = 100, 100
_EARLY, _TRACKED, _TRANSLATED, _LATE = -300, -150, -99, 299
_BEFORE_NAT, _AFTER_NAT = -300, 150


class Aim(msgspec.Struct, frozen=True):
    """Whose packets are meant: what clients send to this place, and what is answered to them."""

    address: str
    port: int
    protocol: Protocol
    source: str | None = None
    """Only of this client; None: of anybody."""
    source_port: int | None = None

    @property
    def family(self) -> Family:
        """Of the addresses."""
        return family(self.address)


class Place(NamedTuple):
    """Where a packet is looked at."""

    hook: int
    priority: int

    @property
    def chain(self) -> str:
        """The name of the chain there: `prerouting-translated`."""
        return f"{HOOKS[self.hook]}-{_SUFFIXES[self.hook, self.priority]}"


_SUFFIXES = {
    (PREROUTING, _EARLY): "early",
    (PREROUTING, _TRACKED): "tracked",
    (PREROUTING, _TRANSLATED): "translated",
    (INPUT, _BEFORE_NAT): "early",
    (INPUT, _AFTER_NAT): "late",
    (FORWARD, _EARLY): "early",
    (FORWARD, _LATE): "late",
    (OUTPUT, _EARLY): "early",
    (OUTPUT, _TRACKED): "tracked",
    (OUTPUT, _TRANSLATED): "translated",
    (OUTPUT, _LATE): "late",
    (POSTROUTING, _EARLY): "early",
    (POSTROUTING, _LATE): "late",
}
"""Conntrack comes at -200, DNAT at -100, filters at 0, SNAT at 100. In hook input IPVS takes its
packets at 98 and 99 (linux/netfilter_ipv4.h, ip_vs_core.c)."""

PLACES = {place.chain: place for place in (Place(*key) for key in _SUFFIXES)}
"""By the names of their chains."""


def table_name(number: int) -> str:
    """The table of a process."""
    return f"{TABLE_PREFIX}{number}"


def made(aims: Iterable[Aim], of: Family, table: str, *, quiet: bool) -> list[nl.Message]:
    """The transaction that makes the table; all aims are of this family."""
    flags = nl.be32(nl.NFTA_TABLE_FLAGS, _OWNER)
    body = nl.text(nl.NFTA_TABLE_NAME, table) + flags
    found = [nl.Message(nl.NEWTABLE, nl.NLM_F_CREATE, of, body)]
    for chain in _chains(list(aims), quiet=quiet):
        found += [ruleset.new_chain(of, chain, table), *ruleset.new_rules(of, chain, table)]
    return found


def narrowed(aims: Iterable[Aim], of: Family, table: str, *, quiet: bool) -> list[nl.Message]:
    """The transaction that lets the kernel tell of these aims instead of those before."""
    name = nl.text(nl.NFTA_RULE_TABLE, table)
    found = []
    for chain in _chains(list(aims), quiet=quiet):
        if chain.rules:
            emptied = name + nl.text(nl.NFTA_RULE_CHAIN, chain.name)
            found += [nl.Message(nl.DELRULE, 0, of, emptied), *ruleset.new_rules(of, chain, table)]
    return found


def _chains(aims: list[Aim], *, quiet: bool) -> Iterator[Chain]:
    for name, place in PLACES.items():
        rules: tuple[Rule, ...] = ()
        if place.priority == _EARLY and place.hook in (PREROUTING, OUTPUT):
            rules = tuple((*_header(aim), *_MARKED) for aim in aims)
        elif place.priority == _TRACKED:
            rules = tuple((*_reply(aim), *_MARKED) for aim in aims)
        elif quiet:
            rules = tuple((*_tracked(aim), *_MARKED) for aim in aims)
        if quiet:
            if place.priority == _TRACKED:
                rules += tuple((*_tracked(aim), *_MARKED) for aim in aims)
            rules += (_UNMARKED,)
        yield Chain(name, rules, BaseChain("filter", place.hook, place.priority))


def _header(aim: Aim) -> Rule:
    """What the client sends, as it sends it."""
    v4 = aim.family is Family.IPV4
    size, source, destination = (4, 12, 16) if v4 else (16, 8, 24)
    rule: Rule = (x.meta(x.META_L4PROTO, 0), _equal(bytes((aim.protocol.number,))))
    rule += (x.payload(x.NETWORK_HEADER, destination, size, 0), _equal(pack(aim.address)))
    rule += (x.payload(x.TRANSPORT_HEADER, 2, 2, 0), _equal(aim.port.to_bytes(2, "big")))
    if aim.source is not None:
        rule += (x.payload(x.NETWORK_HEADER, source, size, 0), _equal(pack(aim.source)))
    if aim.source_port is not None:
        port = aim.source_port.to_bytes(2, "big")
        rule += (x.payload(x.TRANSPORT_HEADER, 0, 2, 0), _equal(port))
    return rule


def _tracked(aim: Aim) -> Rule:
    """A packet of either direction, and an ICMP error about one."""
    v4 = aim.family is Family.IPV4
    destination, source = (x.CT_DST_IP, _CT_SRC_IP) if v4 else (x.CT_DST_IP6, _CT_SRC_IP6)
    rule = _original(destination, pack(aim.address))
    rule += _original(_CT_PROTOCOL, bytes((aim.protocol.number,)))
    rule += _original(x.CT_PROTO_DST, aim.port.to_bytes(2, "big"))
    if aim.source is not None:
        rule += _original(source, pack(aim.source))
    if aim.source_port is not None:
        rule += _original(_CT_PROTO_SRC, aim.source_port.to_bytes(2, "big"))
    return rule


def _reply(aim: Aim) -> Rule:
    """What is answered to the client: its flow is the same, its direction the other one."""
    return (x.ct(_CT_DIRECTION, 0), _equal(_REPLY), *_tracked(aim))


def _original(key: int, value: bytes) -> Rule:
    return (x.ct(key, 0, original=True), _equal(value))


def _equal(value: bytes) -> bytes:
    return x.cmp(x.CMP_EQ, 0, value)


def _set_trace(value: int) -> Rule:
    data = nl.nested(2, nl.attr(nl.NFTA_DATA_VALUE, bytes((value, 0, 0, 0))))
    loaded = x.expression("immediate", nl.be32(1, x.register(0)), data)
    return (loaded, x.expression("meta", nl.be32(2, _NFTRACE), nl.be32(3, x.register(0))))


_LIMIT = x.expression(
    "limit",
    nl.be64(1, _PER_SECOND),
    nl.be64(2, 1),
    nl.be32(3, _BURST),
    nl.be32(4, 0),
    nl.be32(5, 0),
)
"""A flood is told of in part: what we cannot read as fast would be lost anyway."""
_MARKED: Rule = (_LIMIT, *_set_trace(1))
_UNMARKED: Rule = _set_trace(0)
