"""In which words is an operator told what is wrong?"""

from __future__ import annotations

from endpoints.names import Family
from modes.held import Difference, DifferenceKind
from modes.iptables.belonging import owners, service_of
from modes.iptables.differences import Said, told
from modes.iptables.wanted import abilities
from modes.xtables import chains
from modes.xtables.abilities import Abilities
from modes.xtables.names import Table
from modes.xtables.rules import ChainName

MISSING, EXTRA = DifferenceKind.MISSING, DifferenceKind.EXTRA
WEB = "shop/web:http"
V4, V6 = (f"({family})" for family in Family)


def test_one_sentence_for_everything_of_a_service() -> None:
    said = [
        Said(WEB, MISSING, "", f"nat {V6}"),
        Said(WEB, MISSING, "", f"nat {V4}"),
        Said(WEB, MISSING, "", f"filter {V4}"),
        Said("", MISSING, "", f"nat {V4}"),
        Said("", EXTRA, "rule -A KUBE-SERVICES -j RETURN", f"nat {V4}"),
    ]
    assert told(said) == (
        Difference("", EXTRA, "rule -A KUBE-SERVICES -j RETURN in nat (IPv4)"),
        Difference("", MISSING, "every rule that belongs to no Service in nat (IPv4)"),
        Difference(WEB, MISSING, "every rule of it in filter (IPv4), nat (IPv4), nat (IPv6)"),
    )


def nat(name: str) -> ChainName:
    return ChainName(Table.NAT, name)


def test_whose_chains_are() -> None:
    """By the rules that lead there; where none does, by what their own rules say."""
    title = f'-m comment --comment "{WEB}'
    found = {
        chains.NAT_SERVICES: [f'-d 10.96.0.1/32 {title} cluster IP" -j KUBE-SVC-A'],
        nat("KUBE-SVC-A"): ["-j KUBE-SEP-A", '-m comment --comment "a/b" -j KUBE-SEP-B'],
        nat("KUBE-SEP-A"): [],
        nat("KUBE-SEP-B"): [],
        nat("KUBE-EXT-C"): ['-m comment --comment "pod traffic for x/y:z external destinations"'],
        nat("KUBE-SEP-D"): ["-p tcp -j DNAT --to-destination 10.244.1.2:80"],
        nat("OTHERS"): [f'{title}"'],
    }
    assert owners(found) == {
        nat("KUBE-SVC-A"): WEB,
        nat("KUBE-SEP-A"): WEB,
        nat("KUBE-SEP-B"): WEB,
        nat("KUBE-EXT-C"): "x/y:z",
    }
    assert service_of("-j RETURN") == service_of('-m comment --comment "kubernetes x"') == ""


def test_what_the_host_can_is_read_from_the_rules() -> None:
    masquerade = "-m comment --comment x -j MASQUERADE"
    drop = "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  x -j DROP"
    assert abilities({}, has_recent=True) == Abilities()
    assert abilities({chains.POSTROUTING: ["-j RETURN"]}, has_recent=False) == Abilities(
        comment=False, recent=False
    )
    held = {chains.POSTROUTING: [masquerade], chains.FORWARD: [drop]}
    assert abilities(held, has_recent=True) == Abilities(random_fully=False, counters=True)
    held[chains.POSTROUTING] = [f"{masquerade} --random-fully"]
    assert abilities(held, has_recent=True).random_fully
