"""What would nft print for the table that a node gets? Pure: no kernel is asked.

Rules are read from their own bytes, by following what they load into registers, so that the text
cannot differ from what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network

import msgspec

from endpoints.addresses import unpack
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import NodeView
from modes.base import Plans
from modes.nftables import codec
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables.delta import Changes, missing_chains
from modes.nftables.dump import describe
from modes.nftables.elements import Elements, Value, Verdict, render, render_node, set_of
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.skeleton import TABLE, TABLE_FAMILY, Chain, Layout, Rule, shape_of

_HOOKS = {0: "prerouting", 1: "input", 3: "output", 4: "postrouting"}
_SETS = {set_id.set_name: set_id for set_id in S}
_PROTOCOLS = {protocol.number: protocol.lower() for protocol in Protocol}
_META = {
    x.META_L4PROTO: "meta l4proto",
    x.META_IIFNAME: "iifname",
    x.META_OIFNAME: "oifname",
}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_WORD = 4


class ListedSet(msgspec.Struct, frozen=True):
    """A set or map with its elements in nft's notation."""

    name: str
    type: str
    options: tuple[str, ...]
    """`flags interval`, `size 262144`."""
    elements: tuple[str, ...]


class ListedChain(msgspec.Struct, frozen=True):
    """A chain with its rules in nft's notation."""

    name: str
    hook: str
    rules: tuple[str, ...]


class ListedTable(msgspec.Struct, frozen=True):
    """A table as the kernel would hold it."""

    family: str
    name: str
    sets: tuple[ListedSet, ...]
    chains: tuple[ListedChain, ...]


def tables(services: Mapping[ObjectName, Plans], node: NodeView) -> tuple[ListedTable, ...]:
    """The tables of both families that hold these Services on this node.

    For kernels in which lookups cannot miss (6.17 and newer): before that, three lookups are
    written twice.
    """
    elements: Elements = render_node(node)
    for plans in services.values():
        elements.update(render(plans, {}))
    shapes = [shape_of(node, family, lookups_can_miss=False) for family in Family]
    layouts = {shape.family: Layout(shape) for shape in shapes}
    numbered = missing_chains(layouts, set(), Changes(adds=elements))
    return tuple(
        _table(layout, elements, [name for of, name in numbered if of is family])
        for family, layout in layouts.items()
    )


def _table(layout: Layout, elements: Elements, numbered: Iterable[str]) -> ListedTable:
    made = [layout.numbered_chain(name) for name in numbered]
    chains = [*layout.base_chains(), *(chain for chain in made if chain)]
    return ListedTable(
        family=TABLE_FAMILY[layout.family],
        name=TABLE,
        sets=tuple(_set(layout.family, spec, elements) for spec in set_specs(layout.family)),
        chains=tuple(_chain(layout.family, chain) for chain in chains),
    )


def _set(family: Family, spec: SetSpec, elements: Elements) -> ListedSet:
    kind = " . ".join(spec.fields)
    if spec.data:
        kind += " : " + " . ".join(spec.data)
    ours = ((k, v) for k, v in elements.items() if set_of(k) == (family, spec.id))
    return ListedSet(
        spec.id.set_name, kind, _options(spec), tuple(_element(key, value) for key, value in ours)
    )


def _options(spec: SetSpec) -> tuple[str, ...]:
    if spec.dynamic_size:
        return (f"size {spec.dynamic_size}", "flags dynamic,timeout")
    return ("flags interval",) if spec.interval else ()


def _element(key: bytes, value: Value) -> str:
    text = describe(key).split(" ", 2)[2]
    if isinstance(value, Verdict):
        comment = f' comment "{value.comment}"' if value.comment else ""
        return f"{text}{comment} : {value.verdict}"
    if value:
        return f"{text} : {unpack(value[:-4])} . {int.from_bytes(value[-4:-2], 'big')}"
    return text


def _chain(family: Family, chain: Chain) -> ListedChain:
    hook = ""
    if chain.base:
        place = f"{_HOOKS[chain.base.hook]} priority {chain.base.priority}"
        hook = f"type {chain.base.type} hook {place}; policy accept;"
    return ListedChain(chain.name, hook, tuple(rule_text(family, rule) for rule in chain.rules))


def text(listed: Iterable[ListedTable]) -> Iterator[str]:
    """The lines of a listing, in the form of `nft list ruleset`."""
    for table in listed:
        yield f"table {table.family} {table.name} {{"
        for item in table.sets:
            yield f"\t{'map' if ' : ' in item.type else 'set'} {item.name} {{"
            yield f"\t\ttype {item.type}"
            yield from (f"\t\t{option}" for option in item.options)
            if item.elements:
                lines = ",\n\t\t\t     ".join(item.elements)
                yield f"\t\telements = {{ {lines} }}"
            yield "\t}\n"
        for chain in table.chains:
            yield f"\tchain {chain.name} {{"
            yield from (f"\t\t{line}" for line in (chain.hook, *chain.rules) if line)
            yield "\t}\n"
        yield "}"


def rule_text(family: Family, rule: Rule) -> str:
    """One rule in nft's notation."""
    reader = _Reader(family)
    for expression in rule:
        parts = x.expression_parts(expression)
        reader.read(parts.pop("name").decode(), parts)
    return " ".join(reader.words)


