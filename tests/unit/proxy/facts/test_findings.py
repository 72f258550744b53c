"""Does each fault have its finding, and does what only looks like it have none?

That packets are lost by these faults is shown in tests/kernel/facts.
"""

from __future__ import annotations

import msgspec
import pytest

from conntrack.flows import Flow
from endpoints.explain import Drop, Explanation, Forward, Hook, Hop, Packet, Pass, Reject, Verdict
from endpoints.names import Family, Protocol
from endpoints.plan import Endpoint, EndpointState, UnusedEndpoint
from proxy.facts.facts import Facts, Link, Route, Tracked, Way, Ways
from proxy.facts.finding import Cause, Finding
from proxy.facts.findings import findings
from tests.unit.conntrack.flowing import CLIENT, flow
from tests.unit.endpoints.build import NODE_A

VIP, CLIENT_4 = "10.96.7.7", CLIENT[4]
NEAR = Endpoint("10.244.1.2", 5353, is_local=True, node="node-a")
FAR = Endpoint("10.244.2.3", 5353, node="node-b")
FARTHER = Endpoint("10.244.3.4", 5353, node="node-c")
TWO = (FAR, FARTHER)
PACKET = Packet(CLIENT_4, VIP, 53, Protocol.UDP)
FORWARDS = {Family.IPV4: True, Family.IPV6: True}
ETH0 = Link("eth0", 2, addresses=("192.168.0.11/24",), forwards=FORWARDS)
ETH1 = Link("eth1", 3, addresses=("198.51.100.1/24",), forwards=FORWARDS)
CNI0 = Link("cni0", 4, kind="bridge", addresses=("10.244.1.1/24",), forwards=FORWARDS)
VETH1 = Link("veth1", 5, kind="veth", master="cni0", forwards=FORWARDS)
SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv6.conf.all.forwarding": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.netfilter.nf_conntrack_count": "812",
    "net.netfilter.nf_conntrack_max": "65536",
}
FACTS = Facts(sysctls=SYSCTLS, links=(ETH0, ETH1, CNI0, VETH1))


def forward(*endpoints: Endpoint, masqueraded: bool = False) -> Verdict:
    return Forward(frozenset(Hop(endpoint, masqueraded) for endpoint in endpoints))


def way(destination: str, interface: str = "eth0", **fields: object) -> Way:
    made = Way(CLIENT_4, destination, "eth0", interface, network="10.244.0.0/16")
    return msgspec.structs.replace(made, **fields)


def told(
    verdict: Verdict,
    ways: Ways = Ways(),  # noqa: B008 (a frozen value)
    *flows: Tracked,
    facts: Facts = FACTS,
    packet: Packet = PACKET,
    unused: tuple[UnusedEndpoint, ...] = (),
) -> tuple[Finding, ...]:
    explanation = Explanation(verdict, (), unused=unused)
    return findings(packet, explanation, NODE_A, facts, ways, flows)


def with_sysctl(name: str, value: str | None) -> Facts:
    sysctls = {key: of for key, of in SYSCTLS.items() if key != name}
    return msgspec.structs.replace(FACTS, sysctls=sysctls | ({name: value} if value else {}))


def with_link(link: Link) -> Facts:
    links = tuple(link if one.name == link.name else one for one in FACTS.links)
    return msgspec.structs.replace(FACTS, links=links)


def only(found: tuple[Finding, ...]) -> tuple[Cause, bool, str]:
    (finding,) = found
    return finding.cause, finding.breaks, finding.text


GOOD = Ways(there=(way(FAR.address),), back=(way(CLIENT_4),), is_arrival_known=True)


