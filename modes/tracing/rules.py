"""What does a rule say that a packet met? Pure."""

from __future__ import annotations

import msgspec

from endpoints.names import Family
from modes.nftables import expressions as x
from modes.nftables import netlink as nl
from modes.nftables import ruleset
from modes.nftables.rule_text import rule_text
from modes.nftables.skeleton import TABLE, Rule

_RULE_HANDLE = 3
_TARGET_NAME = 1
_REFUSING = b"reject"
_REFUSING_TARGET = b"REJECT"


class RuleText(msgspec.Struct, frozen=True):
    """A rule in words."""

    text: str = ""
    """In nft's notation; empty: we cannot read it, or it is gone."""
    is_refusal: bool = False
    """Whether it answers what it drops."""


def rule_at(payload: bytes, family: Family) -> tuple[int, RuleText]:
    """The handle of a rule of a dump, and what it says if it is one of ours."""
    handle = dict(nl.attributes(payload)).get(_RULE_HANDLE, b"")
    table, _, rule = ruleset.decode_rule(payload)
    text = rule_text(family, rule) if table == TABLE else ""
    return int.from_bytes(handle, "big"), RuleText(text, is_refusal=_is_refusal(rule))


def _is_refusal(rule: Rule) -> bool:
    """`reject` of nft, or the target REJECT of iptables-nft."""
    for expression in rule:
        parts = x.expression_parts(expression)
        if parts["name"] == _REFUSING:
            return True
        target = parts.get(_TARGET_NAME, b"").rstrip(b"\0")
        if parts["name"] == b"target" and target == _REFUSING_TARGET:
            return True
    return False
