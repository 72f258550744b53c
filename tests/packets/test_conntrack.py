"""Does a client of UDP that never pauses follow its Service, and is everybody else left alone?

It sends from one port for ever, so that to the kernel all of it is one flow, whose first packet
decided where the rest goes.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from endpoints.names import Protocol
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, service, slices
from tests.lab.probes import Answer, Connection, Outcome, Target
from tests.lab.topology import node_named
from tests.packets.telling import furnish

NODE, OTHER_NODE = "node-a", "node-b"
POD, OUTSIDE = "pod-a1", "client"
SERVICE, NODE_PORT = "shop/dns", 30053
VIPS = ("10.96.7.7", "fd00:10:96::7")
FIRST, SECOND = "pod-b1", "pod-c1"

USUAL_SECONDS = 3.0
"""From a change being saved to the answer that shows it: of several changes, the median. A tenth of
what a flow lives that nobody forgets; on a machine that is busy with other tests."""
PATIENCE_SECONDS = 10.0
"""For one change, on a machine that is busy with other tests."""
CHANGES = 5
GLANCE_SECONDS = 0.05


def ports(target: int = 8080) -> list[Port]:
    """One of UDP, at which endpoints listen on `target`."""
    return [Port(53, "dns", Protocol.UDP, NODE_PORT, target)]


class World:
    """The Service, as it is saved."""

    def __init__(self, lab: Lab) -> None:
        """Nothing is saved yet."""
        self.lab = lab

    def become(self, *endpoints: str | Endpoint, target: int = 8080) -> float:
        """Have these endpoints; pods by their names are ready. Returns when it was saved."""
        listed = [
            e if isinstance(e, Endpoint) else Endpoint.of(self.lab.pods[e]) for e in endpoints
        ]
        self.lab.apply(*slices(SERVICE, ports(target), listed))
        return time.monotonic()

    def be_there(self) -> float:
        """Exist. Returns when it was saved."""
        self.lab.apply(service(SERVICE, VIPS, ports()))
        return time.monotonic()

    def be_gone(self) -> float:
        """Exist no more, nor anything of it. Returns when it was saved."""
        self.lab.delete(service(SERVICE, VIPS, ports()), *slices(SERVICE, ports(), []))
        return time.monotonic()


@pytest.fixture(scope="module")
def built(mode: str) -> Iterator[World]:
    """A headgate, and nothing that is served."""
    with Lab() as lab:
        furnish(lab)
        lab.start_headgate(NODE, mode=mode)
        yield World(lab)
        lab.stop_headgate(NODE)


@pytest.fixture
def world(built: World) -> World:
    """The Service with its first endpoint, in the kernel."""
    built.be_there()
    built.become(FIRST)
    built.lab.wait_synced()
    return built


@pytest.fixture(params=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> int:
    """Which address of a pair."""
    return ["IPv4", "IPv6"].index(str(request.param))


@pytest.fixture(params=["cluster IP", "node port"])
def sender(world: World, family: int, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A pod that uses the ClusterIP, or a client outside that uses the NodePort."""
    target = Target(VIPS[family], 53, Protocol.UDP)
    source = POD
    if request.param == "node port":
        source, target = (
            OUTSIDE,
            Target(node_named(NODE).addresses[family], NODE_PORT, Protocol.UDP),
        )
    with contextlib.closing(world.lab.hold(source, target)) as held:
        assert held.ask().by == FIRST
        yield held


def follows(sender: Connection, since: float, fate: str | Outcome) -> float:
    """It is answered by that pod, or has that outcome, and keeps to it. Returns how late."""

    def as_wanted(answer: Answer) -> bool:
        return fate in (answer.by, answer.kind)

    _until(sender, since, as_wanted)
    late = time.monotonic() - since
    while sender.hear(0).kind is not Outcome.TIMEOUT:
        pass  # what was on its way before
    for _ in range(3):
        answer = sender.ask()
        # A router looks for a neighbour for seconds before it says that there is none.
        assert as_wanted(answer) or answer.kind is Outcome.UNREACHABLE, answer
    return late