@pytest.mark.parametrize("verdict", [forward(FAR), Drop(), Reject(), Pass()], ids=repr)
def test_a_healthy_machine_is_not_talked_about(verdict: Verdict) -> None:
    assert told(verdict, GOOD) == ()
    assert told(verdict) == ()


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (65536, 65536, [True]),
        (65600, 65536, [True]),
        (62300, 65536, [False]),
        (62000, 65536, []),
        (5, 0, []),  # 0 stands for no limit
    ],
)
def test_the_conntrack_table(count: int, most: int, expected: list[bool]) -> None:
    names = ("net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max")
    sysctls = SYSCTLS | dict(zip(names, map(str, (count, most)), strict=True))
    found = told(forward(FAR), GOOD, facts=msgspec.structs.replace(FACTS, sysctls=sysctls))
    assert [finding.breaks for finding in found] == expected
    for finding in found:
        assert f"{count} of {most} entries (net.netfilter.nf_conntrack_max)" in finding.text
        assert finding.remedy.startswith("sysctl -w net.netfilter.nf_conntrack_max=131072")


def test_a_machine_without_conntrack_has_no_full_table() -> None:
    assert told(forward(FAR), facts=with_sysctl("net.netfilter.nf_conntrack_count", None)) == ()


REFUSED = way(NEAR.address, "cni0", arrival="eth1", error="EINVAL")


@pytest.mark.parametrize("verdict", [forward(NEAR), Drop(), Reject(), Pass()], ids=repr)
@pytest.mark.parametrize("error", ["EXDEV", "EINVAL"])  # before and since Linux 6.14
def test_rp_filter(verdict: Verdict, error: str) -> None:
    there = msgspec.structs.replace(REFUSED, error=error)
    ways = Ways(there=(there,), back=(way(CLIENT_4),), is_arrival_known=True)
    strict = with_link(msgspec.structs.replace(ETH1, rp_filter=1))
    text = (
        "rp_filter=1 drops what arrives on eth1 from 203.0.113.7 and goes to 10.244.1.2: "
        "the way back is by eth0"
    )
    assert only(told(verdict, ways, facts=strict)) == (Cause.REVERSE_PATH, True, text)
    guessed = msgspec.structs.replace(ways, is_arrival_known=False)
    assert only(told(verdict, guessed, facts=strict)) == (Cause.REVERSE_PATH, False, text)


def test_rp_filter_of_all_counts_too() -> None:
    ways = Ways(there=(REFUSED,), is_arrival_known=True)
    facts = with_sysctl("net.ipv4.conf.all.rp_filter", "2")
    (found,) = told(forward(NEAR), ways, facts=facts)
    assert found.text.startswith("rp_filter=2 drops what arrives on eth1")
    assert found.text.endswith("there is no way back")
    assert "sysctl" not in found.remedy


def test_a_source_that_is_the_nodes_own() -> None:
    refused = msgspec.structs.replace(REFUSED, source="192.168.0.11")
    cause, breaks, text = only(told(forward(NEAR), Ways(there=(refused,), is_arrival_known=True)))
    assert (cause, breaks) == (Cause.REVERSE_PATH, True)
    assert text.startswith("192.168.0.11 is an address of this node")


def test_a_refusal_that_nothing_explains_is_told_as_it_is() -> None:
    cause, _, text = only(told(forward(NEAR), Ways(there=(REFUSED,), is_arrival_known=True)))
    assert (cause, text) == (
        Cause.NO_ROUTE,
        "the kernel passes nothing from 203.0.113.7 on to 10.244.1.2 (EINVAL)",
    )


