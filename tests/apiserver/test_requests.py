"""Are requests counted, and are there no more of them than the operator allows?"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

import msgspec
import pytest

from endpoints.objects import Kind
from proxy.sources.api import ApiSource
from proxy.sources.connection import Connection, Failed, Patience
from proxy.sources.kubeconfig import checked
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import PATHS, Follower, config, service
from tests.apiserver.test_outages import EAGER, PROMPT_SECONDS, relay
from tests.apiserver.wire import Fault, Wire

__all__ = ["relay"]


class Counts:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.seconds: list[float] = []

    def answered(self, method: str, code: str, host: str, seconds: float) -> None:
        self.told.append((method, code, host))
        self.seconds.append(seconds)


def test_each_request_is_told_once(fake: FakeApiServer, relay: Wire) -> None:
    fake.create(service("pay"))
    relay.interpose(Fault(status=503), lambda r: r.path.endswith("services"))
    counts = Counts()
    with Follower(ApiSource(config(relay.url), EAGER, counts)) as follower:
        follower.agrees(fake)
    host = urlsplit(relay.url).netloc
    assert sorted(counts.told) == [("GET", "200", host)] * len(Kind) + [("GET", "503", host)]
    assert all(0 < seconds < PROMPT_SECONDS for seconds in counts.seconds)


def test_no_answer_has_a_code_too() -> None:
    counts = Counts()
    asked = config("http://127.0.0.1:1")
    connection = Connection(asked, checked(asked), Patience(), counts)
    with pytest.raises(Failed, match="connection refused"):
        connection.get("/x", {})
    assert counts.told == [("GET", "<error>", "127.0.0.1:1")]


def test_requests_wait_for_their_turn(fake: FakeApiServer) -> None:
    asked = msgspec.structs.replace(config(fake.url), qps=20.0, burst=2)
    connection = Connection(asked, checked(asked), Patience())
    began = time.monotonic()
    for _ in range(6):
        connection.get(PATHS[Kind.NODE], {})
    assert time.monotonic() - began >= 4 / 20
    connection.close()


def test_who_waits_for_a_turn_does_not_hold_up_the_end(fake: FakeApiServer) -> None:
    asked = msgspec.structs.replace(config(fake.url), qps=0.001, burst=1)
    connection = Connection(asked, checked(asked), Patience())
    connection.get(PATHS[Kind.NODE], {})
    refused: list[Failed] = []

    def ask() -> None:
        try:
            connection.get(PATHS[Kind.NODE], {})
        except Failed as error:
            refused.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    connection.close()
    thread.join(PROMPT_SECONDS)
    assert not thread.is_alive()
    assert len(refused) == 1
