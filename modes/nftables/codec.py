"""How do the table and its elements become nfnetlink messages, and how are they read back? Pure.

Elements of one set have one size, so their attribute headers are made once per set: packing an
element is a join of ready bytes (1 to 2 us, where a general encoder takes 100).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from endpoints.names import Family
from modes.base import KernelFault
from modes.nftables import netlink as nl
from modes.nftables import uniform
from modes.nftables.elements import Value, Verdict, key_prefix, set_of
from modes.nftables.expressions import NFT_GOTO, NFT_JUMP, verdict_data
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.skeleton import TABLE, BaseChain, Chain, Rule

_MESSAGE_PAYLOAD = 60_000
"""Bytes of elements in one message; the length of an attribute has 16 bits."""
_SET_INTERVAL, _SET_MAP, _SET_TIMEOUT, _SET_EVAL, _SET_CONCAT = 0x4, 0x8, 0x10, 0x20, 0x80
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_ELEM_CATCH_ALL = 0x2
_DESC_SIZE, _DESC_CONCAT, _FIELD_LEN = 1, 2, 1
_UDATA_COMMENT = 0
_VERDICT_WORDS = {NFT_GOTO: "goto", NFT_JUMP: "jump", 0: "drop", 1: "accept", -5: "return"}


@cache
def spec_of(family: Family, set_id: S) -> SetSpec:
    """The specification of a set."""
    return set_specs(family)[set_id]


# The table.


def new_table(family: Family, table: str = TABLE) -> nl.Message:
    """Make the family's table, if it is not there."""
    return nl.Message(nl.NEWTABLE, nl.NLM_F_CREATE, family, nl.text(nl.NFTA_TABLE_NAME, table))


def delete_table(family: Family, table: str = TABLE) -> nl.Message:
    """Remove a table with everything in it."""
    return nl.Message(nl.DELTABLE, 0, family, nl.text(nl.NFTA_TABLE_NAME, table))


def new_set(family: Family, spec: SetSpec, table: str = TABLE) -> nl.Message:
    """Make one set or map."""
    body = [
        nl.text(nl.NFTA_SET_TABLE, table),
        nl.text(nl.NFTA_SET_NAME, spec.id.set_name),
        nl.be32(nl.NFTA_SET_FLAGS, set_flags(spec)),
        nl.be32(nl.NFTA_SET_KEY_TYPE, spec.key_type),
        nl.be32(nl.NFTA_SET_KEY_LEN, spec.key_size),
        nl.be32(nl.NFTA_SET_ID, spec.id + 1),
    ]
    if spec.data:
        body.append(nl.be32(nl.NFTA_SET_DATA_TYPE, spec.data_type))
        body.append(nl.be32(nl.NFTA_SET_DATA_LEN, spec.data_size))
    description = []
    if spec.dynamic_size:
        description.append(nl.be32(_DESC_SIZE, spec.dynamic_size))
    if len(spec.fields) > 1:
        sizes = [nl.nested(nl.NFTA_LIST_ELEM, nl.be32(_FIELD_LEN, n)) for n in spec.field_sizes]
        description.append(nl.nested(_DESC_CONCAT, *sizes))
    body.append(nl.nested(nl.NFTA_SET_DESC, *description))
    return nl.Message(nl.NEWSET, nl.NLM_F_CREATE, family, b"".join(body))


def set_flags(spec: SetSpec) -> int:
    """The kernel's flags of a set."""
    flags = _SET_MAP if spec.data else 0
    if len(spec.fields) > 1:
        flags |= _SET_CONCAT
    if spec.interval:
        flags |= _SET_INTERVAL
    if spec.dynamic_size:
        flags |= _SET_TIMEOUT | _SET_EVAL
    return flags


def new_chain(family: Family, chain: Chain, table: str = TABLE) -> nl.Message:
    """Make one chain, without its rules."""
    body = nl.text(nl.NFTA_CHAIN_TABLE, table) + nl.text(nl.NFTA_CHAIN_NAME, chain.name)
    if chain.base:
        priority = chain.base.priority.to_bytes(4, "big", signed=True)
        hook = (nl.be32(_HOOK_NUMBER, chain.base.hook), nl.attr(_HOOK_PRIORITY, priority))
        body += nl.nested(nl.NFTA_CHAIN_HOOK, *hook)
        body += nl.text(nl.NFTA_CHAIN_TYPE, chain.base.type)
    return nl.Message(nl.NEWCHAIN, nl.NLM_F_CREATE, family, body)