def test_links_where_rp_filter_would_drop() -> None:
    ways = Ways(there=(way(NEAR.address, "cni0"),), suspected=(REFUSED,))
    facts = msgspec.structs.replace(FACTS, reverse_path_drops=17)
    cause, breaks, text = only(told(forward(NEAR), ways, facts=facts))
    assert (cause, breaks) == (Cause.REVERSE_PATH, False)
    assert text.startswith("rp_filter has dropped 17 packets")
    assert "arrive on eth1" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ENETUNREACH", "there is no route to it"),
        ("EHOSTUNREACH", "its route is of kind unreachable"),
        ("EINVAL", "its route is of kind blackhole"),
        ("EACCES", "its route is of kind prohibit"),
    ],
)
def test_no_route(error: str, words: str) -> None:
    lost = way(FAR.address, "", error=error, route_error=error)
    expected = f"packets to 10.244.2.3 on node-b go nowhere: {words}"
    assert only(told(forward(FAR), Ways(there=(lost,)))) == (Cause.NO_ROUTE, True, expected)
    assert told(Drop(), Ways(there=(lost,))) == ()  # it would not get as far
    near = msgspec.structs.replace(lost, destination=NEAR.address)  # its link is up
    assert only(told(forward(NEAR), Ways(there=(near,))))[0] is Cause.NO_ROUTE
    (found,) = told(forward(FAR, NEAR), Ways(there=(way(NEAR.address, "cni0"), lost)))
    assert not found.breaks  # another endpoint is there


def test_endpoints_without_a_route_are_told_of_together() -> None:
    ends = [Endpoint(f"10.244.2.{n}", 80, node="node-b") for n in range(1, 9)]
    ways = Ways(
        there=tuple(way(end.address, "", error="EINVAL", route_error="EINVAL") for end in ends)
    )
    route = Route("10.244.2.0/24", kind="blackhole")
    facts = msgspec.structs.replace(FACTS, routes=(Route("10.244.0.0/16", kind="blackhole"), route))
    text = (
        "packets to 10.244.2.1, 10.244.2.2 or 6 more on node-b go nowhere: "
        "the route `blackhole 10.244.2.0/24` takes it"
    )
    assert only(told(forward(*ends), ways, facts=facts)) == (Cause.NO_ROUTE, True, text)


def test_no_route_to_any_node_is_one_finding_that_breaks() -> None:
    gone = [way(end.address, "", error="ENETUNREACH", route_error="ENETUNREACH") for end in TWO]
    text = (
        "packets to 10.244.2.3 on node-b or 10.244.3.4 on node-c go nowhere: "
        "there is no route to it"
    )
    assert only(told(forward(*TWO), Ways(there=tuple(gone)))) == (Cause.NO_ROUTE, True, text)


def test_no_route_for_several_reasons_breaks_as_well() -> None:
    reasons = ("ENETUNREACH", "EACCES")
    gone = [
        way(end.address, "", error=error, route_error=error)
        for end, error in zip(TWO, reasons, strict=True)
    ]
    found = told(forward(*TWO), Ways(there=tuple(gone)))
    assert [(one.cause, one.breaks) for one in found] == [(Cause.NO_ROUTE, True)] * 2
    assert "10.244.2.3 on node-b go nowhere: there is no route" in found[0].text
    assert "10.244.3.4 on node-c go nowhere: its route is of kind prohibit" in found[1].text


def test_a_default_route_to_another_node() -> None:
    default = way(FAR.address, gateway="192.168.0.1", network="0.0.0.0/0")
    assert told(forward(FAR), Ways(there=(default,))) == ()  # as in a cloud
    known = way(FARTHER.address, gateway="192.168.0.13", network="10.244.3.0/24")
    cause, breaks, text = only(told(forward(FAR, FARTHER), Ways(there=(default, known))))
    assert (cause, breaks) == (Cause.NO_ROUTE, False)
    assert text == (
        "pod 10.244.2.3 on node-b has no route but the default one, "
        "while 10.244.3.0/24 by 192.168.0.13 leads to node-c"
    )
    routes = (
        Route("10.244.1.0/24", "cni0"),
        Route("192.0.2.0/24", "eth0", "192.168.0.9"),
        Route("0.0.0.0/0", "eth0", "192.168.0.1"),
    )
    facts = msgspec.structs.replace(FACTS, routes=routes)
    assert told(forward(FAR), Ways(there=(default,)), facts=facts) == ()
    facts = msgspec.structs.replace(
        FACTS, routes=(*routes, Route("10.244.9.0/24", "eth0", "192.168.0.19"))
    )
    assert (
        "10.244.9.0/24 by 192.168.0.19"
        in only(told(forward(FAR), Ways(there=(default,)), facts=facts))[2]
    )


