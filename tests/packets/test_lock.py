"""Is a change late, and not lost, while another program holds the lock of iptables?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from modes.xtables.kernel import LOCK_ROUND_SECONDS
from tests.kernel.iptables.others import holder
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.packets.figures import metric

NODE, SENDER = "node-a", "pod-a2"
LOCK = Path("/run/xtables.lock")
HELD_SECONDS = 10
PORTS = [Port(80)]
PAY, LATE = ("10.96.7.7", "fd00:10:96::7"), ("10.96.7.8", "fd00:10:96::8")
METRIC = "headgate_xtables_lock_wait_seconds_total"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        built.apply(*nodes())
        yield built


def send_to(lab: Lab, name: str, vips: tuple[str, str], pod: str) -> None:
    """Let a Service have one endpoint."""
    endpoints = [Endpoint.of(lab.pods[pod])]
    lab.apply(service(name, vips, PORTS), *slices(name, PORTS, endpoints))


def answered_by(lab: Lab, vips: tuple[str, str]) -> list[str | None]:
    """Who answers now, in IPv4 and in IPv6."""
    return [lab.connect(SENDER, vip, 80).by for vip in vips]


def test_a_change_waits_for_the_lock_and_is_not_lost(lab: Lab) -> None:
    send_to(lab, "shop/pay", PAY, "pod-a1")
    daemon = lab.start_headgate(NODE, mode="iptables-legacy")
    lab.wait_synced()
    assert answered_by(lab, PAY) == ["pod-a1"] * 2
    assert metric(lab, NODE, METRIC) == 0
    since = len(daemon.lines)
    with holder(LOCK, HELD_SECONDS) as other:
        send_to(lab, "shop/pay", PAY, "pod-b1")
        waiting = daemon.wait_for(lambda line: "Waiting for the xtables lock" in line.text, since)
        told = re.search(rf'holder="\S+ \(pid {other.pid}\)" seconds=([\d.]+)', waiting.text)
        assert told is not None, waiting.text
        assert float(told[1]) == pytest.approx(LOCK_ROUND_SECONDS, abs=2)
        send_to(lab, "shop/late", LATE, "pod-c1")
        # The rules of before are in force, and figures are told, while headgate waits.
        assert answered_by(lab, PAY) == ["pod-a1"] * 2
        assert metric(lab, NODE, METRIC) == 0
        assert other.poll() is None
        synced = daemon.wait_for(lambda line: line.is_synced, since)
        assert other.wait(5) == 0
    lock_wait = re.search(r" lock_wait=(\d+)ms", synced.text)
    assert lock_wait is not None, synced.text
    assert int(lock_wait[1]) / 1000 == pytest.approx(HELD_SECONDS, abs=2)
    lab.wait_synced()
    assert answered_by(lab, PAY) == ["pod-b1"] * 2
    assert answered_by(lab, LATE) == ["pod-c1"] * 2
    assert metric(lab, NODE, METRIC) == pytest.approx(HELD_SECONDS, abs=2)
    assert not [line.text for line in daemon.lines if "Sync failed" in line.text]
