"""What becomes of the connections of an endpoint that is gone? They live on, until a deadline."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator

import pytest

from endpoints.names import Protocol
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import Connection, Outcome, Target
from tests.packets import ipvs

TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
NODE, SENDER = "node-a", "client"
NODE_PORT = 30080
VIPS = ("10.96.7.7", "fd00:10:96::7")
BALANCER = ("198.51.100.20", "2001:db8:198::20")
PORTS = [Port(80, one.lower(), one) for one in (TCP, UDP, SCTP)]
STAYS, GOES = "pod-a1", "pod-b1"
LONG = "--ipvs-drain-seconds=600"
SHORT_SECONDS = 5
NEW = 12
"""Connections by which a test finds out who is served: round robin leaves nobody out."""

FAMILIES = (0, 1)
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])
STREAMS = pytest.mark.parametrize("protocol", [TCP, SCTP])


@pytest.fixture(scope="module")
def built() -> Iterator[Lab]:
    """A headgate that lets endpoints drain for ten minutes."""
    with Lab() as lab:
        lab.apply(*nodes(), service("shop/pay", VIPS, PORTS, ingress=BALANCER))
        lab.start_headgate(NODE, LONG, mode="ipvs")
        yield lab


@pytest.fixture
def lab(built: Lab) -> Lab:
    """A Service with two endpoints."""
    becomes(built, STAYS, GOES)
    return built


def send_to(lab: Lab, *pods: str) -> None:
    """Let the Service have these endpoints, and no others."""
    lab.apply(*slices("shop/pay", PORTS, [Endpoint.of(lab.pods[pod]) for pod in pods]))


def becomes(lab: Lab, *pods: str) -> None:
    """As above, and wait until the kernel knows."""
    send_to(lab, *pods)
    lab.wait_synced()


@contextlib.contextmanager
def held_by(lab: Lab, pod: str, family: int, protocol: Protocol = TCP) -> Iterator[Connection]:
    """A connection that this pod answers."""
    with contextlib.ExitStack() as closing:
        for _ in range(NEW):
            one = lab.hold(SENDER, Target(BALANCER[family], 80, protocol))
            closing.callback(one.close)
            if one.ask().by == pod:
                yield one
                return
        pytest.fail(f"{pod} answers none of {NEW} connections")


def served_by(lab: Lab, family: int, protocol: Protocol = TCP) -> set[str | None]:
    """Who answers new connections."""
    answers = lab.connect_many(SENDER, BALANCER[family], 80, protocol, count=NEW)
    return {answer.by for answer in answers}


def weights(lab: Lab, family: int, protocol: Protocol = TCP) -> dict[str, int]:
    """The weight of each pod's real server, by its name."""
    place = ("{}:80", "[{}]:80")[family].format(BALANCER[family])
    kind = {TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}[protocol]
    pods = {pod.addresses[family]: name for name, pod in lab.pods.items()}
    held = ipvs.servers(lab, NODE).get(f"{kind} {place}")
    if held is None:
        return {}
    return {pods[real.rpartition(":")[0].strip("[]")]: w for real, w in held.weights.items()}


def seconds_left(lab: Lab, family: int) -> dict[str, int]:
    """Until each real server that drains will be removed, by its element's text; of TCP.

    At the address that the client uses: the Service has others, whose real servers are idle.
    """
    name = ("KUBE-DRAINING", "KUBE-6-DRAINING")[family]
    found = {}
    for line in ipvs.members(lab, NODE, name):
        element, left = line.split(" timeout ")
        if element.startswith(f"{BALANCER[family]},tcp:"):
            found[element] = int(re.split(r"\s", left)[0])
    return found


@BOTH
@STREAMS
def test_a_held_connection_lives_on_and_no_new_one_comes(
    lab: Lab, family: int, protocol: Protocol
) -> None:
    with held_by(lab, GOES, family, protocol) as held:
        becomes(lab, STAYS)
        assert weights(lab, family, protocol) == {STAYS: 1, GOES: 0}
        assert served_by(lab, family, protocol) == {STAYS}
        assert held.ask().by == GOES
        # It returns, and takes new connections again.
        becomes(lab, STAYS, GOES)
        assert weights(lab, family, protocol) == {STAYS: 1, GOES: 1}
        assert held.ask().by == GOES
        assert served_by(lab, family, protocol) == {STAYS, GOES}
        assert held.ask().by == GOES
        assert not seconds_left(lab, family)