def test_a_default_route_to_a_pod_of_this_node() -> None:
    default = way(NEAR.address, gateway="192.168.0.1", network="0.0.0.0/0")
    cause, breaks, text = only(told(forward(NEAR), Ways(there=(default,))))
    assert (cause, breaks) == (Cause.NO_ROUTE, False)
    assert text == "pod 10.244.1.2 is a pod of this node, but only the default route leads to it"


def test_a_link_that_is_down_or_has_no_carrier() -> None:
    down = with_link(msgspec.structs.replace(CNI0, is_up=False))
    lost = way(NEAR.address, "", error="ENETUNREACH", route_error="ENETUNREACH")
    expected = "interface cni0, whose network holds 10.244.1.2, is down"
    assert only(told(forward(NEAR), Ways(there=(lost,)), facts=down)) == (
        Cause.LINK_DOWN,
        True,
        expected,
    )
    unplugged = with_link(msgspec.structs.replace(ETH0, has_carrier=False))
    assert only(told(forward(FAR), Ways(there=(way(FAR.address),)), facts=unplugged)) == (
        Cause.LINK_DOWN,
        True,
        "interface eth0, which leads to 10.244.2.3, has no carrier",
    )
    here = Ways(there=(way("192.168.0.11", is_local=True),))
    assert told(forward(FAR), here, facts=unplugged) == ()


def test_the_way_back() -> None:
    lost = way(CLIENT_4, "", error="ENETUNREACH", route_error="ENETUNREACH")
    assert only(told(forward(FAR), Ways(there=(way(FAR.address),), back=(lost,)))) == (
        Cause.NO_ROUTE,
        True,
        "packets to 203.0.113.7 go nowhere: there is no route to it",
    )


def test_forwarding() -> None:
    refused = Ways(there=(way(FAR.address, error="EHOSTUNREACH"),), back=(way(CLIENT_4),))
    off = msgspec.structs.replace(ETH0, forwards={Family.IPV4: False})
    facts = msgspec.structs.replace(with_link(off), sysctls=SYSCTLS | {"net.ipv4.ip_forward": "0"})
    text = "net.ipv4.ip_forward is 0: this node passes no packets on, so none to 10.244.2.3"
    assert only(told(forward(FAR), refused, facts=facts)) == (Cause.NOT_FORWARDING, True, text)
    (found,) = told(forward(FAR), refused, facts=with_link(off))
    assert found.remedy == "sysctl -w net.ipv4.conf.eth0.forwarding=1"
    own = msgspec.structs.replace(PACKET, source="192.168.0.11", hook=Hook.OUTPUT)
    sent = Ways(before=way(VIP, arrival=""), there=(way(FAR.address, arrival=""),))
    assert told(forward(FAR), sent, facts=facts, packet=own) == ()


@pytest.mark.parametrize(("excepted", "count"), [("0", 1), ("1", 0)])
def test_forwarding_of_ipv6_has_exceptions(excepted: str, count: int) -> None:
    sysctls = {
        "net.ipv6.conf.all.forwarding": "0",
        "net.ipv6.conf.eth0.force_forwarding": excepted,
    }
    packet = Packet("2001:db8::7", "fd00:10:96::7", 53, Protocol.UDP)
    there = Way(packet.source, "fd00:10:244:2::2", "eth0", "eth0")
    facts = msgspec.structs.replace(FACTS, sysctls=sysctls)
    far = Endpoint(there.destination, 5353, node="node-b")
    found = told(forward(far), Ways(there=(there,)), facts=facts, packet=packet)
    assert [finding.cause for finding in found] == [Cause.NOT_FORWARDING] * count


