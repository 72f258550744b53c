"""What does one change cost the kernel and us, however many other Services there are?

Counted, not timed: messages of netlink, the system calls that send them, and processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest

from endpoints.names import ObjectName, Protocol
from endpoints.objects import EndpointPort, ServicePort
from endpoints.plan import ServicePlan
from modes.base import ApplyReport, Delta, ModeSettings
from modes.ipvs.kernel import Ipvs
from modes.ipvs.mode import IpvsMode
from tests.bench.instruments import Stopwatch, count_children
from tests.kernel.ipvs.programs import said
from tests.unit.endpoints import build
from tests.unit.modes.ipvs.fake import no_rules

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = msgspec.structs.replace(build.NODE_A, holds_addresses=True)
FEW, MANY = 5, 200
CHANGED = 3
"""The Service that changes; any would do."""
PODS = ("10.244.2.1", "10.244.2.2", "10.244.2.3")
SPARE = "10.244.2.9"
DRAIN_SECONDS = 60

children = Stopwatch()


class Cost(NamedTuple):
    """What was needed."""

    messages: int
    sends: int
    processes: int = 0


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """A mode on the real kernel, and the costs of what it is told."""

    def __init__(self, services: int, protocol: Protocol) -> None:
        self.protocol = protocol
        self.clock = Clock()
        self.mode = IpvsMode(ModeSettings(), lambda *_, **__: None, self.clock)
        self.mode._rules = no_rules()  # no change touches them, and iptables takes seconds here
        self.mode.start(NODE)
        self.mode.replace({name(n): (self.plan(n, PODS),) for n in range(services)})

    def plan(self, number: int, pods: Sequence[str]) -> ServicePlan:
        """Of a Service with these endpoints, all on another node."""
        called = f"service-{number}"
        ports = [ServicePort(port=80, name="web", protocol=self.protocol)]
        target = [EndpointPort(name="web", protocol=self.protocol, port=8080)]
        endpoints = [build.endpoint(pod) for pod in pods]
        address = f"10.96.{number // 256}.{number % 256}"
        return build.planned(
            build.service(called, cluster_ips=[address], ports=ports),
            build.endpoint_slice(*endpoints, name=f"{called}-1", of=called, ports=target),
            node=NODE,
        )

    def becomes(self, number: int, pods: Sequence[str]) -> Cost:
        """The Service has now these endpoints."""
        before = self._spent()
        report = self.mode.apply(Delta({name(number): (self.plan(number, pods),)}))
        return self._since(before, report)

    def goes(self, number: int) -> Cost:
        """The Service is gone."""
        before = self._spent()
        report = self.mode.apply(Delta({}, frozenset([name(number)])))
        return self._since(before, report)

    def tend(self) -> Cost:
        """Time has passed."""
        before = self._spent()
        self.mode.tend()
        return self._since(before, ApplyReport())

    def _spent(self) -> Cost:
        machine = self.mode._machine
        sends = machine.ipvs.sends + machine.ipset.sends + machine.link.sends
        return Cost(self.mode.messages, sends, children.counts["child processes"])

    def _since(self, before: Cost, report: ApplyReport) -> Cost:
        assert report.failed == {}
        spent = Cost(*(now - then for now, then in zip(self._spent(), before, strict=True)))
        assert report.messages in (0, spent.messages), "the report says something else"
        return spent


def name(number: int) -> ObjectName:
    return ObjectName("shop", f"service-{number}")


@pytest.fixture(scope="module", autouse=True)
def _count_children() -> None:
    count_children(children)
    said("true")
    assert children.counts["child processes"] == 1, "processes are not counted"


@pytest.fixture(params=[FEW, MANY], ids=["few Services", "many Services"])
def services(request: pytest.FixtureRequest) -> int:
    """How many there are."""
    count = request.param
    assert isinstance(count, int)
    return count


@pytest.fixture
def over_tcp(ipvs: Ipvs, services: int) -> Iterator[Counted]:
    """So many Services, each with three endpoints."""
    yield from _counted(ipvs, services, TCP)


@pytest.fixture
def over_udp(ipvs: Ipvs, services: int) -> Iterator[Counted]:
    """The same over UDP."""
    yield from _counted(ipvs, services, UDP)


def _counted(ipvs: Ipvs, services: int, protocol: Protocol) -> Iterator[Counted]:
    counted = Counted(services, protocol)
    assert len(ipvs.servers()) == services
    yield counted
    assert not counted.mode.verify()
    counted.mode.close()


def test_a_change_over_tcp(over_tcp: Counted) -> None:
    of = over_tcp
    assert of.becomes(CHANGED, [*PODS, SPARE]) == Cost(1, 1), "a real server more"
    assert of.becomes(CHANGED, PODS) == Cost(2, 2), "its deadline, and no weight"
    assert of.becomes(CHANGED, [*PODS, SPARE]) == Cost(2, 2), "its weight, and no deadline"
    assert of.becomes(CHANGED, [*PODS[1:], SPARE]) == Cost(2, 2), "another one drains"
    assert of.becomes(CHANGED, PODS) == Cost(4, 3), "one comes back, the other drains"
    assert of.becomes(CHANGED, PODS) == Cost(0, 0), "nothing changes"


def test_a_change_over_udp(over_udp: Counted) -> None:
    of = over_udp
    assert of.becomes(CHANGED, [*PODS, SPARE]) == Cost(1, 1), "a real server more"
    assert of.becomes(CHANGED, PODS) == Cost(1, 1), "a real server less"
    assert of.becomes(CHANGED, [*PODS[1:], SPARE]) == Cost(2, 1), "one for another"
    assert of.becomes(CHANGED, [*PODS[1:], SPARE]) == Cost(0, 0), "nothing changes"
    assert of.tend() == Cost(0, 0), "nothing drains"


def test_the_first_and_the_last_endpoint(over_tcp: Counted) -> None:
    of = over_tcp
    # Three deadlines and weights; and it is refused from now on.
    assert of.becomes(CHANGED, []) == Cost(7, 2)
    # It is let in, weights and deadlines; and it is refused no more.
    assert of.becomes(CHANGED, PODS) == Cost(8, 3)


def test_a_service_comes_and_goes(over_tcp: Counted, services: int) -> None:
    of = over_tcp
    # Its two elements and that of its address; the virtual server; three real ones, once it is
    # known to be ours; the address.
    assert of.becomes(services, PODS) == Cost(8, 4)
    # The virtual server takes the real ones along.
    assert of.goes(services) == Cost(5, 3)


def test_who_drains_is_asked_for_alone(over_tcp: Counted) -> None:
    of = over_tcp
    assert of.tend() == Cost(0, 0), "nothing drains"
    of.becomes(CHANGED, PODS[1:])
    # One question; nobody uses it: the real server, and its deadline.
    assert of.tend() == Cost(3, 3)
    of.clock.now += DRAIN_SECONDS
    assert of.tend() == Cost(0, 0), "nothing drains any more"
