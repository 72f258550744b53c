"""What is a rule of iptables? Pure.

Rules are values; `restore` turns them into text and back. Two rules are equal if the kernel does
the same with a packet for both, whatever the order and spelling of their options.
"""

from __future__ import annotations

import msgspec

from modes.xtables.names import Table

ACCEPT, DROP, RETURN = "ACCEPT", "DROP", "RETURN"
DNAT, MARK, MASQUERADE, REJECT = "DNAT", "MARK", "MASQUERADE", "REJECT"
SET = "SET"
LOCAL = "LOCAL"
"""The address type of the node's own addresses, for `src_type` and `dst_type`."""

OPAQUE = "-m nft"
"""How the spec of a rule begins that iptables cannot say: one of nf_tables in its own words."""

CERTAIN = 1 << 31
"""A probability of 1. xt_statistic counts in these parts (`u32 nth`, 31 bits)."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """`--mark value/mask` as a match, `--set-xmark value/mask` as a target."""

    value: int
    mask: int


class SetMatch(msgspec.Struct, frozen=True, gc=False):
    """`--match-set name directions`: is there an element of an ipset that fits the packet?"""

    name: str
    directions: str
    """Which end of the packet each part of an element is compared with: `dst,dst,src`."""
    inverted: bool = False


class Rule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A rule: all that is set must match, then `target` is done. Unset is what iptables omits."""

    target: str = ""
    """A chain of the table, ACCEPT, DROP, RETURN, or an extension; empty: count and go on."""
    source: str = ""
    """`10.244.0.0/16`, `10.0.0.1/32`; always with the length of the prefix."""
    destination: str = ""
    in_interface: str = ""
    """`cni0`; a prefix ends in +: `veth+`."""
    inverted: str = ""
    """`source`, `destination` or `in_interface`: that one must *not* match."""
    protocol: str = ""
    """Lower case: `tcp`, `udp`, `sctp`, `icmp`, `ipv6-icmp`."""
    comment: str = ""
    src_type: str = ""
    dst_type: str = ""
    ct_state: tuple[str, ...] = ()
    """States of xt_conntrack, sorted by name: `DNAT`, `ESTABLISHED`, `INVALID`, `NEW`…"""
    ct_state_inverted: bool = False
    mark: Mark | None = None
    mark_inverted: bool = False
    probability: int = 0
    """In parts of CERTAIN; 0: no such match."""
    recent: str = ""
    """The list of addresses of xt_recent."""
    recent_seconds: int = 0
    """More than 0: was the source put on the list so lately? 0: put it there now."""
    counter: str = ""
    """The nfacct object that counts the packet."""
    destination_port: int = 0
    is_by_ipvs: bool = False
    """Has IPVS sent the packet on already (xt_ipvs)?"""
    sets: tuple[SetMatch, ...] = ()
    """In the order in which they are looked into."""
    goto: bool = False
    """`-g` instead of `-j`: never used by us, but a rule of somebody else's may."""
    to_destination: str = ""
    """DNAT: `10.244.1.2:8080`, `[fd00::2]:8080`."""
    reject_with: str = ""
    """REJECT: `tcp-reset`, or the family's port unreachable."""
    set_mark: Mark | None = None
    """MARK: bits of mask are cleared, then value is XORed."""
    map_mark_of: SetMatch | None = None
    """SET, in mangle only: the packet's mark becomes that of the element that fits (xt_set,
    extension skbinfo of the set); without one it stays."""
    random_fully: bool = False
    """MASQUERADE: source ports are drawn by chance, not searched for in order."""


class ChainName(msgspec.Struct, frozen=True, order=True, gc=False):
    """A chain of one family's tables."""

    table: Table
    name: str

    def __str__(self) -> str:
        """`nat KUBE-SERVICES`."""
        return f"{self.table} {self.name}"


def share(count: int, number: int) -> int:
    """The probability of rule `number`, from 0, of `count` that share evenly; the last: 0.

    Rule i of n takes 1/(n-i) of what the ones before have left over (REFERENCE A.2).
    """
    left = count - number
    return 0 if left <= 1 else round(CERTAIN / left)