def neighbours(source: str, end: Endpoint, interface: str = "cni0") -> Ways:
    return Ways(
        there=(way(end.address, interface, source=source, arrival="cni0"),),
        back=(way(source, interface, source=end.address, arrival="cni0"),),
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "net.bridge.bridge-nf-call-iptables is 0"),
        (None, "the kernel module br_netfilter is not loaded"),
    ],
)
def test_answers_within_a_bridge(value: str | None, words: str) -> None:
    pod = msgspec.structs.replace(PACKET, source="10.244.1.9")
    facts = with_sysctl("net.bridge.bridge-nf-call-iptables", value)
    ways = neighbours(pod.source, NEAR)
    cause, breaks, text = only(told(forward(NEAR), ways, facts=facts, packet=pod))
    assert (cause, breaks) == (Cause.BRIDGE_BYPASS, True)
    assert text == (
        f"{words}: 10.244.1.2 answers 10.244.1.9 within bridge cni0, "
        "where nothing translates the answer back to 10.96.7.7"
    )
    assert told(forward(NEAR), ways, packet=pod) == ()
    assert told(forward(NEAR, masqueraded=True), ways, facts=facts, packet=pod) == ()
    calling = msgspec.structs.replace(CNI0, calls=frozenset({Family.IPV4}))
    asked = msgspec.structs.replace(facts, links=(ETH0, calling, VETH1))
    assert told(forward(NEAR), ways, facts=asked, packet=pod) == ()
    strange = msgspec.structs.replace(CNI0, addresses=("10.244.8.1/24",))
    asked = msgspec.structs.replace(facts, links=(ETH0, strange, VETH1))
    assert told(forward(NEAR), ways, facts=asked, packet=pod) == ()  # by the node, as /32 pods do
    routed = neighbours(pod.source, NEAR, "veth1")
    assert told(forward(NEAR), routed, facts=facts, packet=pod) == ()


def test_a_pod_that_asks_itself() -> None:
    pod = msgspec.structs.replace(PACKET, source=NEAR.address)
    ways = neighbours(pod.source, NEAR)
    hop = forward(NEAR, masqueraded=True)
    cause, breaks, _ = only(told(hop, ways, packet=pod))
    assert (cause, breaks) == (Cause.HAIRPIN, True)
    able = with_link(msgspec.structs.replace(VETH1, hairpin=True))
    assert told(hop, ways, facts=able, packet=pod) == ()
    unseen = with_sysctl("net.bridge.bridge-nf-call-iptables", "0")
    assert told(hop, ways, facts=unseen, packet=pod) == ()


def test_the_node_itself_needs_a_route_to_what_it_asks_for() -> None:
    own = msgspec.structs.replace(PACKET, source="192.168.0.11", hook=Hook.OUTPUT)
    lost = way(VIP, "", arrival="", error="ENETUNREACH", route_error="ENETUNREACH")
    cause, breaks, text = only(told(forward(FAR), Ways(before=lost), packet=own))
    assert (cause, breaks) == (Cause.NO_ROUTE, True)
    assert text.startswith("this node sends nothing to 10.96.7.7 (there is no route to it)")


def test_localhost() -> None:
    own = Packet("127.0.0.1", "127.0.0.1", 30080, Protocol.TCP, Hook.OUTPUT)
    refused = way(FAR.address, source="127.0.0.1", arrival="", error="EINVAL")
    ways = Ways(before=way("127.0.0.1", "lo", arrival="", is_local=True), there=(refused,))
    cause, breaks, text = only(told(forward(FAR), ways, packet=own))
    assert (cause, breaks) == (Cause.LOCALHOST, True)
    assert text.endswith("the kernel sends nothing from 127.0.0.1 to 10.244.2.3")


def standing(of: Flow, state: str = "ASSURED") -> Tracked:
    return Tracked(of, state, 29)