def new_rules(family: Family, chain: Chain, table: str = TABLE) -> Iterator[nl.Message]:
    """Append the rules of a chain."""
    names = nl.text(nl.NFTA_RULE_TABLE, table) + nl.text(nl.NFTA_RULE_CHAIN, chain.name)
    for rule in chain.rules:
        body = names + nl.nested(nl.NFTA_RULE_EXPRESSIONS, *rule)
        yield nl.Message(nl.NEWRULE, nl.NLM_F_CREATE | nl.NLM_F_APPEND, family, body)


# Elements.


class Found(NamedTuple):
    """An element that the kernel holds."""

    key: bytes
    value: Value
    timeout_ms: int = 0
    expiration_ms: int = 0


class _Frame(NamedTuple):
    """The constant attribute headers around the key and the data of a set's elements."""

    before_key: bytes
    after_key: bytes
    """Between the key and its end (intervals) or its data (maps of data); else empty."""


@cache
def _frame(family: Family, set_id: S) -> _Frame:
    spec = spec_of(family, set_id)
    size = spec.key_size
    whole = size + 8
    tail = b""
    if spec.interval:
        tail = _nest_header(nl.NFTA_ELEM_KEY_END, size + 4) + _header(nl.NFTA_DATA_VALUE, size)
        whole += len(tail) + size
    elif spec.data_size:
        data = spec.data_size
        tail = _nest_header(nl.NFTA_ELEM_DATA, data + 4) + _header(nl.NFTA_DATA_VALUE, data)
        whole += len(tail) + data
    key = _nest_header(nl.NFTA_ELEM_KEY, size + 4) + _header(nl.NFTA_DATA_VALUE, size)
    return _Frame(_nest_header(nl.NFTA_LIST_ELEM, whole) + key, tail)


def _header(kind: int, size: int) -> bytes:
    return nl.attr(kind, bytes(size))[:4]


def _nest_header(kind: int, size: int) -> bytes:
    return _header(kind | nl.NLA_F_NESTED, size)


@lru_cache(maxsize=4096)
def _verdict_attribute(verdict: str) -> bytes:
    return nl.nested(nl.NFTA_ELEM_DATA, verdict_data(verdict))


def _encoder(family: Family, set_id: S) -> Callable[[bytes, Value], bytes]:
    """How an element of this set is packed; its key leads with the set, as in a fragment."""
    frame = _frame(family, set_id)
    spec = spec_of(family, set_id)
    if spec.is_vmap:
        return _encode_verdict
    middle = 1 + spec.key_size
    if spec.interval:
        return lambda key, _: b"".join(
            (frame.before_key, key[1:middle], frame.after_key, key[middle:])
        )
    return lambda key, value: b"".join((frame.before_key, key[1:], frame.after_key, _data(value)))


def _encode_verdict(key: bytes, value: Value) -> bytes:
    if not isinstance(value, Verdict):
        raise TypeError(f"{value!r} in a verdict map")
    parts = [nl.nested(nl.NFTA_ELEM_KEY, nl.attr(nl.NFTA_DATA_VALUE, key[1:]))]
    parts.append(_verdict_attribute(value.verdict))
    if value.comment:
        comment = value.comment.encode() + b"\0"
        userdata = bytes((_UDATA_COMMENT, len(comment))) + comment
        parts.append(nl.attr(nl.NFTA_ELEM_USERDATA, userdata))
    return nl.nested(nl.NFTA_LIST_ELEM, *parts)


def encode_timed(entry: Found) -> bytes:
    """An element of a map of data that lives for the rest of its time."""
    parts = [
        nl.nested(nl.NFTA_ELEM_KEY, nl.attr(nl.NFTA_DATA_VALUE, entry.key[1:])),
        nl.nested(nl.NFTA_ELEM_DATA, nl.attr(nl.NFTA_DATA_VALUE, _data(entry.value))),
        nl.be64(nl.NFTA_ELEM_TIMEOUT, entry.timeout_ms),
        nl.be64(nl.NFTA_ELEM_EXPIRATION, entry.expiration_ms),
    ]
    return nl.nested(nl.NFTA_LIST_ELEM, *parts)


def _data(value: Value) -> bytes:
    if isinstance(value, Verdict):
        raise TypeError(f"{value} in a set or a map of data")
    return value


