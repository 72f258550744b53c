"""Which way does a packet take through our rules? They are read from the bytes that the kernel gets.

It runs rules over elements as the kernel would, and knows no more expressions than ours have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import NamedTuple

import msgspec

from endpoints.addresses import pack, unpack
from endpoints.names import Family, Protocol
from modes.nftables import codec
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables.elements import Value, Verdict, key_prefix
from modes.nftables.sets import S
from modes.nftables.shape import Shape
from modes.nftables.skeleton import Chain, Layout, Rule

_WORD = 4
_SETS = {set_id.set_name: set_id for set_id in S}
_RTN_UNICAST = 1
_SOURCE = {Family.IPV4: 12, Family.IPV6: 8}
"""Where the source address is in a header."""


Parts = Mapping[int | str, bytes]
"""What `expressions.expression_parts` gives."""


class Packet(msgspec.Struct, frozen=True):
    """The first packet of a flow, where a chain meets it."""

    source: str
    destination: str
    port: int
    protocol: Protocol = Protocol.TCP
    asked: tuple[str, int] | None = None
    """What it was sent to, if that was translated."""
    arrives_by: str = ""
    leaves_by: str = ""
    own: Collection[str] = ()
    """Addresses of the node."""


class Walk(msgspec.Struct):
    """What a base chain does with a packet."""

    verdict: str = "accept"
    """`accept`, `drop`, `reject`, `masquerade`, or `10.244.1.2:8080`: where it is sent."""
    lookups: list[str] = []
    """The sets and maps that were asked, in order."""
    learnt: list[tuple[str, bytes, bytes]] = []
    """Maps, keys and data that it put into them."""


class _Stopped(Exception):
    """The rule does not match."""


class _Decided(Exception):
    """The base chain is done."""


class _Went(NamedTuple):
    word: str
    chain: str


def walk(
    layout: Layout,
    chain: str,
    elements: Mapping[bytes, Value],
    packet: Packet,
    *,
    slot: int = 0,
    missed: str = "",
) -> Walk:
    """Run a base chain of the layout. Whatever is chosen by chance is this slot of the list.

    The first lookup in the set that is `missed` finds nothing.
    """
    walker = _Walker(layout, elements, packet, slot, missed)
    try:
        walker.chain(chain)
    except _Decided as decided:
        walker.walk.verdict = str(decided)
    return walker.walk


@cache
def _chains(shape: Shape) -> dict[str, Chain]:
    return {chain.name: chain for chain in Layout(shape).base_chains()}


class _Walker:
    def __init__(
        self,
        layout: Layout,
        elements: Mapping[bytes, Value],
        packet: Packet,
        slot: int,
        missed: str,
    ) -> None:
        self.walk = Walk()
        self._layout = layout
        self._elements = elements
        self._packet = packet
        self._slot = slot
        self._missed = missed
        self._chains = _chains(layout.shape)
        self._words: dict[int, bytes] = {}

    def chain(self, name: str) -> None:
        """Run a chain to its end, or until it returns."""
        found = self._chains.get(name) or self._layout.numbered_chain(name)
        assert found is not None, name
        for rule in found.rules:
            went = self._rule(rule)
            if went is None:
                continue
            if went.chain:
                self.chain(went.chain)
            if went.word != "jump":
                return

    def _rule(self, rule: Rule) -> _Went | None:
        self._words = {}
        try:
            for encoded in rule:
                parts = x.expression_parts(encoded)
                read: Callable[..., _Went | None] = getattr(self, f"_{parts['name'].decode()}")
                went = read(parts)
                if went is not None:
                    return went
        except _Stopped:
            pass
        return None

    def _load(self, register: bytes, value: bytes) -> None:
        start, padded = _word(register), value.ljust(-len(value) % _WORD + len(value), b"\0")
        for at in range(0, len(padded), _WORD):
            self._words[start + at // _WORD] = padded[at : at + _WORD]

    def _loaded(self, register: bytes, size: int) -> bytes:
        start = _word(register)
        return b"".join(self._words[start + at] for at in range((size + 3) // _WORD))[:size]

    def _payload(self, parts: Parts) -> None:
        packet = self._packet
        if _number(parts[2]) == x.TRANSPORT_HEADER:
            self._load(parts[1], packet.port.to_bytes(2, "big"))
            return
        offset, size = _number(parts[3]), _number(parts[4])
        address = packet.source if offset == _SOURCE[self._layout.family] else packet.destination
        self._load(parts[1], pack(address)[:size])

    def _meta(self, parts: Parts) -> None:
        packet = self._packet
        names = {x.META_IIFNAME: packet.arrives_by, x.META_OIFNAME: packet.leaves_by}
        name = names.get(_number(parts[2]))
        value = bytes((packet.protocol.number,)) if name is None else name.encode().ljust(16, b"\0")
        self._load(parts[1], value)

    def _ct(self, parts: Parts) -> None:
        packet, key = self._packet, _number(parts[2])
        address, port = packet.asked or (packet.destination, packet.port)
        if key == x.CT_STATUS:
            self._load(parts[1], x.native32(x.IPS_DST_NAT if packet.asked else 0))
        else:
            is_port = key == x.CT_PROTO_DST
            self._load(parts[1], port.to_bytes(2, "big") if is_port else pack(address))

    def _fib(self, parts: Parts) -> None:
        packet = self._packet
        address = packet.source if _number(parts[3]) == x.FIB_SADDR else packet.destination
        kind = x.RTN_LOCAL if address in packet.own else _RTN_UNICAST
        self._load(parts[1], x.native32(kind))

    def _numgen(self, parts: Parts) -> None:
        chosen = self._slot % _number(parts[2])
        self._load(parts[1], x.native32(_number(parts[4]) + chosen))

    def _bitwise(self, parts: Parts) -> None:
        mask = _value(parts[4])
        value = self._loaded(parts[1], len(mask))
        self._load(parts[1], bytes(a & b for a, b in zip(value, mask, strict=True)))

    def _cmp(self, parts: Parts) -> None:
        value = _value(parts[3])
        if (self._loaded(parts[1], len(value)) == value) is bool(_number(parts[2])):
            raise _Stopped

    def _lookup(self, parts: Parts) -> _Went | None:
        name = _text(parts[1])
        is_missed = name == self._missed and name not in self.walk.lookups
        self.walk.lookups.append(name)
        spec = codec.spec_of(self._layout.family, _SETS[name])
        key = key_prefix(self._layout.family, spec.id) + self._loaded(parts[2], spec.key_size)
        value = self._in_an_interval(key) if spec.interval else self._elements.get(key)
        value = None if is_missed else value
        if (value is None) is not bool(_number(parts[5])):
            raise _Stopped
        if isinstance(value, Verdict):
            return self._verdict(value.verdict)
        if 3 in parts:
            assert value is not None
            self._load(parts[3], value)
        return None

    def _in_an_interval(self, key: bytes) -> bytes | None:
        size = len(key) - 1
        for other in self._elements:
            low, high = other[1 : 1 + size], other[1 + size :]
            if other[0] == key[0] and low <= key[1:] <= high:
                return b""
        return None

    def _immediate(self, parts: Parts) -> _Went:
        return self._verdict(codec.decode_verdict(_value(parts[2])).verdict)

    @staticmethod
    def _verdict(verdict: str) -> _Went:
        word, _, chain = verdict.partition(" ")
        if word in ("accept", "drop"):
            raise _Decided(word)
        return _Went(word, chain)

    def _nat(self, parts: Parts) -> None:
        address = self._loaded(parts[3], len(pack(self._packet.source)))
        port = int.from_bytes(self._loaded(parts[5], 2), "big")
        raise _Decided(f"{unpack(address)}:{port}")

    def _masq(self, _parts: Parts) -> None:
        raise _Decided("masquerade")

    def _reject(self, _parts: Parts) -> None:
        raise _Decided("reject")

    def _dynset(self, parts: Parts) -> None:
        name = _text(parts[1])
        spec = codec.spec_of(self._layout.family, _SETS[name])
        key = self._loaded(parts[4], spec.key_size)
        self.walk.learnt.append((name, key, self._loaded(parts[5], spec.data_size)))


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _value(data: bytes) -> bytes:
    return next(nl.attributes(data))[1]


def _word(register: bytes) -> int:
    number = _number(register)
    return number - 8 if number >= 8 else (number - 1) * 4
