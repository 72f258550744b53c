"""Does every connection succeed while the API server dies or lies, and headgate too?

A headgate that follows an API server, under traffic, while pods change all the time. Which rules a
connection met is no matter here: every pod that ever was an endpoint goes on to serve. What must not
be is a connection that fails, or that a pod of the other Service answers.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from proxy.sources.watch import BASE_SECONDS, CAP_SECONDS
from tests.lab.api import ApiServer
from tests.lab.daemons import Daemon, Line
from tests.lab.lab import Lab
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, SERVING, Turmoil, Verdicts

HEALTHZ_PORT = 10256
BACK_ENDS = ("nftables", "iptables-nft")

DEAD_SECONDS = 3.0
DEATHS = 12
MOST_CONNECTIONS = 800
"""Until the next death: a third of a second, or more where the machine is slow."""
PROMPTLY_SECONDS = 2.0


@pytest.fixture(scope="module", params=BACK_ENDS)
def back_end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(back_end: str) -> Iterator[Lab]:  # noqa: ARG001 (one for each: rules outlive their headgate)
    with Lab() as built:
        yield built


@pytest.fixture(scope="module")
def api(lab: Lab) -> ApiServer:
    served = lab.serve_api()
    furnish(lab)
    return served


def test_a_dead_api_server_takes_no_service_away(lab: Lab, api: ApiServer, back_end: str) -> None:
    daemon = lab.start_headgate(NODE, mode=back_end)
    replacing = Turmoil(lab, seed=3)
    lab.wait_synced()
    with lab.load(*turmoil.flows()) as load:
        verdicts = Verdicts(load)
        with replacing.all_the_time():
            dead = _kill(api, daemon)
            load.go_on(DEAD_SECONDS)
        replacing.settle(SERVING[:1])
        seconds = _back(lab, api)
        assert seconds < _longest_pause(time.monotonic() - dead) + PROMPTLY_SECONDS
    assert verdicts.look(), verdicts.wrong
    assert verdicts.loses_few, verdicts.lost
    assert turmoil.reached(lab) == set(SERVING[:1])
    assert lab.stop_headgate(NODE) == 0


def test_a_headgate_that_is_new_keeps_the_rules_while_it_waits_for_an_api_server(
    lab: Lab, api: ApiServer, back_end: str
) -> None:
    lab.start_headgate(NODE, mode=back_end)
    replacing = Turmoil(lab, seed=7)
    replacing.settle(SERVING[:2])
    lab.wait_synced()
    lab.wait_healthy(NODE)
    api.kill()
    assert lab.stop_headgate(NODE, signal.SIGKILL) == -signal.SIGKILL
    daemon = lab.start_headgate(NODE, mode=back_end)
    daemon.wait_for(_says("API server does not serve us"))
    replacing.settle(SERVING[:1])
    assert turmoil.reached(lab) == set(SERVING[:2])
    status, body = lab.get(NODE, HEALTHZ_PORT, "/healthz")
    assert status == HTTPStatus.SERVICE_UNAVAILABLE
    assert b"the first sync is not done yet" in body
    assert lab.get(NODE, HEALTHZ_PORT, "/livez")[0] == HTTPStatus.OK  # a restart would not help
    _back(lab, api)
    lab.wait_healthy(NODE)
    assert turmoil.reached(lab) == set(SERVING[:1])
    assert lab.stop_headgate(NODE) == 0


def test_headgate_may_die_at_any_moment(lab: Lab, api: ApiServer, back_end: str) -> None:
    """By SIGTERM or kill -9, while pods change, and the API server dies or cuts its watches."""
    chance = random.Random(back_end)
    replacing = Turmoil(lab, seed=4)
    daemon = lab.start_headgate(NODE, mode=back_end)
    lab.wait_synced()
    with lab.load(*turmoil.flows()) as load:
        verdicts = Verdicts(load)
        with replacing.all_the_time():
            for _ in range(DEATHS):
                chance.choice([api.cut, api.compact, api.kill if api.is_alive else api.start])()
                if api.is_alive and chance.random() < 0.5:
                    daemon.wait_for(lambda line: line.is_synced)
                load.wait_for(chance.randrange(MOST_CONNECTIONS))
                number = chance.choice([signal.SIGTERM, signal.SIGKILL])
                status = lab.stop_headgate(NODE, number)
                assert status == -number or (number, status) == (signal.SIGTERM, 0)
                load.wait_for(chance.randrange(1, 50))
                daemon = lab.start_headgate(NODE, mode=back_end)
                assert verdicts.look(), verdicts.wrong
            if not api.is_alive:
                api.start()
        replacing.settle(SERVING[:1])
        lab.wait_synced()
    assert verdicts.look(), verdicts.wrong
    assert verdicts.loses_few, verdicts.lost
    assert verdicts.reached == set(SERVING)
    assert turmoil.reached(lab) == set(SERVING[:1])
    lab.stop_headgate(NODE)


def _kill(api: ApiServer, daemon: Daemon) -> float:
    """Kill the API server; the moment when headgate has noticed."""
    known = len(daemon.lines)
    api.kill()
    return daemon.wait_for(_says("API server does not serve us"), since=known).seconds


def _back(lab: Lab, api: ApiServer) -> float:
    """Let the API server serve again; the seconds until headgate has caught up."""
    api.start()
    began = time.monotonic()
    lab.wait_synced()
    return time.monotonic() - began


def _longest_pause(dead_seconds: float) -> float:
    """How long a client may wait at most that has met a dead server for so long.

    Pauses double. The shortest, each half of its ceiling, sum up to half of the next ceiling.
    """
    return min(CAP_SECONDS, 2 * dead_seconds + BASE_SECONDS)


def _says(words: str) -> Callable[[Line], bool]:
    return lambda line: words in line.text
