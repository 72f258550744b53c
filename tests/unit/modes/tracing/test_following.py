"""Are the packets of a flow put together, whatever happens to their addresses?"""

from __future__ import annotations

from itertools import count

from endpoints.names import Protocol
from modes.tracing.events import Ends, Event
from modes.tracing.following import Flow, Seen
from modes.tracing.outcome import Became, Loss, Outcome, became, due
from modes.tracing.program import Aim
from tests.unit.modes.tracing.telling import (
    ASKED,
    CHOSEN,
    CLIENT,
    ETH,
    ICMP,
    LO,
    MASQUERADED,
    NODE,
    POD,
    RESET,
    SYN_ACK,
    TCP,
    VIP,
    followed,
    matched,
    seen,
)

AIM = Aim(VIP, 80, Protocol.TCP)
FORTH = [
    seen("prerouting-early", ASKED),
    seen("prerouting-tracked", ASKED),
    matched("services", "goto pick-2"),
    matched("pick-2", "accept"),
    seen("prerouting-translated", CHOSEN),
    seen("forward-early", CHOSEN),
    seen("forward-late", CHOSEN),
    seen("postrouting-early", CHOSEN),
    seen("postrouting-late", MASQUERADED),
]
BACK = [
    seen("prerouting-tracked", MASQUERADED.reversed, 2, flags=SYN_ACK, by=ETH),
    seen("prerouting-translated", CHOSEN.reversed, 2, flags=SYN_ACK, by=ETH),
    seen("forward-early", CHOSEN.reversed, 2, flags=SYN_ACK),
    seen("forward-late", CHOSEN.reversed, 2, flags=SYN_ACK),
    seen("postrouting-early", CHOSEN.reversed, 2, flags=SYN_ACK),
    seen("postrouting-late", ASKED.reversed, 2, flags=SYN_ACK),
]


def only(events: list[Event], aim: Aim = AIM) -> Flow:
    (flow,) = followed(aim, events).flows
    return flow


def places(flow: Flow) -> list[str]:
    return [step.place.chain for step in flow.way.steps if isinstance(step, Seen)]


def test_there_and_back() -> None:
    flow = only(FORTH + BACK)
    assert flow.ends == ASKED
    assert flow.way.latest.header.ends == MASQUERADED
    assert flow.answer is not None
    assert flow.answer.latest.header.ends == ASKED.reversed
    assert became(flow, 1) == Became(Outcome.REACHED, reply_seconds=0.009)


def test_a_packet_gets_another_number_on_a_bridge() -> None:
    """The number depends on where it was received; its addresses lead on."""
    renumbered = [*FORTH[:5], *(event._replace(packet=9) for event in FORTH[5:])]
    assert places(only(renumbered)) == places(only(FORTH))
    assert len(only(renumbered).forth) == 1


def test_through_lo() -> None:
    """A process of the node asks, and one of the node is chosen."""
    node = Ends(TCP, NODE, 4242, VIP, 80)
    own = Ends(TCP, NODE, 4242, NODE, 8080)
    events = [
        seen("output-early", node),
        seen("output-tracked", node),
        seen("output-translated", own),
        seen("output-late", own),
        seen("postrouting-early", own),
        seen("postrouting-late", own),
        seen("prerouting-early", own, 2, by=LO),
        seen("input-early", own, 2, by=LO),
        seen("input-late", own, 2, by=LO),
    ]
    flow = only(events)
    assert len(flow.forth) == 1
    assert places(flow)[-1] == "input-late"
    assert only(events[:7]).way.is_through is False


def test_ipvs_takes_it_in_input_and_sends_it_on() -> None:
    for number in (1, 9):  # whether or not it keeps its number
        flow = only(
            [
                seen("prerouting-early", ASKED),
                seen("prerouting-translated", ASKED),
                seen("input-early", ASKED),
                seen("output-early", CHOSEN, number),
                seen("output-late", CHOSEN, number),
                seen("postrouting-early", CHOSEN, number),
                seen("postrouting-late", MASQUERADED, number),
                *BACK,
            ]
        )
        assert len(flow.forth) == 1
        assert flow.way.latest.header.ends == MASQUERADED
        assert became(flow, 1) == Became(Outcome.REACHED, reply_seconds=0.007)


def test_the_next_packet_may_have_the_same_number() -> None:
    """The kernel makes it of the packet's place in memory, among others."""
    flow = only(FORTH + FORTH + BACK)
    assert len(flow.forth) == 2
    assert flow.way is flow.forth[0]


