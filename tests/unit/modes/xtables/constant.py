"""Which rules may a mode have that needs none of any Service? In three tables, with sets."""

from __future__ import annotations

from endpoints.names import Family
from modes.xtables import chains, names
from modes.xtables.chains import Chain, Guest, Skeleton, reject
from modes.xtables.names import Table
from modes.xtables.rules import (
    DROP,
    LOCAL,
    MARK,
    MASQUERADE,
    RETURN,
    SET,
    ChainName,
    Mark,
    Rule,
    SetMatch,
)
from tests.unit.modes.xtables.examples import BIT, SETS


def skeleton(family: Family) -> Skeleton:
    """A handful of rules as the IPVS mode needs them; they look into the sets of SETS."""
    ports, sources, marks = SETS[family]
    bypass = SetMatch(marks, "dst,dst")
    icmp = "icmp" if family is Family.IPV4 else "ipv6-icmp"
    no_source = SetMatch(sources, "dst,dst,src", inverted=True)
    to_service = SetMatch(ports, "dst,dst")
    return Skeleton(
        {
            chains.REFUSE: Chain((reject(family, "tcp"), reject(family, ""))),
            chains.IPVS_FILTER: Chain(
                (Rule(RETURN, protocol=icmp), Rule(names.REFUSE, sets=(to_service,)))
            ),
            chains.LOCAL_POLICY: Chain(
                (
                    Rule(DROP, sets=(to_service, no_source)),
                    Rule(SET, src_type=LOCAL, map_mark_of=bypass),
                )
            ),
            chains.LOCAL_POLICY_POST: Chain((Rule(MARK, set_mark=Mark(0, 0xFF << 24)),)),
            chains.MARK_MASQ: Chain((Rule(MARK, set_mark=BIT),)),
            chains.NAT_NODE_PORT: Chain((Rule(names.MARK_MASQ),)),
            chains.POSTROUTING: Chain(
                (Rule(RETURN, mark=BIT, mark_inverted=True), Rule(MASQUERADE))
            ),
            chains.NAT_SERVICES: Chain((Rule(names.NODE_PORT, dst_type=LOCAL),)),
        },
        (
            _jump("INPUT", chains.IPVS_FILTER, "NEW"),
            _jump("OUTPUT", chains.IPVS_FILTER, "NEW"),
            _jump("PREROUTING", chains.LOCAL_POLICY, "NEW"),
            _jump("OUTPUT", chains.LOCAL_POLICY, "NEW"),
            _jump("POSTROUTING", chains.LOCAL_POLICY_POST),
            _jump("PREROUTING", chains.NAT_SERVICES),
            _jump("OUTPUT", chains.NAT_SERVICES),
            _jump("POSTROUTING", chains.POSTROUTING),
        ),
    )


def _jump(base: str, to: ChainName, *states: str) -> Guest:
    rule = Rule(to.name, ct_state=states, comment=f"to {to}")
    return Guest(ChainName(to.table, base), rule)


def of_table(table: Table) -> set[ChainName]:
    """The chains of one table."""
    return {chain for chain in skeleton(Family.IPV4).chains if chain.table is table}
