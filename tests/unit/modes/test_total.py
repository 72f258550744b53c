"""Do several transactions add up to one?"""

from __future__ import annotations

from endpoints.names import Family, ObjectName
from modes.base import ApplyReport, TableRules, total

PAY, CART = ObjectName("shop", "pay"), ObjectName("shop", "cart")


def test_of_several_transactions() -> None:
    first = ApplyReport(1, 2, 3, 4, 0.5, {PAY: "no"}, (TableRules(Family.IPV4, "nat", 10, 3),))
    second = ApplyReport(
        10,
        20,
        30,
        40,
        0.25,
        {CART: "no"},
        (TableRules(Family.IPV4, "nat", 12, 2), TableRules(Family.IPV6, "nat", 5, 5)),
    )
    assert total([first, second]) == ApplyReport(
        11,
        22,
        33,
        44,
        0.75,
        {PAY: "no", CART: "no"},
        (TableRules(Family.IPV4, "nat", 12, 5), TableRules(Family.IPV6, "nat", 5, 5)),
    )
    assert total([]) == ApplyReport()
