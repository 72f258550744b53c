"""Does every connection succeed, and reach its Service, while everything is replaced?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, SERVING, Turmoil, Verdicts

CONNECTIONS = 10_000

FEWEST_TURNS = 30
"""A change takes a few milliseconds in nftables mode, in iptables mode twenty."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as built:
        furnish(built)
        yield built


def test_no_connection_fails_while_everything_is_replaced(lab: Lab, mode: str) -> None:
    replacing = Turmoil(lab, seed=1)
    daemon = lab.start_headgate(NODE, mode=mode)
    lab.wait_synced()
    with lab.load(*turmoil.flows()) as load:
        verdicts = Verdicts(load, forgets_datagrams=mode == "ipvs")
        while verdicts.look() and (verdicts.count < CONNECTIONS or replacing.turns <= FEWEST_TURNS):
            known = len(daemon.lines)
            replacing.turn()
            # No pause: the next change is made as soon as the kernel has taken one.
            daemon.wait_for(lambda line: line.is_synced, since=known)
    assert lab.stop_headgate(NODE) == 0
    verdicts.look()
    assert not verdicts.wrong
    assert verdicts.count >= CONNECTIONS
    assert verdicts.loses_few, verdicts.lost
    # The changes did reach the kernel: everybody had their turn.
    assert verdicts.reached == set(SERVING)
