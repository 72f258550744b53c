"""Does every connection succeed while headgate is killed and started again and again?"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.lab.daemons import Daemon
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, service, session_affinity, slices
from tests.lab.probes import Outcome
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, SENDER, SERVING, Turmoil, Verdicts
from tests.scenarios.places import PODS

RESTARTS, RESTARTS_OF_IPVS = 20, 3
"""Fewer where a start takes many seconds, in a kernel within a kernel."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as built:
        furnish(built)
        yield built


def test_no_connection_fails_while_headgate_is_killed_and_restarted(lab: Lab, mode: str) -> None:
    replacing = Turmoil(lab, seed=2)
    daemon = lab.start_headgate(NODE, mode=mode)
    lab.wait_synced()
    with lab.load(*turmoil.flows()) as load:
        verdicts = Verdicts(load, forgets_datagrams=mode == "ipvs")
        for number in range(RESTARTS_OF_IPVS if mode == "ipvs" else RESTARTS):
            _interrupt(daemon, replacing, number)
            assert lab.stop_headgate(NODE, signal.SIGKILL) == -signal.SIGKILL
            load.wait_for(50)  # with nobody there
            replacing.turn()
            daemon = lab.start_headgate(NODE, mode=mode)
            assert verdicts.look(), verdicts.wrong
        lab.wait_synced()
        replacing.settle(SERVING[:1])
        lab.wait_synced()
    assert verdicts.look(), verdicts.wrong
    assert verdicts.reached == set(SERVING)
    assert verdicts.loses_few, verdicts.lost
    assert turmoil.reached(lab) == set(SERVING[:1])
    lab.stop_headgate(NODE)


def _interrupt(daemon: Daemon, replacing: Turmoil, number: int) -> None:
    """Return when headgate is in a state in which nobody would choose to kill it."""
    if number % 3 == 0:
        daemon.wait_for_news(0, timeout=1)  # it has just begun
        return
    daemon.wait_for(lambda line: line.is_synced)
    if number % 3 == 1:
        replacing.turn()  # it has just been told of a change


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_restart_forgets_no_client(lab: Lab, mode: str, family: int) -> None:
    """REFERENCE A.2, affinity: restarting must not flush the memory."""
    vips = ("10.96.0.3", "fd00:10:96::3")
    ports = [Port(80)]
    sticky = service("shop/sticky", vips, ports, spec=session_affinity(10800))
    everybody = [Endpoint(PODS[name].pair, PODS[name].node) for name in SERVING]
    lab.apply(sticky, *slices("shop/sticky", ports, everybody))
    chosen = set()
    for _ in range(3):
        lab.start_headgate(NODE, mode=mode)
        lab.wait_synced()
        answers = lab.connect_many(SENDER, vips[family], 80, count=20)
        assert {answer.kind for answer in answers} == {Outcome.ANSWERED}
        chosen |= {answer.by for answer in answers}
        assert lab.stop_headgate(NODE, signal.SIGKILL) == -signal.SIGKILL
    assert len(chosen) == 1
