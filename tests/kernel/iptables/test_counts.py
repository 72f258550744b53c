"""Is the number of rules that is told the number of rules that iptables lists?"""

from __future__ import annotations

from collections import Counter

from endpoints.names import Family, ObjectName
from modes.base import ApplyReport, Delta, total
from modes.iptables.mode import IptablesMode
from modes.xtables.variant import Variant
from tests.kernel.iptables import tables
from tests.kernel.rulesets import services
from tests.unit.endpoints.build import NODE_A

S1, S2 = ObjectName("shop", "s1"), ObjectName("shop", "s2")
Counts = dict[tuple[Family, str], int]


def listed(variant: Variant) -> Counts:
    """Rules by table, as iptables-save lists them; nobody else has any here."""
    return dict(
        Counter(
            (family, str(chain.table))
            for family, found in tables.everything(variant).items()
            for chain, rules in found.items()
            for _ in rules
        )
    )


def told(report: ApplyReport) -> tuple[Counts, Counts]:
    """Rules there are, and rules written."""
    totals = {(of.family, of.table): of.total for of in report.tables}
    written = {(of.family, of.table): of.written for of in report.tables}
    return totals, written


def test_the_count_follows_each_change(mode: IptablesMode, variant: Variant) -> None:
    mode.start(NODE_A)
    first = mode.replace(services(1, 2, endpoints=3))
    # Whoever starts with nothing writes everything.
    assert told(first) == (listed(variant), listed(variant))
    changed = mode.apply(Delta(services(1, 3, endpoints=2), frozenset({S2})))
    totals, written = told(changed)
    assert totals == listed(variant)
    assert sum(written.values()) == changed.added
    gone = mode.apply(Delta({}, frozenset({S1, ObjectName("shop", "s3")})))
    assert told(gone)[0] == listed(variant)


def test_a_restart_counts_what_it_finds(mode: IptablesMode, variant: Variant) -> None:
    mode.start(NODE_A)
    mode.replace(services(1, 2, endpoints=3))
    after = tables.mode_of(variant)
    after.start(NODE_A)
    totals, written = told(after.replace(services(1, 2, endpoints=3)))
    assert totals == listed(variant)
    assert set(written.values()) == {0}
    # What changes nothing tells nothing new.
    assert total([after.apply(Delta(services(1, endpoints=3)))]).tables == ()
