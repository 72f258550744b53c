"""How would nft print a rule that the kernel holds? Pure.

Rules are read from their own bytes, by following what they load into registers, so that the text
cannot differ from what was sent. Only what this program writes is read: anything else is said to
be of another program, rather than to be what it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network

from endpoints.addresses import unpack
from endpoints.names import Family, Protocol
from modes.nftables import codec
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables.sets import S
from modes.nftables.skeleton import TABLE_FAMILY, Rule

_SETS = {set_id.set_name: set_id for set_id in S}
_PROTOCOLS = {protocol.number: protocol.lower() for protocol in Protocol}
_META = {
    x.META_L4PROTO: "meta l4proto",
    x.META_IIFNAME: "iifname",
    x.META_OIFNAME: "oifname",
}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_WORD = 4
_ADDRESSES = {Family.IPV4: (4, 12, 16), Family.IPV6: (16, 8, 24)}
"""Size of an address, and where that of the source and of the destination are in a header."""
_UNREACHABLE = {Family.IPV4: 3, Family.IPV6: 4}
"""Codes of ICMP and ICMPv6: port unreachable."""

Parts = Mapping[int | str, bytes]


def rule_text(family: Family, rule: Rule) -> str:
    """One rule in nft's notation; of a rule that we would not write, the names of what it does."""
    reader = _Reader(family)
    expressions = list(map(x.expression_parts, rule))
    names = [parts["name"].decode(errors="replace") for parts in expressions]
    try:
        for name, parts in zip(names, expressions, strict=True):
            reader.read(name, parts)
    except (_NotOursError, LookupError, ValueError):  # it lacks what ours have, or has more
        return f"# of another program: {', '.join(names)}"
    return " ".join(reader.words)


class _NotOursError(Exception):
    """This program does not write such an expression."""


def _require(is_ours: bool) -> None:  # noqa: FBT001 (it is what it asks for)
    if not is_ours:
        raise _NotOursError


