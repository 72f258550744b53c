"""Does anything that was programmed go away while the API server is gone, slow, or lies?"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from endpoints.events import Delete, Replace, Upsert
from endpoints.objects import Kind, Service
from proxy.sources.api import ApiSource, Timing
from proxy.sources.connection import Patience
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.store import Store
from tests.apiserver.story import Follower, config, endpoint_slice, named, node, service
from tests.apiserver.test_outages import Log, log, relay, zero
from tests.apiserver.wire import Fault, Request, Wire

__all__ = ["log", "relay"]
HOUR = 3600.0
EAGER = Timing(random=zero)


def a_cluster(server: FakeApiServer) -> None:
    server.store.put_all([service("pay"), service("mail"), endpoint_slice("pay"), node()])


def of_services(request: Request) -> bool:
    return request.path.endswith("services")


def losses(follower: Follower) -> list[object]:
    """What told that a Service is gone."""
    return [
        message
        for message in follower.messages
        if (isinstance(message, Delete) and message.kind is Kind.SERVICE)
        or (isinstance(message, Replace) and message.kind is Kind.SERVICE and not message.objects)
    ]


class Hour:
    """A clock that runs as fast as somebody waits for it, for an hour of each kind."""

    def __init__(self, over: Callable[[], object]) -> None:
        self._over = over
        self._local = threading.local()
        self._waiting = 0
        self._lock = threading.Lock()
        self.began = threading.Event()
        self.waits: list[float] = []
        self._back = threading.Event()

    def __call__(self) -> float:
        return getattr(self._local, "seconds", 0.0)

    def wait(self, stopped: threading.Event, seconds: float) -> bool:
        if not self.began.is_set() or self._back.is_set():
            return stopped.wait(seconds)
        self._local.seconds = self() + seconds
        with self._lock:
            self.waits.append(seconds)
            if self() >= HOUR and not getattr(self._local, "done", False):
                self._local.done = True
                self._waiting += 1
                if self._waiting == len(Kind):
                    self._over()
                    self._back.set()
        if self() >= HOUR:
            self._back.wait(20)
        return stopped.is_set()


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_server_that_is_gone_for_an_hour(
    fake: FakeApiServer, relay: Wire, log: Log, forgotten: bool
) -> None:
    a_cluster(fake)
    hour = Hour(relay.up)
    timing = Timing(clock=hour, random=zero, wait=hour.wait)
    with Follower(ApiSource(config(relay.url), timing)) as follower:
        follower.agrees(fake)
        told = len(follower.messages)
        hour.began.set()
        relay.down()
        fake.delete(Kind.SERVICE, named("mail"))
        fake.create(service("new"))
        if forgotten:
            fake.compact()
        follower.agrees(fake, seconds=60)
        if forgotten:
            follower.until(lambda: all(follower.replaced(kind) == 2 for kind in Kind))
        lines = [log.next()]
        while "serves us again" not in lines[-1]:
            lines.append(log.next())
    said = [m for m in follower.messages[told:] if isinstance(m, Upsert | Delete | Replace)]
    services = [m for m in said if not isinstance(m, Upsert) or isinstance(m.object, Service)]
    if forgotten:
        assert len(said) == len(Kind)
        assert all(isinstance(m, Replace) and m.objects for m in said)
    else:
        assert services == [Delete(Kind.SERVICE, named("mail")), said[-1]]
    # At the cap each kind waits for 15 to 30 seconds between two attempts.
    assert HOUR / 30 <= len(hour.waits) / len(Kind) <= HOUR / 14
    assert len(lines) <= 4  # a line for each reason, and one when it is over
    assert log.silent()


def test_a_server_whose_bytes_trickle(fake: FakeApiServer, relay: Wire) -> None:
    """Slow is not gone: as long as something comes, nobody gives up."""
    a_cluster(fake)
    relay.interpose(Fault(piece=1), lambda r: r.is_watch, times=3)
    patience = Patience(answer_seconds=5, watch_seconds=5)
    with Follower(ApiSource(config(relay.url), Timing(random=zero, patience=patience))) as follower:
        follower.agrees(fake)
        fake.create(service("new"))
        follower.agrees(fake)
    assert len(relay.requests) == len(Kind)


def test_json_that_ends_in_the_middle_takes_nothing_away(fake: FakeApiServer, relay: Wire) -> None:
    a_cluster(fake)
    relay.interpose(Fault(alter=lambda part: part[:-20] + b"\n"), of_services)
    relay.pages_only = True
    half = b'{"kind":"ServiceList","metadata":{"resourceVersion":"9"},"items":[{"metad'
    relay.interpose(Fault(status=200, body=half), of_services, times=2)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
    assert losses(follower) == []


class Liar:
    """Alters the lines of a stream after the initial ones."""

    def __init__(self, lie: Callable[[list[bytes]], list[bytes]]) -> None:
        self._lie = lie
        self._rest = b""
        self.honest = True

    def __call__(self, part: bytes) -> bytes:
        *lines, self._rest = (self._rest + part).split(b"\n")
        if not self.honest:
            lines = self._lie(lines)
        return b"".join(line + b"\n" for line in lines)


def test_events_that_are_repeated_are_told_once(fake: FakeApiServer, relay: Wire) -> None:
    a_cluster(fake)
    liar = Liar(lambda lines: [line for line in lines for _ in range(3)])
    relay.interpose(Fault(alter=liar), lambda r: of_services(r) and r.is_initial)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        liar.honest = False
        told = len(follower.messages)
        fake.create(service("new"))
        fake.delete(Kind.SERVICE, named("mail"))
        fake.create(service("mail"))
        fake.delete(Kind.SERVICE, named("mail"))
        fake.create(service("last"))
        follower.agrees(fake)
    assert len(follower.messages) - told == 5


def test_old_events_after_new_ones_roll_nothing_back(fake: FakeApiServer, relay: Wire) -> None:
    """Each line is followed by all that came before it, as from a cache that is played again."""
    a_cluster(fake)
    past: list[bytes] = []

    def replay(lines: list[bytes]) -> list[bytes]:
        past.extend(lines)
        return [*lines, *past]

    liar = Liar(replay)
    relay.interpose(Fault(alter=liar), lambda r: of_services(r) and r.is_initial)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        liar.honest = False
        for round_ in range(4):
            fake.patch(Kind.SERVICE, named("pay"), {"metadata": {"labels": {"r": str(round_)}}})
        fake.delete(Kind.SERVICE, named("pay"))
        fake.create(service("pay", r="again"))
        follower.agrees(fake)
        fake.create(service("last"))
        follower.agrees(fake)
    versions = [
        int(m.object.metadata.resource_version)
        for m in follower.messages
        if isinstance(m, Upsert) and isinstance(m.object, Service)
    ]
    assert versions == sorted(set(versions))


def stale(fake: FakeApiServer) -> bytes:
    """A list as a cache would answer that knows nothing of today."""
    meta = {"resourceVersion": "7"}
    old: dict[str, Any] = {"kind": "ServiceList", "metadata": meta, "items": []}
    assert fake.store.revision > 7
    return json.dumps(old).encode()


@pytest.mark.parametrize("times", [1, 2])
def test_a_list_from_a_stale_cache_takes_nothing_away(
    fake: FakeApiServer, relay: Wire, log: Log, times: int
) -> None:
    a_cluster(fake)
    relay.pages_only = True
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        stale_list = Fault(status=200, body=stale(fake))
        relay.interpose(stale_list, lambda r: of_services(r) and not r.is_watch, times)
        fake.create(service("new"))
        fake.compact()
        relay.cut()
        follower.agrees(fake)
        assert "reason=a list from the past: resourceVersion 7 after" in log.next()
        assert "serves us again" in log.next()
    assert losses(follower) == []


def test_a_server_that_was_restored_from_a_backup_is_believed(
    fake: FakeApiServer, relay: Wire
) -> None:
    a_cluster(fake)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        backup = Store()
        backup.revision = 10
        backup.put_all([service("old"), node()])
        fake.bookmark_seconds = 0.1  # a bookmark from the past tells of it
        fake.store = backup
        relay.cut()
        follower.agrees(fake)
        fake.create(service("new"))
        follower.agrees(fake)
    asked = [r for r in relay.requests if of_services(r) and r.is_initial]
    assert len(asked) == 1 + 3  # the third list from the past is believed
