"""Is a rule that differs from ours by one attribute told to be of another program?"""

from __future__ import annotations

import pytest

from endpoints.names import Family
from modes.nftables import expressions as x
from modes.nftables.netlink import attr, be32
from modes.nftables.rule_text import duration, rule_text
from modes.nftables.skeleton import Rule

K: Rule = (x.payload(1, 16, 4, 0), x.meta(x.META_L4PROTO, 1), x.payload(2, 2, 2, 2))
LOOKUP: Rule = (x.lookup("endpoints", 0, to=4), x.dnat(2, 4, 5))
SLOT = x.numgen_random(2, 0, 3)
CLIENT = x.payload(1, 12, 4, 0)
OURS: dict[str, tuple[Rule, str]] = {
    "choice": (
        (*K, SLOT, *LOOKUP),
        "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints",
    ),
    "network": (
        (CLIENT, x.bitwise_and(0, b"\xff\xff\0\0"), x.cmp(x.CMP_NEQ, 0, b"\x0a\xf4\0\0")),
        "ip saddr != 10.244.0.0/16",
    ),
    "reset": ((x.reject_tcp_reset(),), "reject with tcp reset"),
    "refusal": ((x.reject_port_unreachable(3),), "reject"),
    "masquerade": ((x.masquerade(),), "masquerade fully-random"),
    "local": (
        (x.fib_type(x.FIB_DADDR, 0), x.cmp(x.CMP_EQ, 0, x.native32(x.RTN_LOCAL))),
        "fib daddr type local",
    ),
}
OTHERS: dict[str, Rule] = {
    "round robin": (
        *K,
        x.expression("numgen", be32(1, x.register(3)), be32(2, 2), be32(3, 0), be32(4, 0)),
        *LOOKUP,
    ),
    "source port": (*K[:2], x.payload(2, 0, 2, 2), SLOT, *LOOKUP),
    "link layer": (x.payload(0, 16, 4, 0), *K[1:], SLOT, *LOOKUP),
    "half an address": (x.payload(1, 12, 2, 0), *K[1:], SLOT, *LOOKUP),
    "key too short": (*K, *LOOKUP),
    "map of others": (*K, x.vmap("theirs", 0)),
    "source translated": (
        *K,
        SLOT,
        LOOKUP[0],
        x.expression("nat", be32(1, 0), be32(2, 2), be32(3, x.register(4))),
    ),
    "constant endpoint": (CLIENT, x.dnat(2, 0, 1)),
    "masked key": (*K, SLOT, x.bitwise_and(0, b"\xff\0\0\0"), *LOOKUP),
    "mask with holes": (CLIENT, x.bitwise_and(0, b"\xff\0\xff\0"), x.cmp(0, 0, b"\x0a\0\0\0")),
    "shifted": (
        CLIENT,
        x.expression("bitwise", be32(1, 1), be32(2, 1), be32(3, 4), be32(6, 1), attr(7, b"")),
        x.cmp(0, 0, b"\x0a\0\0\0"),
    ),
    "greater": (CLIENT, x.cmp(4, 0, b"\x0a\0\0\0")),
    "port compared": (K[2], x.cmp(0, 2, b"\0\x50\0\0")),
    "other type": (x.fib_type(x.FIB_DADDR, 0), x.cmp(0, 0, x.native32(3))),
    "output interface": (x.expression("fib", be32(1, 1), be32(2, 1), be32(3, 1)), x.cmp(0, 0, b"")),
    "reply": (x.expression("ct", be32(1, 1), be32(2, x.CT_DST_IP), attr(3, b"\1")),),
    "no direction": (x.ct(x.CT_DST_IP, 0),),
    "mark": (x.ct(3, 0, original=True),),
    "other refusal": (x.reject_port_unreachable(1),),
    "masquerade to ports": (x.expression("masq", be32(1, 0)),),
    "constant": (x.expression("immediate", be32(1, 1), attr(2, b"")),),
    "unknown": (x.expression("counter"),),
    "nothing in it": (x.expression("lookup"),),
    "no expression": (b"",),
}


@pytest.mark.parametrize(("rule", "text"), OURS.values(), ids=OURS)
def test_ours_are_read(rule: Rule, text: str) -> None:
    assert rule_text(Family.IPV4, rule) == text


@pytest.mark.parametrize("rule", OTHERS.values(), ids=OTHERS)
def test_others_are_not(rule: Rule) -> None:
    assert rule_text(Family.IPV4, rule).startswith("# of another program: ")


def test_a_duration_is_spelled_as_nft_does() -> None:
    assert list(map(duration, (0, 59, 60, 5400, 90061))) == ["", "59s", "1m", "1h30m", "1d1h1m1s"]
