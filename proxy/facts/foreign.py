"""What is a rule of others, in nf_tables or in either kind of iptables? Pure.

Values that a snapshot keeps. Rules stay in their chains and in their order, `accept` and `return`
included: whether a rule takes a packet depends on those before it, and on the way into its chain.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a rule does with a packet that it matches; those that only note or mark are left out."""

    DNAT = "dnat"
    REDIRECT = "redirect"
    TPROXY = "tproxy"
    NOTRACK = "notrack"
    """Conntrack does not see the packet, so that nothing translates it."""
    DROP = "drop"
    REJECT = "reject"
    SNAT = "snat"
    MASQUERADE = "masquerade"
    ACCEPT = "accept"
    """It takes no further rule of its base chain; other base chains it does."""
    RETURN = "return"
    JUMP = "jump"
    GOTO = "goto"
    UNKNOWN = "unknown"
    """It ends or goes elsewhere, and that depends on what was not read: a big verdict map."""
    OURS = "ours"
    """A jump to what headgate serves Services by, or the whole of a chain of its own."""


class Field(StrEnum):
    """What of a packet a condition is about."""

    FAMILY = "family"
    """`ip`, `ip6`."""
    SOURCE = "source"
    """Networks `10.244.0.0/16` and ranges `10.0.0.1-10.0.0.9`."""
    DESTINATION = "destination"
    PROTOCOL = "protocol"
    """`tcp`; a number where it has no name here."""
    SOURCE_PORT = "source port"
    """`80`, `8000-8999`."""
    DESTINATION_PORT = "destination port"
    IN_INTERFACE = "in interface"
    """`eth0`, `veth*`."""
    OUT_INTERFACE = "out interface"
    STATE = "state"
    """Of conntrack: `NEW`, `DNAT`…"""
    SOURCE_TYPE = "source type"
    """Of the route to it: `LOCAL`…"""
    DESTINATION_TYPE = "destination type"


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The field has one of these values, or none of them if negated."""

    field: Field
    values: tuple[str, ...]
    negated: bool = False
    set_name: str = ""
    """The named set that holds the values, if one does; it may be empty."""


class ForeignRule(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A rule that decides something; all its conditions must be met."""

    kind: Kind
    text: str
    """In the notation of its own tool."""
    number: int = 0
    """nft: its handle. iptables: its line in the chain, from 1. 0: it is a chain's policy."""
    conditions: tuple[Condition, ...] = ()
    opaque: bool = False
    """It has other conditions, which cannot be read here."""
    to: str = ""
    """The chain of a jump; where a translation leads, if that is known: `10.0.0.9:8080`."""


class ForeignChain(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chain with those of its rules that decide something."""

    tool: str
    """`nft`, `iptables-nft`, `iptables-legacy`."""
    family: str
    """`ip`, `ip6`, `inet`, `netdev`."""
    table: str
    name: str
    rules: tuple[ForeignRule, ...]
    type: str = ""
    """`nat`, `filter`, `route`; empty as the next three where only rules lead here."""
    hook: str = ""
    """`prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress`."""
    priority: int = 0
    drops: bool = False
    """Its policy: what no rule decides on is dropped."""
    age: int = 0
    """Tables of nf_tables with a higher number are younger; 0: not known."""
    device: str = ""
    """The one that it is hooked into (ingress), if it is only one."""

    @property
    def place(self) -> str:
        """`nft table inet mine, chain pre`; `ip6tables-legacy nat PREROUTING`."""
        if self.tool == "nft":
            return f"nft table {self.family} {self.table}, chain {self.name}"
        return f"{self.command} {self.table} {self.name}"

    @property
    def command(self) -> str:
        """The program that shows it."""
        return self.tool.replace("ip", "ip6", 1) if self.family == "ip6" else self.tool


ForeignChains = tuple[ForeignChain, ...]

PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
"""The tables of iptables, and where their chains are hooked in (NF_IP_PRI_*)."""
SOURCE_NAT_PRIORITY = 100
"""NF_IP_PRI_NAT_SRC: of table nat in INPUT and POSTROUTING."""
OF_KUBERNETES = "KUBE-"
"""How the names of chains of iptables begin that belong to Kubernetes."""
KUBE_PROXY = "kube-proxy"
"""The table of kube-proxy's nftables mode, in either family."""