def _key_encoder(family: Family, set_id: S) -> Callable[[bytes], bytes]:
    """How an element is named: by its key, an interval by both ends, `*` by a flag."""
    interval = _encoder(family, set_id) if spec_of(family, set_id).interval else None

    def named(key: bytes) -> bytes:
        if is_catch_all(key):
            return nl.nested(nl.NFTA_LIST_ELEM, nl.be32(nl.NFTA_ELEM_FLAGS, _ELEM_CATCH_ALL))
        if interval:
            return interval(key, b"")
        key = nl.nested(nl.NFTA_ELEM_KEY, nl.attr(nl.NFTA_DATA_VALUE, key[1:]))
        return nl.nested(nl.NFTA_LIST_ELEM, key)

    return named


def is_catch_all(key: bytes) -> bool:
    """Whether a key is that of `*` (kernel 5.13), which has no bytes; it is never ours."""
    return len(key) == 1


def additions(elements: Mapping[bytes, Value]) -> Iterator[nl.Message]:
    """Messages that add these elements, set by set."""
    for (family, set_id), keys in _by_set(elements):
        encode = _encoder(family, set_id)
        encoded = (encode(key, elements[key]) for key in keys)
        yield from _messages(nl.NEWSETELEM, nl.NLM_F_CREATE, family, set_id, keys, encoded)


def deletions(keys: Iterable[bytes]) -> Iterator[nl.Message]:
    """Messages that delete the elements with these keys, set by set."""
    for (family, set_id), listed in _by_set(keys):
        encoded = map(_key_encoder(family, set_id), listed)
        yield from _messages(nl.DELSETELEM, 0, family, set_id, listed, encoded)


def questions(keys: Iterable[bytes]) -> Iterator[nl.Message]:
    """Messages that ask for the elements with these keys, one each.

    Of several in one message the kernel tells nothing after the first that is not there.
    """
    for (family, set_id), listed in _by_set(keys):
        named = _key_encoder(family, set_id)
        for key in listed:
            body = nl.element_list(TABLE, set_id.set_name, [named(key)])
            yield nl.Message(nl.GETSETELEM, nl.NLM_F_ACK, family, body, [key])


def _by_set(keys: Iterable[bytes]) -> Iterator[tuple[tuple[Family, S], list[bytes]]]:
    listed: dict[int, list[bytes]] = {}
    for key in keys:
        listed.setdefault(key[0], []).append(key)
    for part in listed.values():
        yield set_of(part[0]), part


def _messages(
    kind: int,
    flags: int,
    family: Family,
    set_id: S,
    keys: Sequence[bytes],
    encoded: Iterable[bytes],
) -> Iterator[nl.Message]:
    """As few messages as hold the elements; keys and encoded elements go side by side."""
    part: list[bytes] = []
    start = size = 0
    for element in encoded:
        if size + len(element) > _MESSAGE_PAYLOAD:
            body = nl.element_list(TABLE, set_id.set_name, part)
            yield nl.Message(kind, flags, family, body, keys[start : start + len(part)])
            start, part, size = start + len(part), [], 0
        part.append(element)
        size += len(element)
    body = nl.element_list(TABLE, set_id.set_name, part)
    yield nl.Message(kind, flags, family, body, keys[start:])


def decode_elements(family: Family, set_id: S, payload: bytes) -> Iterator[Found]:
    """The elements in one message of a dump."""
    prefix = key_prefix(family, set_id)
    for kind, listed in nl.attributes(payload):
        if kind == nl.NFTA_ELEM_LIST_ELEMENTS:
            alike = uniform.rows(spec_of(family, set_id), prefix, listed)
            if alike is None:
                yield from (_decode_element(prefix, of) for _, of in nl.attributes(listed))
            else:
                yield from map(Found._make, alike)


def _decode_element(prefix: bytes, element: bytes) -> Found:
    key = end = comment = b""
    value: Value = b""
    timeout = expiration = 0
    for kind, payload in nl.attributes(element):
        if kind == nl.NFTA_ELEM_KEY:
            key = payload[4:]
        elif kind == nl.NFTA_ELEM_KEY_END:
            end = payload[4:]
        elif kind == nl.NFTA_ELEM_DATA:
            value = _decode_data(payload)
        elif kind == nl.NFTA_ELEM_USERDATA:
            comment = _comment_in(payload)
        elif kind == nl.NFTA_ELEM_TIMEOUT:
            timeout = int.from_bytes(payload, "big")
        elif kind == nl.NFTA_ELEM_EXPIRATION:
            expiration = int.from_bytes(payload, "big")
    if isinstance(value, Verdict) and comment:
        value = Verdict(value.verdict, comment.decode(errors="replace"))
    return Found(prefix + key + end, value, timeout, expiration)


