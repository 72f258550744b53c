"""What may others have put into our table beside chains, rules and sets, and how does it go? Pure.

We make no stateful objects (counter, quota, limit, ct helper, ...) and no flowtables: all of them
are somebody else's. Anonymous sets and bound chains are no such things: they are part of the rule
that names them, and go with it (kernel 5.9; NFT_SET_ANONYMOUS, NFT_CHAIN_BINDING).
"""

from __future__ import annotations

from typing import NamedTuple

from endpoints.names import Family
from modes.nftables import netlink as nl
from modes.nftables.ruleset import FoundSet
from modes.nftables.skeleton import TABLE, TABLE_FAMILY

_SET_ANONYMOUS, _CHAIN_BINDING = 0x1, 0x4
_TABLE_FLAGS = {0x1: "dormant", 0x2: "owner", 0x4: "persist"}
_OBJECT_TYPES = {
    1: "counter",
    2: "quota",
    3: "ct helper",
    4: "limit",
    6: "tunnel",
    7: "ct timeout",
    8: "secmark",
    9: "ct expectation",
    10: "synproxy",
}


class Stranger(NamedTuple):
    """An object or a flowtable in a table of ours."""

    name: str
    type: int
    """The kernel's number of a type of objects; 0: a flowtable."""

    def __str__(self) -> str:
        """`counter cc`."""
        kind = _OBJECT_TYPES.get(self.type, "object") if self.type else "flowtable"
        return f"{kind} {self.name}"


def decode_object(payload: bytes) -> tuple[str, Stranger]:
    """Table and name of one object of a dump."""
    parts = dict(nl.attributes(payload))
    kind = int.from_bytes(parts.get(nl.NFTA_OBJ_TYPE, b""), "big")
    return _word(parts.get(nl.NFTA_OBJ_TABLE)), Stranger(_word(parts.get(nl.NFTA_OBJ_NAME)), kind)


def decode_flowtable(payload: bytes) -> tuple[str, Stranger]:
    """Table and name of one flowtable of a dump."""
    parts = dict(nl.attributes(payload))
    name = _word(parts.get(nl.NFTA_FLOWTABLE_NAME))
    return _word(parts.get(nl.NFTA_FLOWTABLE_TABLE)), Stranger(name, 0)


def removal(family: Family, stranger: Stranger) -> nl.Message:
    """What deletes it; no rule and no element may name it any more."""
    body = nl.text(nl.NFTA_OBJ_TABLE, TABLE) + nl.text(nl.NFTA_OBJ_NAME, stranger.name)
    if not stranger.type:
        return nl.Message(nl.DELFLOWTABLE, 0, family, body)
    body += nl.be32(nl.NFTA_OBJ_TYPE, stranger.type)
    return nl.Message(nl.DELOBJ, 0, family, body)


def is_anonymous(found: FoundSet) -> bool:
    """Whether a set is part of a rule."""
    return bool(found.flags & _SET_ANONYMOUS)


def is_bound(chain: bytes) -> bool:
    """Whether a chain of a dump is part of a rule."""
    flags = dict(nl.attributes(chain)).get(nl.NFTA_CHAIN_FLAGS, b"")
    return bool(int.from_bytes(flags, "big") & _CHAIN_BINDING)


def flag_words(flags: int) -> str:
    """The flags of a table as nft prints them: `dormant,owner`."""
    known = [word for bit, word in _TABLE_FLAGS.items() if flags & bit]
    rest = flags & ~sum(_TABLE_FLAGS)
    return ",".join([*known, hex(rest)] if rest else known)


def ownership(family: Family, table: bytes) -> tuple[str, str]:
    """The name of a table of a dump, and who owns it, in a sentence; empty: nobody.

    Only the netlink socket that made a table with the flag `owner` (kernel 5.12) may change or
    delete it; everybody else is told EPERM, whatever his privileges. The port of a program's first
    netlink socket is its process ID.
    """
    parts = dict(nl.attributes(table))
    name, port = _word(parts.get(nl.NFTA_TABLE_NAME)), parts.get(nl.NFTA_TABLE_OWNER, b"")
    if not port:
        return name, ""
    return name, (
        f"table {TABLE_FAMILY[family]} {name} belongs to another program (flags owner, netlink "
        f"port {int.from_bytes(port, 'big')}, mostly its process ID): nobody else "
        "may change or delete the table before that program ends"
    )


def _word(payload: bytes | None) -> str:
    return (payload or b"").rstrip(b"\0").decode(errors="replace")