class _Reader:
    """Follows the expressions of one rule: what is in which register, and what is done with it."""

    def __init__(self, family: Family) -> None:
        self.words: list[str] = []
        self._family = family
        self._ip = TABLE_FAMILY[family]
        self._loaded: dict[int, tuple[str, int]] = {}
        """By first word: the text of what is there, and its size in words."""
        self._masks: dict[int, bytes] = {}

    def read(self, name: str, parts: Parts) -> None:
        """Take the next expression."""
        method: Callable[[Parts], None] | None = getattr(self, f"_read_{name}", None)
        if method is None:
            raise _NotOursError
        method(parts)

    def _load(self, parts: Parts, text_: str, words: int = 1) -> None:
        word = _word(parts[1])
        self._loaded[word] = (text_, words)
        self._masks.pop(word, None)

    def _key(self, word: int, set_name: str) -> str:
        end = word + codec.spec_of(self._family, _SETS[set_name]).key_size // _WORD
        fields = []
        while word < end:
            _require(word not in self._masks)
            name, size = self._loaded[word]
            fields.append(name)
            word += size
        return " . ".join(fields)

    def _read_payload(self, parts: Parts) -> None:
        base, offset, length = (_number(parts[kind]) for kind in (2, 3, 4))
        if base == x.TRANSPORT_HEADER:
            _require((offset, length) == (2, 2))
            self._load(parts, "th dport")
            return
        size, source, destination = _ADDRESSES[self._family]
        _require(base == x.NETWORK_HEADER and offset in (source, destination))
        _require(length == size or (offset, length) == (destination, 1))
        which = "saddr" if offset == source else "daddr"
        self._load(parts, f"{self._ip} {which}", size // _WORD)
        if length < size:  # the first octet: nft calls that a network
            self._masks[_word(parts[1])] = b"\xff" + bytes(size - 1)

    def _read_meta(self, parts: Parts) -> None:
        self._load(parts, _META[_number(parts[2])])

    def _read_ct(self, parts: Parts) -> None:
        key = _number(parts[2])
        if key == x.CT_STATUS:
            self._load(parts, "ct status")
            return
        _require(parts[3] == b"\0")  # of the original direction
        if key == x.CT_PROTO_DST:
            self._load(parts, "ct original proto-dst")
            return
        _require(key in (x.CT_DST_IP, x.CT_DST_IP6))
        self._load(parts, f"ct original {self._ip} daddr", _ADDRESSES[self._family][0] // _WORD)

    def _read_fib(self, parts: Parts) -> None:
        _require(_number(parts[2]) == x.FIB_RESULT_TYPE)
        which = {x.FIB_SADDR: "saddr", x.FIB_DADDR: "daddr"}[_number(parts[3])]
        self._load(parts, f"fib {which} type")

    def _read_numgen(self, parts: Parts) -> None:
        _require(_number(parts[3]) == x.NUMGEN_RANDOM)
        offset = _number(parts[4])
        suffix = f" offset {offset}" if offset else ""
        self._load(parts, f"numgen random mod {_number(parts[2])}{suffix}")

    def _read_bitwise(self, parts: Parts) -> None:
        _require(_number(parts.get(6, b"")) == 0)  # a mask, no shift
        self._masks[_word(parts[1])] = _value(parts[4])

    def _read_cmp(self, parts: Parts) -> None:
        word, value, operator = _word(parts[1]), _value(parts[3]), _number(parts[2])
        name, mask = self._loaded[word][0], self._masks.get(word)
        _require(operator in (x.CMP_EQ, x.CMP_NEQ))
        if name == "ct status":
            unset = (x.CMP_EQ, x.native32(x.IPS_DST_NAT), x.native32(0))
            _require((operator, mask, value) == unset)
            self.words.append("ct status ! dnat")
            return
        if name.startswith("fib"):
            _require(value == x.native32(x.RTN_LOCAL))
            value_text = "local"
        elif name == "meta l4proto":
            value_text = _PROTOCOLS[value[0]]
        elif name in ("iifname", "oifname"):
            known = value.rstrip(b"\0").decode()
            value_text = f'"{known}"' if len(value) == x.IFNAMSIZ else f'"{known}*"'
        else:
            _require(name.endswith("addr"))
            value_text = _network(value, mask)
        self.words.append(f"{name} {'!= ' if operator == x.CMP_NEQ else ''}{value_text}")

    def _read_lookup(self, parts: Parts) -> None:
        name = parts[1].rstrip(b"\0").decode()
        key = self._key(_word(parts[2]), name)
        if 3 not in parts:  # noqa: PLR2004 (no register to load to: a set)
            self.words.append(f"{key} {'!= ' if _number(parts[5]) else ''}@{name}")
        elif _number(parts[3]):
            self._loaded[_word(parts[3])] = (f"{key} map @{name}", 1)
        else:
            self.words.append(f"{key} vmap @{name}")

    def _read_nat(self, parts: Parts) -> None:
        to = self._loaded[_word(parts[3])][0]
        _require(_number(parts[1]) == x.NAT_DESTINATION and " map @" in to)
        self.words.append(f"dnat {self._ip} to {to}")

    def _read_masq(self, parts: Parts) -> None:
        _require(
            {kind: _number(of) for kind, of in parts.items() if kind != "name"}
            == {1: x.RANDOM_FULLY}
        )
        self.words.append("masquerade fully-random")

    def _read_reject(self, parts: Parts) -> None:
        is_reset = _number(parts[1]) == x.REJECT_TCP_RESET
        _require(is_reset or (_number(parts[1]), parts[2][0]) == (0, _UNREACHABLE[self._family]))
        self.words.append("reject with tcp reset" if is_reset else "reject")

    def _read_immediate(self, parts: Parts) -> None:
        _require(_number(parts[1]) == 0)  # the register of the verdict
        self.words.append(codec.decode_verdict(_value(parts[2])).verdict)

    def _read_dynset(self, parts: Parts) -> None:
        name = parts[1].rstrip(b"\0").decode()
        key = self._key(_word(parts[4]), name)
        data = _word(parts[5])
        address, size = self._loaded[data]
        endpoint = f"{address} . {self._loaded[data + size][0]}"
        timeout = duration(_number(parts[6]) // 1000)
        self.words.append(f"update @{name} {{ {key} timeout {timeout} : {endpoint} }}")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _value(data: bytes) -> bytes:
    """What is in an attribute of data, or of a verdict."""
    _, value = next(nl.attributes(data), (0, b""))
    return value


def _word(register: bytes) -> int:
    """The word that a register starts at: the inverse of `expressions.register`."""
    number = _number(register)
    return number - 8 if number >= 8 else (number - 1) * 4  # noqa: PLR2004 (NFT_REG32_00)


def _network(value: bytes, mask: bytes | None) -> str:
    if mask is None:
        return unpack(value)
    value = value.ljust(len(mask), b"\0")
    found = ip_network((value, int.from_bytes(mask, "big").bit_count()))
    _require(found.netmask.packed == mask)
    return str(found)


def duration(seconds: int) -> str:
    """Seconds as nft prints them: `1h30m`; nothing for none."""
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