@BOTH
def test_the_last_endpoint_drains_while_new_connections_are_refused(lab: Lab, family: int) -> None:
    with held_by(lab, GOES, family) as held:
        becomes(lab)
        answers = lab.connect_many(SENDER, BALANCER[family], 80, count=3)
        assert {answer.kind for answer in answers} == {Outcome.REFUSED}
        assert held.ask().by == GOES
        becomes(lab, STAYS)
        assert served_by(lab, family) == {STAYS}
        assert held.ask().by == GOES


@BOTH
def test_a_datagram_goes_elsewhere_at_once(lab: Lab, family: int) -> None:
    """The socket stays the same, so its port does: nothing but the kernel moves the flow."""
    with held_by(lab, GOES, family, UDP) as held:
        becomes(lab, STAYS)
        assert weights(lab, family, UDP) == {STAYS: 1}
        answer = held.ask()
        assert answer.by == STAYS, str(answer)


@contextlib.contextmanager
def held_in_both(lab: Lab, pod: str) -> Iterator[list[Connection]]:
    """A connection that this pod answers, in each family."""
    with held_by(lab, pod, 0) as ipv4, held_by(lab, pod, 1) as ipv6:
        yield [ipv4, ipv6]


def assert_answers(held: list[Connection], pod: str) -> None:
    assert [str(one.ask().by) for one in held] == [pod] * 2


def assert_weights(lab: Lab, expected: dict[str, int]) -> None:
    assert [weights(lab, family) for family in FAMILIES] == [expected] * 2


def await_weights(lab: Lab, family: int, expected: dict[str, int]) -> None:
    ipvs.until(lab, NODE, lambda: weights(lab, family) == expected)


def test_a_restart_forgets_no_deadline(lab: Lab) -> None:
    with held_in_both(lab, GOES) as held:
        becomes(lab, STAYS)
        before = [seconds_left(lab, family) for family in FAMILIES]
        assert all(len(left) == 1 and 0 < min(left.values()) <= 600 for left in before)
        for number in (signal.SIGKILL, signal.SIGTERM):
            lab.stop_headgate(NODE, number)
            assert_weights(lab, {STAYS: 1, GOES: 0})
            lab.start_headgate(NODE, LONG, mode="ipvs")
            lab.wait_synced()
            assert_weights(lab, {STAYS: 1, GOES: 0})
            # What is left only becomes less, and the restart took a second at least.
            after = [seconds_left(lab, family) for family in FAMILIES]
            assert [left.keys() for left in after] == [left.keys() for left in before]
            for old, new in zip(before, after, strict=True):
                assert max(new.values()) < min(old.values())
            before = after
        assert_answers(held, GOES)
        assert [served_by(lab, family) for family in FAMILIES] == [{STAYS}] * 2


def test_who_goes_while_nobody_looks_drains_too(lab: Lab) -> None:
    with held_in_both(lab, GOES) as held:
        lab.stop_headgate(NODE, signal.SIGKILL)
        send_to(lab, STAYS)
        lab.start_headgate(NODE, LONG, mode="ipvs")
        lab.wait_synced()
        assert_weights(lab, {STAYS: 1, GOES: 0})
        assert [served_by(lab, family) for family in FAMILIES] == [{STAYS}] * 2
        assert_answers(held, GOES)


def test_who_is_idle_is_not_kept(lab: Lab) -> None:
    """A connection that was reset counts for ten seconds more; the deadline is far."""
    with held_in_both(lab, GOES):
        becomes(lab, STAYS)
        assert_weights(lab, {STAYS: 1, GOES: 0})
    for family in FAMILIES:
        await_weights(lab, family, {STAYS: 1})
        assert not seconds_left(lab, family)


def test_the_deadline_ends_what_is_held(lab: Lab) -> None:
    lab.stop_headgate(NODE)
    lab.start_headgate(NODE, f"--ipvs-drain-seconds={SHORT_SECONDS}", mode="ipvs")
    lab.wait_synced()
    with held_in_both(lab, GOES) as held:
        becomes(lab, STAYS)
        assert_answers(held, GOES)
        for family in FAMILIES:
            await_weights(lab, family, {STAYS: 1})
            assert held[family].ask().kind is not Outcome.ANSWERED
            assert not seconds_left(lab, family)
