"""With which rules does one find out what the host's iptables can do? Pure.

The library of an extension says nothing about the kernel's half of it (kubernetes/kubernetes
#142068: libxt_nfacct was there, xt_nfacct was not, and every sync failed), so each is tried by a
rule in a chain that nothing refers to.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from endpoints.names import Family
from modes.xtables.counters import INVALID_DROPPED
from modes.xtables.names import Table

CHAIN = "KUBE-HEADGATE-PROBE"


class Trial(msgspec.Struct, frozen=True):
    """One extension, and a rule that nothing but it can refuse."""

    feature: str
    table: Table
    spec: str
    hint: str
    needed_for: str = ""
    """Empty: for all of a mode."""
    optional: bool = False


RECENT = Trial(
    "xt_recent",
    Table.NAT,
    f"-m recent --rcheck --seconds 10800 --reap --name {CHAIN} --rsource",
    "module xt_recent",
    "session affinity",
    optional=True,
)
COMMENT = Trial(
    "xt_comment",
    Table.NAT,
    "-m comment --comment headgate",
    "module xt_comment",
    "names in rules",
    optional=True,
)
RANDOM_FULLY = Trial(
    "MASQUERADE --random-fully",
    Table.NAT,
    "-j MASQUERADE --random-fully",
    "iptables 1.6.2 and kernel 3.14",
    "many new connections at once",
    optional=True,
)
COUNTERS = Trial(
    "xt_nfacct",
    Table.FILTER,
    f"-m nfacct --nfacct-name {INVALID_DROPPED}",
    "modules xt_nfacct and nfnetlink_acct",
    "two metrics",
    optional=True,
)
OPTIONAL = (RECENT, COMMENT, RANDOM_FULLY, COUNTERS)
"""Of the modes that balance in iptables."""
IPVS = Trial(
    "xt_ipvs",
    Table.FILTER,
    "-m ipvs --ipvs",
    "module xt_ipvs",
    "an endpoint at an external IP that is the node's own",
    optional=True,
)
OPTIONAL_FOR_IPVS = (COMMENT, RANDOM_FULLY, IPVS)

STATISTIC = Trial(
    "xt_statistic",
    Table.NAT,
    "-m statistic --mode random --probability 0.5",
    "module xt_statistic",
)
DNAT = Trial("DNAT", Table.NAT, "-p tcp -j DNAT --to-destination {address}", "module xt_nat")

REQUIRED = (
    Trial("iptables nat table", Table.NAT, "-j RETURN", "module iptable_nat or nft_chain_nat"),
    Trial("xt_conntrack", Table.FILTER, "-m conntrack --ctstate NEW", "module xt_conntrack"),
    STATISTIC,
    Trial("xt_addrtype", Table.NAT, "-m addrtype --dst-type LOCAL", "module xt_addrtype"),
    Trial(
        "REJECT",
        Table.FILTER,
        "-p tcp -j REJECT --reject-with tcp-reset",
        "modules ipt_REJECT and ip6t_REJECT",
    ),
    DNAT,
    Trial(
        "MARK", Table.NAT, "-m mark --mark 0x1/0x1 -j MARK --set-xmark 0x1/0x1", "module xt_mark"
    ),
    Trial("MASQUERADE", Table.NAT, "-j MASQUERADE", "module xt_MASQUERADE"),
)

_ADDRESS = {Family.IPV4: "127.0.0.1:80", Family.IPV6: "[::1]:80"}


def text(trials: Sequence[Trial], family: Family) -> str:
    """The rules of these trials for iptables-restore, each table's followed by their removal.

    A block that is refused leaves nothing behind.
    """
    blocks = []
    for table in Table:
        rules = [
            f"-A {CHAIN} {trial.spec.format(address=_ADDRESS[family])}\n"
            for trial in trials
            if trial.table is table
        ]
        if rules:
            blocks.append(f"*{table}\n:{CHAIN} - [0:0]\n{''.join(rules)}COMMIT\n")
            blocks.append(f"*{table}\n:{CHAIN} - [0:0]\n-X {CHAIN}\nCOMMIT\n")
    return "".join(blocks)
