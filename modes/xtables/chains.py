"""What is a chain of ours, and what is said in rules the same way by every mode? Pure."""

from __future__ import annotations

import msgspec

from endpoints.addresses import family as family_of
from endpoints.names import Family
from endpoints.node import NodeView
from modes.xtables import names
from modes.xtables.abilities import Abilities
from modes.xtables.names import Table
from modes.xtables.rules import DROP, REJECT, ChainName, Rule

NAT_SERVICES = ChainName(Table.NAT, names.SERVICES)
NAT_NODEPORTS = ChainName(Table.NAT, names.NODEPORTS)
SERVICES = ChainName(Table.FILTER, names.SERVICES)
EXTERNAL_SERVICES = ChainName(Table.FILTER, names.EXTERNAL_SERVICES)
EXTERNAL_NODEPORTS = ChainName(Table.FILTER, names.EXTERNAL_NODEPORTS)
NODEPORTS = ChainName(Table.FILTER, names.NODEPORTS)
PROXY_FIREWALL = ChainName(Table.FILTER, names.PROXY_FIREWALL)
UNKNOWN_PORTS = ChainName(Table.FILTER, names.UNKNOWN_PORTS)
CLUSTER_IPS = ChainName(Table.FILTER, names.CLUSTER_IPS)
REFUSE = ChainName(Table.FILTER, names.REFUSE)
FORWARD = ChainName(Table.FILTER, names.FORWARD)
FIREWALL = ChainName(Table.FILTER, names.FIREWALL)
ROUTE_LOCALNET_WAS_OFF = ChainName(Table.FILTER, names.ROUTE_LOCALNET_WAS_OFF)
MARK_MASQ = ChainName(Table.NAT, names.MARK_MASQ)
POSTROUTING = ChainName(Table.NAT, names.POSTROUTING)
NODE_PORT = ChainName(Table.FILTER, names.NODE_PORT)
SOURCE_RANGES_FIREWALL = ChainName(Table.FILTER, names.SOURCE_RANGES_FIREWALL)
IPVS_FILTER = ChainName(Table.FILTER, names.IPVS_FILTER)
IPVS_OUT_FILTER = ChainName(Table.FILTER, names.IPVS_OUT_FILTER)
NAT_NODE_PORT = ChainName(Table.NAT, names.NODE_PORT)
NAT_LOAD_BALANCER = ChainName(Table.NAT, names.LOAD_BALANCER)
LOCAL_POLICY = ChainName(Table.MANGLE, names.LOCAL_POLICY)
LOCAL_POLICY_POST = ChainName(Table.MANGLE, names.LOCAL_POLICY_POST)

LOOPBACK = {Family.IPV4: "127.0.0.0/8", Family.IPV6: "::1/128"}
MARTIANS = "block incoming localnet connections"
_COMMENT_LIMIT = 255
"""Characters that xt_comment keeps."""


class Chain(msgspec.Struct, frozen=True):
    """A chain of ours; Services put rules between head and tail, where `is_shared`."""

    head: tuple[Rule, ...] = ()
    tail: tuple[Rule, ...] = ()
    is_shared: bool = False


class Guest(msgspec.Struct, frozen=True):
    """A rule of ours in a chain that is not: it stands at the top when it is made."""

    chain: ChainName
    rule: Rule


class Skeleton(msgspec.Struct, frozen=True):
    """The program of one family without any Service."""

    chains: dict[ChainName, Chain]
    """Those that are jumped to come first."""
    guests: tuple[Guest, ...]
    """In the order in which they shall stand in their chains."""


def remark(abilities: Abilities, text: str) -> str:
    """A comment, where the kernel takes any."""
    return text[:_COMMENT_LIMIT] if abilities.comment else ""


def reject(family: Family, protocol: str) -> Rule:
    """A refusal that a client understands at once: a reset for TCP, port unreachable otherwise.

    kube-proxy answers TCP by ICMPv6 in IPv6, at which clients hang for a second (PEERS.md).
    """
    if protocol == "tcp":
        return Rule(REJECT, protocol=protocol, reject_with="tcp-reset")
    how = "icmp-port-unreachable" if family is Family.IPV4 else "icmp6-port-unreachable"
    return Rule(REJECT, protocol=protocol, reject_with=how)


def martian_rule(loopback: str, note: str) -> Rule:
    """Drops what goes to localhost and comes from elsewhere, our own translations excepted."""
    return Rule(
        DROP,
        source=loopback,
        inverted="source",
        destination=loopback,
        ct_state=("DNAT", "ESTABLISHED", "RELATED"),
        ct_state_inverted=True,
        comment=note,
    )


def local_pods(node: NodeView, family: Family) -> tuple[str, str]:
    """How a rule tells local pods: a source network or an interface, one of them empty.

    Both empty: not at all. A trailing + stands for any end of an interface's name.
    """
    local = node.local_traffic
    if local.interface:
        prefix = "+" if local.mode == "InterfaceNamePrefix" else ""
        return "", local.interface + prefix
    return next((c for c in local.cidrs if family_of(c) is family), ""), ""