STALE = flow("10.96.7.7:53", "10.244.9.9:5353", port=40000)


def test_a_flow_to_an_endpoint_that_is_gone() -> None:
    (found,) = told(forward(FAR), GOOD, standing(STALE))
    assert (found.cause, found.breaks) == (Cause.STALE_FLOW, True)
    assert found.text == (
        "conntrack still sends packets from 203.0.113.7:40000 for 10.96.7.7:53/UDP to "
        "10.244.9.9:5353, which is no endpoint that serves it (for 29 s, and longer while "
        "packets come)"
    )
    assert found.remedy == (
        "conntrack -D -p udp --orig-dst 10.96.7.7 --orig-port-dst 53 --reply-src 10.244.9.9"
    )
    other = msgspec.structs.replace(PACKET, source="203.0.113.99")
    (found,) = told(forward(FAR), GOOD, standing(STALE), packet=other)
    assert not found.breaks


def test_a_flow_from_before_the_rules() -> None:
    (found,) = told(forward(FAR), GOOD, standing(flow("10.96.7.7:53")))
    assert "to no endpoint: they began before the rules" in found.text
    assert found.remedy.endswith("--reply-src 10.96.7.7")


def test_many_stale_flows_make_one_finding_for_each_end() -> None:
    flows = [standing(flow("10.96.7.7:53", f"10.244.9.{n % 2}:5353")) for n in range(10)]
    first, second = told(forward(FAR), GOOD, *flows)
    assert "and 4 more for" in first.text
    assert "10.244.9.1:5353" in second.text


@pytest.mark.parametrize(
    ("entry", "unused"),
    [
        (standing(flow("10.96.7.7:53", "10.244.2.3:5353")), ()),
        (standing(flow("10.96.7.7:53", "10.244.9.9:5353", zone=7)), ()),
        (
            standing(STALE),
            (UnusedEndpoint(Endpoint("10.244.9.9", 5353, node="node-d"), "another zone"),),
        ),
    ],
    ids=["an endpoint", "somebody else's zone", "an endpoint that serves, but not here"],
)
def test_flows_that_are_as_they_should_be(
    entry: Tracked, unused: tuple[UnusedEndpoint, ...]
) -> None:
    assert told(forward(FAR), GOOD, entry, unused=unused) == ()


def test_an_endpoint_that_is_not_ready_keeps_no_flow() -> None:
    gone = Endpoint("10.244.9.9", 5353, state=EndpointState.NOT_READY, node="node-d")
    (found,) = told(
        forward(FAR), GOOD, standing(STALE), unused=(UnusedEndpoint(gone, "not ready"),)
    )
    assert found.cause is Cause.STALE_FLOW


@pytest.mark.parametrize(("state", "count"), [("ESTABLISHED", 0), ("SYN_SENT", 1)])
def test_of_tcp_only_a_connection_that_begins_is_lost(state: str, count: int) -> None:
    packet = Packet(CLIENT_4, VIP, 53, Protocol.TCP)
    entry = standing(flow("10.96.7.7:53", "10.244.9.9:5353", Protocol.TCP), state)
    assert len(told(forward(FAR), GOOD, entry, packet=packet)) == count


@pytest.mark.parametrize("verdict", [Drop(), Reject(), Pass()], ids=repr)
def test_where_nothing_should_be_forwarded_no_flow_is_judged(verdict: Verdict) -> None:
    assert told(verdict, GOOD, standing(STALE)) == ()


def test_certain_breaks_come_first() -> None:
    full = with_sysctl("net.netfilter.nf_conntrack_count", "63000")
    found = told(forward(FAR), GOOD, standing(STALE), facts=full)
    assert [(finding.cause, finding.breaks) for finding in found] == [
        (Cause.STALE_FLOW, True),
        (Cause.CONNTRACK_FULL, False),
    ]
