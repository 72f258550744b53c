"""How do elements become nfnetlink messages, and how are they read back? Pure.

Elements of one set have one size, so their attribute headers are made once per set: packing an
element is a join of ready bytes (1 to 2 us, where a general encoder takes 100).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables import uniform
from modes.nftables.elements import Value, Verdict, key_prefix, set_of
from modes.nftables.expressions import NFT_GOTO, NFT_JUMP, verdict_data
from modes.nftables.sets import S, SetSpec, set_specs
from modes.nftables.skeleton import TABLE

_MESSAGE_PAYLOAD = 60_000
"""Bytes of elements in one message; the length of an attribute has 16 bits."""
_ELEM_CATCH_ALL = 0x2
_UDATA_COMMENT = 0
_VERDICT_WORDS = {NFT_GOTO: "goto", NFT_JUMP: "jump", 0: "drop", 1: "accept", -5: "return"}


@cache
def spec_of(family: Family, set_id: S) -> SetSpec:
    """The specification of a set."""
    return set_specs(family)[set_id]


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
    for listed, alike in _runs(family, set_id, payload):
        if alike is not None:
            yield from map(Found._make, zip(*alike, strict=True))
        else:
            yield from _decoded_singly(family, set_id, listed)


def pairs(family: Family, set_id: S, payload: bytes) -> Iterator[Iterable[tuple[bytes, Value]]]:
    """Key and value of the same elements, in parts that a dictionary takes at once."""
    for listed, alike in _runs(family, set_id, payload):
        if alike is not None:
            yield zip(alike.keys, alike.data, strict=True)
        else:
            yield [of[:2] for of in _decoded_singly(family, set_id, listed)]


def _runs(
    family: Family, set_id: S, payload: bytes
) -> Iterator[tuple[bytes, uniform.Columns | None]]:
    """Lists of elements; those that are all of one kind with what they hold."""
    for kind, listed in nl.attributes(payload):
        if kind == nl.NFTA_ELEM_LIST_ELEMENTS:
            prefix = key_prefix(family, set_id)
            yield listed, uniform.columns(spec_of(family, set_id), prefix, listed)


def _decoded_singly(family: Family, set_id: S, listed: bytes) -> Iterator[Found]:
    prefix = key_prefix(family, set_id)
    return (_decode_element(prefix, of) for _, of in nl.attributes(listed))


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
