"""Which rules of iptables-legacy dropped packets meanwhile? Pure.

They are not told of packet by packet as those of nf_tables are; they count. Read before and after
as `iptables-save -c` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_RULE = re.compile(r"\[(\d+):\d+\] (-A .*)")
_POLICY = re.compile(r":(\S+) DROP \[(\d+):\d+\]")
_DROPPING = re.compile(r" -j (DROP|REJECT)\b")


class CountedRule(NamedTuple):
    """A rule that ends the way of a packet."""

    table: str
    text: str
    """`-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`, or `-P FORWARD DROP`."""

    @property
    def is_refusal(self) -> bool:
        """Whether it answers what it drops."""
        found = _DROPPING.search(self.text)
        return found is not None and found[1] == "REJECT"

    def __str__(self) -> str:
        """`-t filter -A FORWARD -j DROP`."""
        return f"-t {self.table} {self.text}"


Counts = Mapping[CountedRule, int]
"""Packets by rule; those of rules that are there twice are added."""


def counts(saved: str) -> Counts:
    """The rules of a listing that drop or refuse."""
    found: dict[CountedRule, int] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
            continue
        if policy := _POLICY.fullmatch(line):
            rule, packets = CountedRule(table, f"-P {policy[1]} DROP"), int(policy[2])
        elif (listed := _RULE.fullmatch(line)) and _DROPPING.search(line):
            rule, packets = CountedRule(table, listed[2]), int(listed[1])
        else:
            continue
        found[rule] = found.get(rule, 0) + packets
    return found


def counted(before: Counts, after: Counts) -> tuple[CountedRule, ...]:
    """The rules that matched a packet between the two."""
    return tuple(rule for rule, packets in after.items() if packets > before.get(rule, 0))