def _decode_data(payload: bytes) -> Value:
    kind, data = next(nl.attributes(payload), (0, b""))
    return decode_verdict(data) if kind == nl.NFTA_DATA_VERDICT else data


@lru_cache(maxsize=4096)
def decode_verdict(data: bytes) -> Verdict:
    """The verdict in the attributes that `expressions.verdict_data` makes."""
    parts = dict(nl.attributes(data))
    if nl.NFTA_VERDICT_CODE not in parts:
        return Verdict("unknown")
    code = int.from_bytes(parts[nl.NFTA_VERDICT_CODE], "big", signed=True)
    word = _VERDICT_WORDS.get(code, str(code))
    chain = parts.get(nl.NFTA_VERDICT_CHAIN, b"").rstrip(b"\0").decode(errors="replace")
    return Verdict(f"{word} {chain}" if chain else word)


def _comment_in(userdata: bytes) -> bytes:
    position = 0
    while position + 2 <= len(userdata):
        kind, size = userdata[position], userdata[position + 1]
        if kind == _UDATA_COMMENT:
            return userdata[position + 2 : position + 2 + size].rstrip(b"\0")
        position += 2 + size
    return b""


class FoundSet(NamedTuple):
    """A set that the kernel holds, as far as it matters to us."""

    name: str
    flags: int
    key_size: int
    data_size: int
    table: str

    @property
    def words(self) -> str:
        """`map services`, `set hairpin`."""
        return f"{'map' if self.flags & _SET_MAP else 'set'} {self.name}"


def decode_set(payload: bytes) -> FoundSet:
    """One set of a dump."""
    parts = dict(nl.attributes(payload))
    kinds = (nl.NFTA_SET_FLAGS, nl.NFTA_SET_KEY_LEN, nl.NFTA_SET_DATA_LEN)
    flags, key, data = (_number(parts.get(kind)) for kind in kinds)
    table = _name(parts.get(nl.NFTA_SET_TABLE))
    return FoundSet(_name(parts.get(nl.NFTA_SET_NAME)), flags, key, data, table)


def decode_chain(payload: bytes) -> tuple[str, str, BaseChain | None]:
    """Table, name and hook of one chain of a dump."""
    parts = dict(nl.attributes(payload))
    base = None
    if nl.NFTA_CHAIN_HOOK in parts:
        hook = dict(nl.attributes(parts[nl.NFTA_CHAIN_HOOK]))
        priority = int.from_bytes(hook.get(_HOOK_PRIORITY, b""), "big", signed=True)
        kind, number = _name(parts.get(nl.NFTA_CHAIN_TYPE)), _number(hook.get(_HOOK_NUMBER))
        base = BaseChain(kind, number, priority, _number(parts.get(nl.NFTA_CHAIN_POLICY)))
    return _name(parts.get(nl.NFTA_CHAIN_TABLE)), _name(parts.get(nl.NFTA_CHAIN_NAME)), base


def decode_rule(payload: bytes) -> tuple[str, str, Rule]:
    """Table, chain and expressions of one rule of a dump."""
    parts = dict(nl.attributes(payload))
    listed = parts.get(nl.NFTA_RULE_EXPRESSIONS, b"")
    rule = tuple(nl.nested(nl.NFTA_LIST_ELEM, item) for _, item in nl.attributes(listed))
    return _name(parts.get(nl.NFTA_RULE_TABLE)), _name(parts.get(nl.NFTA_RULE_CHAIN)), rule


def decode_table(payload: bytes) -> tuple[str, int]:
    """Name and flags of one table of a dump."""
    parts = dict(nl.attributes(payload))
    return _name(parts.get(nl.NFTA_TABLE_NAME)), _number(parts.get(nl.NFTA_TABLE_FLAGS))


def decode_generation(payload: bytes) -> int:
    """The number in the answer to GETGEN. Raises KernelFault if it has none."""
    number = dict(nl.attributes(payload)).get(nl.NFTA_GEN_ID)
    if not number:
        raise KernelFault("the kernel tells no number of its ruleset")
    return int.from_bytes(number, "big")


def _name(payload: bytes | None) -> str:
    return (payload or b"").rstrip(b"\0").decode(errors="replace")


def _number(payload: bytes | None) -> int:
    return int.from_bytes(payload or b"", "big")