def test_the_next_packet_may_have_the_same_numbers_on_a_bridge() -> None:
    """From hook forward on, too, it is not the packet before that comes there once more."""
    renumbered = [*FORTH[:5], *(event._replace(packet=9) for event in FORTH[5:])]
    flow = only(renumbered * 3 + BACK)
    assert [len(way.steps) for way in flow.forth] == [len(FORTH)] * 3
    assert flow.way is flow.forth[0]


def test_the_first_packet_that_came_through_counts_and_no_longer_way() -> None:
    """An answer is not older than its question: what is sent on after it is another packet."""
    opened = seen("prerouting-early", ASKED, 5, flags=0x10)
    later = [opened, *(event._replace(packet=5) for event in FORTH[1:])]
    flow = only([*FORTH[:2], *FORTH[4:], *BACK, *later])
    assert flow.way is flow.forth[0]
    assert len(flow.forth[1].steps) > len(flow.way.steps)
    assert became(flow, 1) == Became(Outcome.REACHED, reply_seconds=0.007)


def test_no_time_is_told_of_an_answer_that_was_seen_first() -> None:
    """As of a packet that was caught on its way out only."""
    late = [event._replace(packet=5) for event in FORTH]
    flow = only([*FORTH[:5], *BACK, *late])
    assert became(flow, 1) == Became(Outcome.REACHED)


def test_of_several_packets_the_farthest_counts() -> None:
    flow = only([*FORTH[:2], *FORTH])
    assert flow.way is flow.forth[1]


def test_dropped_by_a_rule() -> None:
    flow = only([*FORTH[:2], matched("lb-check", "drop")])
    told = became(flow, 0.003)
    assert told is not None
    assert (told.outcome, told.loss) == (Outcome.LOST, Loss.FORTH)
    assert told.rule is not None
    assert told.rule.rule.chain == "lb-check"


def test_lost_without_a_rule_is_known_after_a_moment() -> None:
    flow = only(FORTH[:5])
    assert became(flow, 0.1) is None
    assert due(flow) == 0.504
    told = became(flow, due(flow))
    assert told is not None
    assert told.at is not None
    assert (told.outcome, told.at.place.chain) == (Outcome.LOST, "prerouting-translated")


def test_a_lost_answer() -> None:
    flow = only(FORTH + BACK[:3])
    assert became(flow, 0.1) is None
    told = became(flow, due(flow))
    assert told is not None
    assert told.at is not None
    assert (told.loss, told.at.place.chain) == (Loss.BACK, "forward-early")


def test_no_answer() -> None:
    flow = only(FORTH)
    assert became(flow, 2.9) is None
    assert became(flow, 3.0) == Became(Outcome.UNANSWERED)


def test_a_reset_is_a_refusal() -> None:
    refused = [
        event._replace(header=event.header._replace(tcp_flags=RESET))
        for event in BACK
        if event.header
    ]
    told = became(only(FORTH + refused), 1)
    assert told is not None
    assert told.outcome is Outcome.REFUSED


def test_an_icmp_error_is_a_refusal() -> None:
    """It goes to whom the packet came from as its sender saw it; that is all that is told of it."""
    error = Ends(ICMP, POD, 0, NODE, 0)
    back = Ends(ICMP, VIP, 0, CLIENT, 0)
    answer = [
        seen("prerouting-tracked", error, 2, icmp=(3, 3)),
        seen("postrouting-late", back, 2, icmp=(3, 3)),
    ]
    told = became(only(FORTH + answer), 1)
    assert told is not None
    assert told.outcome is Outcome.REFUSED


def test_only_so_many_flows_and_packets() -> None:
    """A flood must not fill the memory."""
    ports = count(1024)
    crowd = [
        seen("prerouting-early", ASKED._replace(source_port=next(ports)), number)
        for number in range(5000)
    ]
    following = followed(AIM, crowd, count=3)
    assert len(following.flows) == 3
    assert following.passed_over == 4997
    same = followed(AIM, [event for _ in range(1000) for event in FORTH])
    assert len(same.flows[0].forth) == 8
    rules = [matched("services", "continue") for _ in range(5000)]
    assert len(only([FORTH[0], *rules]).way.steps) == 200


def test_packets_of_others_are_passed_over() -> None:
    """Whoever else traces something is heard, too."""
    strangers = [
        seen("prerouting-early", ASKED._replace(destination_port=81)),
        seen("prerouting-early", ASKED._replace(protocol=17), 2),
        matched("services", "drop", 3),
        seen("forward-early", CHOSEN, 4),
    ]
    assert followed(AIM, strangers).flows == []
    aim = Aim(VIP, 80, Protocol.TCP, "10.244.1.10")
    assert followed(aim, FORTH).flows == []
