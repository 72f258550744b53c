"""How do tables, sets, chains and rules become messages, and how are they read back? Pure.

What is in the sets is the business of `codec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from endpoints.names import Family
from modes.base import KernelFault
from modes.nftables import netlink as nl
from modes.nftables.sets import SetSpec
from modes.nftables.skeleton import TABLE, BaseChain, Chain, Rule

_SET_INTERVAL, _SET_MAP, _SET_TIMEOUT, _SET_EVAL, _SET_CONCAT = 0x4, 0x8, 0x10, 0x20, 0x80
_DESC_SIZE, _DESC_CONCAT, _FIELD_LEN = 1, 2, 1
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2


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
