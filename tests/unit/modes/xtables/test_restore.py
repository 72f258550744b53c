"""Does a rule mean, when its text is read, what it meant before?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.addresses import unpack
from endpoints.names import Family
from modes.xtables.restore import Unreadable, parse, spec
from modes.xtables.rules import (
    CERTAIN,
    DNAT,
    MARK,
    MASQUERADE,
    REJECT,
    SET,
    Mark,
    Rule,
    SetMatch,
    share,
)
from tests.unit.modes.xtables.examples import BY_FAMILY, COUNTED, KUBE_PROXY, SEP, SVC

EACH = [
    (family, text, rule)
    for family, of in BY_FAMILY.items()
    for text, rule in (of | COUNTED).items()
]


@pytest.mark.parametrize(("family", "text", "rule"), EACH)
def test_each_shape_both_ways(family: Family, text: str, rule: Rule) -> None:
    assert spec(rule, family) == text
    assert parse(text, family) == rule


@pytest.mark.parametrize(("worded", "ours"), KUBE_PROXY.items())
def test_kube_proxy_words_the_same_rule_differently(worded: str, ours: str) -> None:
    assert spec(parse(worded, Family.IPV4), Family.IPV4) == ours


@pytest.mark.parametrize(
    ("worded", "same"),
    [
        ("-s 0.0.0.0/0 -i + -p all", ""),
        ("-d 10.1.2.3/255.255.0.0", "-d 10.1.0.0/16"),
        ("-p 6 --dport 80", "-p tcp -m tcp --dport 80"),
        ("-p 1", "-p icmp"),
        ("-p 58", "-p ipv6-icmp"),
        ("-p icmpv6", "-p ipv6-icmp"),
        ("-m set --match-set X dst -m tcp -p tcp", "-p tcp -m set --match-set X dst"),
        ("-j MARK --set-mark 0x1", "-j MARK --set-xmark 0x1/0xffffffff"),
        ("-j MARK --set-mark 0x4000/0x8000", "-j MARK --set-xmark 0x4000/0xc000"),
        ("-j MARK --and-mark 0x4000", "-j MARK --set-xmark 0x0/0xffffbfff"),
        ("-m mark --mark 16", "-m mark --mark 0x10"),
        ('-m comment --comment ""', ""),
        ("-p tcp -m tcp -m recent --set --name X", "-p tcp -m recent --set --name X"),
        (
            "-m statistic --mode random --probability 0.99999999999",
            "-m statistic --mode random --probability 1",
        ),
    ],
)
def test_spellings_of_other_people(worded: str, same: str) -> None:
    assert parse(worded, Family.IPV4) == parse(same, Family.IPV4)


@pytest.mark.parametrize(
    "text",
    [
        "-o eth0 -j ACCEPT",
        "! -p tcp -j ACCEPT",
        "! -s 10.0.0.0/8 ! -d 10.0.0.0/8",
        "! -s 0.0.0.0/0",
        "-s 10.0.0.0/33",
        "-s fd00::1",
        "-s 10.0.0.1,10.0.0.2",
        "-p tcp -m tcp --sport 80",
        "-p tcp -m tcp --dport 80:90",
        "-p tcp -m tcp ! --dport 80",
        "-p tcp -m tcp --dport 0",
        "-m tcp --dport 80",
        "--dport 80",
        "-m multiport --dports 1,2",
        "-m conntrack --ctstate WRONG",
        "-m conntrack --ctstatus DNAT",
        "-m addrtype --dst-type LOCAL,UNICAST",
        "-m addrtype ! --dst-type LOCAL",
        "-m addrtype --dst-type LOCAL --limit-iface-in",
        "-m mark --mark 0x100000000",
        "-m mark --mark red",
        "--mark 1",
        "-m statistic --mode nth --every 3",
        "-m statistic --probability 0.5",
        "-m statistic --mode random --probability 0",
        "-m statistic --mode random --probability 1.1",
        "-m recent --update --seconds 5 --name X",
        "-m recent --rcheck --name X",
        "-m recent --rcheck --seconds 5 --name X",
        "-m recent --rcheck --reap --name X",
        "-m recent --rcheck --seconds 5 --reap",
        "-m recent --set --rcheck --seconds 5 --reap --name X",
        "-m recent --set --name X --mask 255.255.255.0",
        "-m recent --set --name X --rdest",
        "-m recent ! --set --name X",
        "-m recent --set --name X -m mark --mark 1",
        "-m recent --set --name X -m recent --set --name Y",
        "-m nfacct --nfacct-name x -m conntrack --ctstate NEW",
        "-m nfacct --nfacct-name x -m recent --rcheck --seconds 5 --reap --name X",
        "-m comment --comment a -m comment --comment b",
        "-m set",
        "-m set --match-set X",
        "-m set --match-set X dst,up",
        "-m set --match-set X dst,",
        "-m set --match-set X dst --return-nomatch",
        "-m set --match-set X dst ! --update-counters",
        "-m set --match-set X dst --packets-gt 5",
        "--match-set X dst",
        "-m recent --set --name X -m set --match-set Y dst",
        "-j SET",
        "-j SET --map-set X dst",
        "-j SET --map-mark",
        "-j SET ! --map-set X dst --map-mark",
        "-j SET --map-set X dst --map-mark --map-prio",
        "-j SET --map-set X dst --map-set Y dst --map-mark",
        "-j SET --add-set X dst",
        "-j ACCEPT --map-set X dst --map-mark",
        "-j DNAT",
        "-j DNAT --to-destination 10.0.0.1",
        "-j DNAT --to-destination 10.0.0.1-10.0.0.9:80",
        "-j DNAT --to-destination 10.0.0.1:80-90",
        "-j DNAT --to-destination 10.0.0.1:80 --random",
        "-j MARK",
        "-j MASQUERADE --to-ports 1024-65535",
        "-j KUBE-X --reject-with tcp-reset",
        "-j SNAT --to-source 10.0.0.1",
        "-j ACCEPT -j DROP",
        "-j",
        "-m",
        "!",
        '-m comment --comment "a b',
        '-m comment --comment a"b c"',
        '-m comment --comment "a"b',
    ],
)
def test_what_no_rule_can_hold(text: str) -> None:
    with pytest.raises(Unreadable, match=r".") as refused:
        parse(text, Family.IPV4)
    assert repr(text) in str(refused.value)


directions = st.lists(st.sampled_from(["src", "dst"]), min_size=1, max_size=3).map(",".join)
set_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.:-]{0,30}", fullmatch=True)
set_matches = st.builds(SetMatch, set_names, directions, st.booleans())
mapped = st.builds(SetMatch, set_names, directions)
marks = st.builds(Mark, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True)
comments = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)
states = st.sets(
    st.sampled_from(["DNAT", "ESTABLISHED", "INVALID", "NEW", "RELATED", "SNAT", "UNTRACKED"])
).map(lambda some: tuple(sorted(some)))


def networks(family: Family) -> st.SearchStrategy[str]:
    size = 4 if family is Family.IPV4 else 16
    address = st.binary(min_size=size, max_size=size).map(unpack)
    with_zeros = st.integers(0, 0xFFFFFFFF).map(lambda n: unpack(n.to_bytes(size, "big")))
    return st.one_of(address, with_zeros).map(lambda a: f"{a}/{size * 8}")


@st.composite
def rules(draw: st.DrawFn, family: Family) -> Rule:
    """All that can be said of a rule at once, and what cannot be said together never."""
    name = st.just("") | words
    network = st.just("") | networks(family)
    source, destination, interface = draw(network), draw(network), draw(name)
    there = {"source": source, "destination": destination, "in_interface": interface}
    state, mark = draw(states), draw(st.none() | marks)
    protocol = draw(st.sampled_from(["", "tcp", "udp", "sctp", "icmp", "ipv6-icmp"]))
    recent = draw(name)
    target = draw(st.sampled_from(["", SVC, SEP, DNAT, MARK, MASQUERADE, REJECT, SET]))
    at = draw(networks(family)).partition("/")[0]
    port = draw(st.integers(1, 65535))
    return Rule(
        target,
        source=source,
        destination=destination,
        in_interface=interface,
        inverted=draw(st.sampled_from(["", *(field for field in there if there[field])])),
        protocol=protocol,
        comment=draw(comments),
        src_type=draw(st.sampled_from(["", "LOCAL", "UNICAST"])),
        dst_type=draw(st.sampled_from(["", "LOCAL"])),
        ct_state=state,
        ct_state_inverted=bool(state) and draw(st.booleans()),
        mark=mark,
        mark_inverted=mark is not None and draw(st.booleans()),
        probability=draw(st.just(0) | st.integers(1, CERTAIN)),
        recent=recent,
        recent_seconds=draw(st.integers(0, 86400)) if recent else 0,
        counter=draw(name),
        is_by_ipvs=draw(st.booleans()),
        destination_port=port if protocol in {"tcp", "udp", "sctp"} and draw(st.booleans()) else 0,
        goto=target in {SVC, SEP} and draw(st.booleans()),
        to_destination=(f"[{at}]:{port}" if ":" in at else f"{at}:{port}")
        if target == DNAT
        else "",
        reject_with="tcp-reset" if target == REJECT else "",
        set_mark=draw(marks) if target == MARK else None,
        sets=tuple(draw(st.lists(set_matches, max_size=3))),
        map_mark_of=draw(mapped) if target == SET else None,
        random_fully=target == MASQUERADE and draw(st.booleans()),
    )


@pytest.mark.parametrize("family", Family)
@given(data=st.data())
def test_every_rule_comes_back(family: Family, data: st.DataObject) -> None:
    rule = data.draw(rules(family))
    text = spec(rule, family)
    assert parse(text, family) == rule
    assert "\n" not in text


@pytest.mark.parametrize("count", [2, 3, 7, 10, 1000])
def test_shares_come_back_to_the_last_bit(count: int) -> None:
    for number in range(count - 1):
        rule = Rule(SEP, probability=share(count, number))
        assert parse(spec(rule, Family.IPV4), Family.IPV4) == rule