class _Reader:
    """Follows the expressions of one rule: what is in which register, and what is done with it."""

    def __init__(self, family: Family) -> None:
        self.words: list[str] = []
        self._family = family
        self._ip = TABLE_FAMILY[family]
        self._loaded: dict[int, tuple[str, int]] = {}
        """By first word: the text of what is there, and its size in words."""
        self._masks: dict[int, bytes] = {}

    def read(self, name: str, parts: Mapping[int | str, bytes]) -> None:
        """Take the next expression."""
        method: Callable[[Mapping[int | str, bytes]], None] = getattr(self, f"_read_{name}")
        method(parts)

    def _load(self, parts: Mapping[int | str, bytes], text_: str, words: int = 1) -> None:
        word = _word(parts[1])
        self._loaded[word] = (text_, words)
        self._masks.pop(word, None)

    def _key(self, word: int, set_name: str) -> str:
        end = word + codec.spec_of(self._family, _SETS[set_name]).key_size // _WORD
        fields = []
        while word < end:
            name, size = self._loaded[word]
            fields.append(name)
            word += size
        return " . ".join(fields)

    def _read_payload(self, parts: Mapping[int | str, bytes]) -> None:
        if _number(parts[2]) == x.TRANSPORT_HEADER:
            self._load(parts, "th dport")
            return
        size = 4 if self._family is Family.IPV4 else 16
        source = _number(parts[3]) == (12 if self._family is Family.IPV4 else 8)
        self._load(parts, f"{self._ip} {'saddr' if source else 'daddr'}", size // _WORD)
        if _number(parts[4]) < size:  # the first octet: nft calls that a network
            self._masks[_word(parts[1])] = b"\xff" + bytes(size - 1)

    def _read_meta(self, parts: Mapping[int | str, bytes]) -> None:
        self._load(parts, _META[_number(parts[2])])

    def _read_ct(self, parts: Mapping[int | str, bytes]) -> None:
        key = _number(parts[2])
        if key == x.CT_STATUS:
            self._load(parts, "ct status")
        elif key == x.CT_PROTO_DST:
            self._load(parts, "ct original proto-dst")
        else:
            size = 1 if self._family is Family.IPV4 else 4
            self._load(parts, f"ct original {self._ip} daddr", size)

    def _read_fib(self, parts: Mapping[int | str, bytes]) -> None:
        which = "saddr" if _number(parts[3]) == x.FIB_SADDR else "daddr"
        self._load(parts, f"fib {which} type")

    def _read_numgen(self, parts: Mapping[int | str, bytes]) -> None:
        offset = _number(parts[4])
        suffix = f" offset {offset}" if offset else ""
        self._load(parts, f"numgen random mod {_number(parts[2])}{suffix}")

    def _read_bitwise(self, parts: Mapping[int | str, bytes]) -> None:
        _, self._masks[_word(parts[1])] = next(nl.attributes(parts[4]))

    def _read_cmp(self, parts: Mapping[int | str, bytes]) -> None:
        word, (_, value) = _word(parts[1]), next(nl.attributes(parts[3]))
        name = self._loaded[word][0]
        if name == "ct status":
            self.words.append("ct status ! dnat")
            return
        if name.startswith("fib"):
            value_text = "local"
        elif name == "meta l4proto":
            value_text = _PROTOCOLS[value[0]]
        elif name in ("iifname", "oifname"):
            known = value.rstrip(b"\0").decode()
            value_text = f'"{known}"' if len(value) == x.IFNAMSIZ else f'"{known}*"'
        else:
            value_text = _network(value, self._masks.get(word))
        operator = "!= " if _number(parts[2]) == x.CMP_NEQ else ""
        self.words.append(f"{name} {operator}{value_text}")

    def _read_lookup(self, parts: Mapping[int | str, bytes]) -> None:
        name = parts[1].rstrip(b"\0").decode()
        key = self._key(_word(parts[2]), name)
        if 3 not in parts:  # noqa: PLR2004 (no register to load to: a set)
            self.words.append(f"{key} {'!= ' if _number(parts[5]) else ''}@{name}")
        elif _number(parts[3]):
            self._loaded[_word(parts[3])] = (f"{key} map @{name}", 1)
        else:
            self.words.append(f"{key} vmap @{name}")

    def _read_nat(self, parts: Mapping[int | str, bytes]) -> None:
        self.words.append(f"dnat {self._ip} to {self._loaded[_word(parts[3])][0]}")

    def _read_masq(self, _: Mapping[int | str, bytes]) -> None:
        self.words.append("masquerade fully-random")

    def _read_reject(self, parts: Mapping[int | str, bytes]) -> None:
        self.words.append("reject with tcp reset" if _number(parts[1]) else "reject")

    def _read_immediate(self, parts: Mapping[int | str, bytes]) -> None:
        _, data = next(nl.attributes(parts[2]))
        self.words.append(codec.decode_verdict(data).verdict)

    def _read_dynset(self, parts: Mapping[int | str, bytes]) -> None:
        name = parts[1].rstrip(b"\0").decode()
        key = self._key(_word(parts[4]), name)
        data = _word(parts[5])
        address, size = self._loaded[data]
        endpoint = f"{address} . {self._loaded[data + size][0]}"
        timeout = _duration(_number(parts[6]) // 1000)
        self.words.append(f"update @{name} {{ {key} timeout {timeout} : {endpoint} }}")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _word(register: bytes) -> int:
    """The word that a register starts at: the inverse of `expressions.register`."""
    number = _number(register)
    return number - 8 if number >= 8 else (number - 1) * 4  # noqa: PLR2004 (NFT_REG32_00)


def _network(value: bytes, mask: bytes | None) -> str:
    if mask is None:
        return unpack(value)
    value = value.ljust(len(mask), b"\0")
    return str(ip_network((value, int.from_bytes(mask, "big").bit_count())))


def _duration(seconds: int) -> str:
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