def _until(sender: Connection, since: float, wanted: Callable[[Answer], bool]) -> None:
    while not wanted(answer := sender.ask(GLANCE_SECONDS)):
        late = time.monotonic() - since
        assert late < PATIENCE_SECONDS, f"after {late:.2f} s still {answer}"


def gone(answer: Answer) -> bool:
    return answer.kind is not Outcome.ANSWERED


def test_an_endpoint_is_replaced(world: World, sender: Connection) -> None:
    pods = [(FIRST, SECOND)[n % 2 == 0] for n in range(CHANGES)]
    late = [follows(sender, world.become(pod), pod) for pod in pods]
    assert median(late) < USUAL_SECONDS


def test_an_endpoint_of_two_is_gone(world: World, sender: Connection) -> None:
    world.become(FIRST, SECOND)
    world.lab.wait_synced()
    assert sender.ask().by == FIRST  # one more is no reason to leave
    follows(sender, world.become(SECOND), SECOND)


def test_an_endpoint_is_not_ready(world: World, sender: Connection, mode: str) -> None:
    pods = world.lab.pods
    leaving = Endpoint.leaving(pods[FIRST])
    world.become(leaving, SECOND)
    world.lab.wait_synced()
    if mode != "ipvs":  # which forgets datagrams with the real server: docs/ipvs.md
        assert sender.ask().by == FIRST  # it terminates, and serves on
    broken = Endpoint.of(pods[FIRST], ready=False, serving=False)
    follows(sender, world.become(broken, SECOND), SECOND)


def test_the_target_port_changes(world: World, sender: Connection) -> None:
    follows(sender, world.become(FIRST, target=8081), f"{FIRST}:8081")


def test_no_endpoint_is_left_and_then_there_is_one(world: World, sender: Connection) -> None:
    follows(sender, world.become(), Outcome.REFUSED)
    follows(sender, world.become(SECOND), SECOND)


def test_a_service_is_deleted_and_made_anew(world: World, sender: Connection) -> None:
    """Meanwhile its packets went untranslated, and conntrack remembers that as well."""
    _until(sender, world.be_gone(), gone)
    for _ in range(3):
        assert gone(sender.ask(GLANCE_SECONDS))
    world.become(SECOND)
    follows(sender, world.be_there(), SECOND)


def identities(lab: Lab, address: str, port: int) -> set[str]:
    """The ids of the flows of UDP through the node that were sent there."""
    listed = ["conntrack", "-L", "-p", "udp", "-f", "ipv6" if ":" in address else "ipv4"]
    said = lab.exec(NODE, [*listed, "-d", address, "--dport", str(port), "-o", "id"])
    return set(re.findall(r" id=(\d+)", said))


def test_flows_of_others_stay(world: World, sender: Connection, family: int) -> None:
    """To the same port of another node, and to an endpoint itself."""
    lab = world.lab
    with contextlib.ExitStack() as held:
        lab.serve(OTHER_NODE, [NODE_PORT], called="stranger")
        held.callback(lab.stop_serving, "stranger")
        node = node_named(OTHER_NODE).addresses[family]
        pod = lab.pods[FIRST].addresses[family]
        places = [(node, NODE_PORT), (pod, 8080)]
        for address, port in places:
            flow = lab.hold(POD, Target(address, port, Protocol.UDP))
            held.callback(flow.close)
        before = [identities(lab, *place) for place in places]
        assert all(before)
        follows(sender, world.become(SECOND), SECOND)
        follows(sender, world.become(), Outcome.REFUSED)
        world.be_gone()
        lab.wait_synced()
        assert [
            identities(lab, *place) & of for place, of in zip(places, before, strict=True)
        ] == before


def test_a_restart_forgets_what_became_a_lie_meanwhile_and_nothing_else(
    world: World, sender: Connection, family: int, mode: str
) -> None:
    place = (VIPS[family], 53)
    before = identities(world.lab, *place)
    for fate in (FIRST, SECOND):
        world.lab.stop_headgate(NODE, signal.SIGKILL)
        world.become(fate)
        world.lab.start_headgate(NODE, mode=mode)
        world.lab.wait_synced()
        if fate == FIRST:
            assert identities(world.lab, *place) >= before
        follows(sender, time.monotonic(), fate)
