"""Are the right things said of the right objects?"""

from __future__ import annotations

import pytest

from endpoints.events import Problem
from endpoints.names import ObjectName
from modes.base import ApplyReport, Foreign
from proxy.events.recorder import EventType, Reference
from proxy.events.reporting import Reporting, reference
from proxy.observer import Repair

PAY = ObjectName("shop", "pay")
NFT = Foreign("table ip headgate deleted", "nft", 3122)


class Book:
    """A recorder that writes one line an event."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def record(self, about: Reference, type: EventType, reason: str, message: str) -> None:  # noqa: A002 (a Recorder's)
        name = "/".join(part for part in (about.namespace, about.name) if part)
        self.lines.append(f"{type} {about.kind} {name}: {reason}: {message}")


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def reporting(book: Book) -> Reporting:
    return Reporting(book, "node-a")


def test_what_is_wrong_with_an_object_is_said_of_it(reporting: Reporting, book: Book) -> None:
    reporting.skipped(Problem("Service shop/pay", "spec.ports[0].port", "70000", "must be 1-65535"))
    reporting.skipped(Problem("EndpointSlice shop/pay-1", "", "", "cannot be read"))
    reporting.skipped(Problem("Node node-a", "status", "", "cannot be read"))
    reporting.refused(PAY, "too many endpoints")
    reporting.health_port_failed(PAY, 30500, "Address already in use")
    assert book.lines == [
        "Warning Service shop/pay: Skipped: spec.ports[0].port: 70000: must be 1-65535",
        "Warning EndpointSlice shop/pay-1: Skipped: cannot be read",
        "Warning Node node-a: Skipped: status: cannot be read",
        "Warning Service shop/pay: NotProgrammed: too many endpoints",
        (
            "Warning Service shop/pay: FailedToStartServiceHealthcheck:"
            " healthCheckNodePort 30500: Address already in use"
        ),
    ]


def test_what_is_wrong_with_a_file_is_said_of_nothing(reporting: Reporting, book: Book) -> None:
    reporting.skipped(Problem("pay.yaml:12", "", "", "is no YAML"))
    assert book.lines == []


def test_what_the_node_goes_through_is_said_of_it(reporting: Reporting, book: Book) -> None:
    reporting.started("nftables")
    reporting.degraded("read-only sysctls")
    reporting.repaired(Repair(NFT, 0.2, ApplyReport()))
    reporting.fought(Foreign("table nat changed"), 4.0)
    assert book.lines == [
        "Normal Node node-a: Starting: headgate, mode nftables",
        "Warning Node node-a: Degraded: read-only sysctls",
        "Warning Node node-a: DriftRepaired: nft (pid 3122): table ip headgate deleted",
        (
            "Warning Node node-a: RulesContested: another program changes the rules again and"
            " again: the next repair waits for 4 s"
        ),
    ]


def test_the_version_of_an_object_is_that_of_its_kind() -> None:
    slice_ = reference("EndpointSlice shop/pay-1")
    assert slice_ == Reference("EndpointSlice", "shop", "pay-1", api_version="discovery.k8s.io/v1")
    assert reference("Service shop/pay") == Reference("Service", "shop", "pay")
    assert reference("Service") is None
