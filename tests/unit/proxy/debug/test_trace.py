"""Does `headgate trace` say the outcome first, and then the way to it?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.names import Family, Protocol, ServicePortName
from endpoints.plan import Endpoint, Frontend, FrontendKind, ServicePlan, TrafficPolicy
from modes.tracing.counted import CountedRule
from modes.tracing.events import Event
from modes.tracing.following import RuleAt
from modes.tracing.outcome import Outcome, became
from modes.tracing.program import Aim
from modes.tracing.rules import RuleText
from proxy.cli import main
from proxy.debug import trace
from proxy.debug.screen import Screen
from proxy.debug.tracing.served import Services
from proxy.debug.tracing.traced import Look, Traced, TracedFlow, place, text, told
from proxy.facts.finding import Cause, Finding
from tests.unit.modes.tracing.telling import (
    ASKED,
    CHOSEN,
    ICMP,
    MASQUERADED,
    POD,
    VIP,
    followed,
    matched,
    seen,
)
from tests.unit.modes.tracing.test_following import BACK, FORTH

AIM = Aim(VIP, 80, Protocol.TCP)
NAMES = {2: "eth0", 3: "cni0"}
RULES = {
    "services": "ip daddr . meta l4proto . th dport vmap @services",
    "pick-2": "dnat ip to numgen random mod 2 map @endpoints",
    "lb-check": "ip saddr != @lb-sources drop",
    "no-endpoints": "reject",
}


def rule(at: RuleAt) -> RuleText:
    return RuleText(RULES.get(at.chain, ""), is_refusal=at.chain == "no-endpoints")


def plan(*endpoints: str) -> ServicePlan:
    cluster = tuple(Endpoint(address, 8080) for address in endpoints)
    frontend = Frontend(FrontendKind.CLUSTER_IP, VIP, 80, TrafficPolicy.CLUSTER)
    name = ServicePortName("shop", "pay", "http", Protocol.TCP)
    return ServicePlan(name, Family.IPV4, (frontend,), cluster, (), has_any=True)


def services(*endpoints: str) -> Services:
    return Services({(VIP, 80, Protocol.TCP): plan(*endpoints)})


LOOK = Look(rule, NAMES.__getitem__, services(POD))


def lines(events: list[Event], look: Look = LOOK, screen: Screen | None = None) -> list[str]:
    (flow,) = followed(AIM, events).flows
    of = became(flow, 100)
    assert of is not None
    found = Traced(place(AIM), "shop/pay:http", (told(flow, of, look, AIM),))
    return text(found, screen or Screen())


def test_an_answered_packet() -> None:
    assert (
        "\n".join(lines(FORTH + BACK))
        == """\
REACHED   shop/pay:http 10.96.7.7:80/TCP -> 10.244.2.9:8080; source 10.244.1.9 becomes 192.168.0.11; reply seen after 9.0 ms
  1    prerouting    10.244.1.9:4242 -> 10.96.7.7:80 arrives by cni0
  2    services      ip daddr . meta l4proto . th dport vmap @services -> goto pick-2
  3    pick-2        dnat ip to numgen random mod 2 map @endpoints -> accept
  4    prerouting    becomes 10.244.1.9:4242 -> 10.244.2.9:8080
  5    forward       goes on by eth0
  6    postrouting   becomes 192.168.0.11:999 -> 10.244.2.9:8080, leaves by eth0
       reply
  7    prerouting    10.244.2.9:8080 -> 192.168.0.11:999 arrives by eth0
  8    prerouting    becomes 10.244.2.9:8080 -> 10.244.1.9:4242
  9    forward       goes on by eth0
  10   postrouting   becomes 10.96.7.7:80 -> 10.244.1.9:4242, leaves by eth0"""
    )


def test_dropped_by_a_rule() -> None:
    assert lines([*FORTH[:2], matched("lb-check", "drop")]) == [
        "LOST   shop/pay:http 10.96.7.7:80/TCP, at prerouting: dropped by chain lb-check of table ip headgate: ip saddr != @lb-sources drop",
        "  1   prerouting   10.244.1.9:4242 -> 10.96.7.7:80 arrives by cni0",
        "  2   lb-check     ip saddr != @lb-sources drop",
    ]


def test_refused_by_a_rule() -> None:
    (first, *_) = lines([*FORTH[:2], matched("no-endpoints", "drop")])
    assert first.startswith("REFUSED   shop/pay:http 10.96.7.7:80/TCP, at prerouting: refused by")


def test_a_policy_has_no_rule() -> None:
    (first, *_) = lines([*FORTH[:6], policy("FORWARD")])
    assert first.endswith("at forward: dropped by the policy of chain FORWARD of table ip filter")


def policy(chain: str) -> Event:
    event = matched(chain, "drop", handle=0)
    return event._replace(table="filter", kind=type(event.kind).POLICY)


def test_a_rule_that_cannot_be_read_has_a_handle() -> None:
    foreign = matched("gate", "drop", handle=77)._replace(table="guard")
    (first, *_, last) = lines([*FORTH[:6], foreign])
    assert first.endswith("chain gate of table ip guard: rule with handle 77")
    assert last.endswith("chain gate of table ip guard: rule with handle 77 -> drop")


def test_lost_in_routing_with_a_cause() -> None:
    why = Finding(Cause.NO_ROUTE, breaks=True, text="there is no route to it", remedy="ip route")
    look = Look(rule, NAMES.__getitem__, causes=lambda *_: (why,))
    (first, *_, last) = lines(FORTH[:5], look)
    assert first == (
        "LOST   10.96.7.7:80/TCP, between prerouting and forward: routing refused it:"
        " there is no route to it"
    )
    assert last == "  what to do: ip route"


def test_a_cause_is_said_once() -> None:
    """Of a certain one nobody has to guess; one that is not certain has a line of its own."""
    full = Finding(Cause.CONNTRACK_FULL, breaks=True, text="conntrack table is full", remedy="")
    stale = Finding(Cause.STALE_FLOW, breaks=False, text="an old flow", remedy="conntrack -D")
    look = Look(rule, NAMES.__getitem__, causes=lambda *_: (full, stale))
    assert lines(FORTH[:1], look) == [
        "LOST   10.96.7.7:80/TCP, in prerouting, before conntrack knew it: conntrack table is full",
        "  1   prerouting   10.244.1.9:4242 -> 10.96.7.7:80 arrives by cni0",
        "  an old flow; conntrack -D",
    ]
    assert lines(FORTH, look)[0].endswith("; no reply within 3 s: conntrack table is full")


def test_what_dropped_meanwhile_is_no_answer_for_routing() -> None:
    """Rules of prerouting come before its last place."""
    other = CountedRule("filter", "-A FORWARD -j DROP")
    look = Look(rule, NAMES.__getitem__, counted=lambda: (other,))
    assert "routing refused it" in lines(FORTH[:5], look)[0]
    first = lines(FORTH[:6], look)[0]
    assert "at forward: dropped by iptables-legacy: `-t filter -A FORWARD -j DROP`" in first


@pytest.mark.parametrize(
    ("upto", "words"),
    [
        (1, "before conntrack knew it: the table of conntrack is full"),
        (2, "in prerouting, before it was routed"),
        (6, "in forward: "),
        (7, "after forward: "),
        (8, "in postrouting: "),
    ],
)
def test_lost_between_places(upto: int, words: str) -> None:
    assert words in lines(FORTH[:upto])[0]


def test_a_quiet_trace_does_not_say_who_it_was_not() -> None:
    look = Look(rule, NAMES.__getitem__, is_quiet=True)
    assert lines(FORTH[:6], look)[0].endswith("in forward: a rule dropped it")


def test_an_answer_that_was_lost() -> None:
    (first, *_) = lines(FORTH + BACK[:3])
    assert "becomes 192.168.0.11; its reply, in forward: " in first


def test_no_answer() -> None:
    assert "no reply within 3 s: the endpoint does not answer" in lines(FORTH)[0]


OTHER = Look(rule, NAMES.__getitem__, services("10.244.3.3"))
STRAY = "-> 10.244.2.9:8080, which is no endpoint of shop/pay:http; source 10.244.1.9 becomes"


def test_an_old_flow_to_an_endpoint_that_is_gone() -> None:
    first = lines(FORTH, OTHER)[0]
    assert STRAY in first
    assert "no reply within 3 s: conntrack keeps an old flow there, or a rule of others" in first


def flow_of(events: list[Event], look: Look) -> TracedFlow:
    (flow,) = followed(AIM, events).flows
    of = became(flow, 100)
    assert of is not None
    return told(flow, of, look, AIM)


def test_an_answer_of_somebody_else_is_not_fine() -> None:
    stray = flow_of(FORTH + BACK, OTHER)
    assert STRAY in stray.summary
    assert (stray.outcome, stray.is_endpoint, stray.is_fine) == (Outcome.REACHED, False, False)
    assert lines(FORTH + BACK, OTHER, Screen(colour=True))[0].startswith("\x1b[33mREACHED")
    right = flow_of(FORTH + BACK, LOOK)
    assert (right.is_endpoint, right.is_fine) == (True, True)
    unknown = flow_of(FORTH + BACK, Look(rule, NAMES.__getitem__))
    assert (unknown.is_endpoint, unknown.is_fine) == (None, True)


def test_an_endpoint_may_be_younger_than_the_first_answer() -> None:
    asked = []

    def later() -> Services:
        asked.append(1)
        return services(POD)

    known = msgspec.structs.replace(services("10.244.3.3"), later=later)
    assert flow_of(FORTH + BACK, Look(rule, NAMES.__getitem__, known)).is_endpoint is True
    assert asked == [1]
    gone = msgspec.structs.replace(known, later=lambda: services("10.244.3.4"))
    assert flow_of(FORTH + BACK, Look(rule, NAMES.__getitem__, gone)).is_endpoint is False


def test_an_open_connection_may_keep_an_endpoint_that_goes() -> None:
    opened = [seen("prerouting-early", ASKED, flags=0x10), *FORTH[1:]]
    flow = flow_of(opened + BACK, OTHER)
    assert (flow.is_endpoint, flow.is_fine) == (None, True)


@pytest.mark.parametrize(
    ("count", "endpoints", "status", "said"),
    [
        ("1", [POD], 0, ""),
        ("2", [POD], 1, "1 of 2 connections came within 30 s."),
        ("1", ["10.244.3.3"], 1, "which is no endpoint of shop/pay:http"),
    ],
)
def test_the_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: str,
    endpoints: list[str],
    status: int,
    said: str,
) -> None:
    found = flow_of(FORTH + BACK, Look(rule, NAMES.__getitem__, services(*endpoints)))
    answer = Traced(place(AIM), "shop/pay:http", (found,))
    monkeypatch.setattr(trace, "_known", lambda: (Services(), None, ()))
    monkeypatch.setattr(trace, "_traced", lambda _: answer)
    monkeypatch.setattr(trace, "end_at_once", lambda: None)
    assert main(["trace", "10.96.7.7:80", f"--count={count}"]) == status
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed
    assert ("connections came" in printed) == (count == "2")


def test_icmp_is_named() -> None:
    error = MASQUERADED.reversed._replace(protocol=ICMP, source_port=0, destination_port=0)
    answer = [
        seen("prerouting-tracked", error, 2, icmp=(3, 3)),
        seen("postrouting-late", error, 2, icmp=(3, 3)),
    ]
    (first, *_) = lines(FORTH + answer)
    assert "10.244.2.9 answers with ICMP (port unreachable)" in first


def test_a_segment_of_an_open_connection() -> None:
    (first, *_) = lines(
        [seen("prerouting-early", ASKED, flags=0x10), seen("forward-early", CHOSEN)]
    )[1:]
    assert first.endswith("(of a connection that is open already) arrives by cni0")


def test_nothing_came() -> None:
    found = Traced(place(AIM), "shop/pay:http", (), ("It was waited.",))
    assert text(found) == [
        "NOTHING   no packet to shop/pay:http 10.96.7.7:80/TCP was seen",
        "  It was waited.",
    ]


def test_it_fits_the_screen_and_has_colours() -> None:
    shown = lines(FORTH + BACK, screen=Screen(80))
    assert max(map(len, shown)) <= 80
    assert lines(FORTH + BACK, screen=Screen(colour=True))[0].startswith("\x1b[32mREACHED")
    assert lines(FORTH, screen=Screen(colour=True))[0].startswith("\x1b[33mUNANSWERED")


def test_node_ports_have_names_at_the_addresses_of_the_node() -> None:
    known = Services({(Family.IPV4, 30080, Protocol.TCP): plan(POD)}, frozenset({"192.168.0.11"}))
    assert known.name("192.168.0.11", 30080, Protocol.TCP) == "shop/pay:http"
    assert known.name("192.168.0.12", 30080, Protocol.TCP) == ""
    assert known.serves("192.168.0.11", 30080, Protocol.TCP, f"{POD}:8080") is True
    assert known.serves("192.168.0.11", 30081, Protocol.TCP, f"{POD}:8080") is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["10.96.7.7"], "must be an address and a port"),
        (["10.96.7.7:80", "--from=fd00::1"], "is IPv6, but 10.96.7.7 is IPv4"),
        (["10.96.7.7:80", "--from=pod"], "is no IP address"),
        (["10.96.7.7:80", "--timeout=0s"], "must be above zero"),
        (["10.96.7.7:80", "--timeout=soon"], "must be a duration"),
        (["10.96.7.7:80", "--count=0"], "must be a number from 1 to 100"),
        (["10.96.7.7:80", "--count=101"], "must be a number from 1 to 100"),
        (["10.96.7.7:80", "-o", "yaml"], "must be text or json"),
    ],
)
def test_refusals(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", *arguments]) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
