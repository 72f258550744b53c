"""What does an operator read while the API server cannot be reached, and does it end when told to?"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from endpoints.objects import Kind
from proxy.sources.api import STOP_SECONDS, ApiSource, Timing
from proxy.sources.connection import Patience
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.store import Store
from tests.apiserver.story import Follower, config, endpoint_slice, node, service
from tests.apiserver.wire import Fault, Request, Wire

LINE_SECONDS = 20.0
PROMPT_SECONDS = 1.0


def zero() -> float:
    return 0.0


EAGER = Timing(random=zero)
IMPATIENT = Timing(random=zero, patience=Patience(watch_seconds=0.1))


class Log(logging.Handler):
    """What the program writes, one line after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", {})
        words = [record.getMessage(), *(f"{name}={value}" for name, value in fields.items())]
        self._lines.put(" ".join(words))

    def next(self) -> str:
        """The next line, when it comes."""
        return self._lines.get(timeout=LINE_SECONDS)

    def silent(self) -> bool:
        return self._lines.empty()


@pytest.fixture
def log() -> Iterator[Log]:
    logger = logging.getLogger("headgate")
    handler, level = Log(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def relay(fake: FakeApiServer) -> Iterator[Wire]:
    relay = Wire(fake)
    yield relay
    relay.close()


def a_cluster(server: FakeApiServer) -> None:
    server.store.put_all([service("pay"), endpoint_slice("pay"), node()])


def of_services(request: Request) -> bool:
    return request.path.endswith("services")


def watches(wire: Wire) -> list[Request]:
    return [request for request in wire.requests if is_watch_of_services(request)]


def is_watch_of_services(request: Request) -> bool:
    return of_services(request) and request.is_watch


def source_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("api-")]


def test_a_server_that_is_not_there_at_start_is_one_line_and_no_event(
    fake: FakeApiServer, relay: Wire, log: Log
) -> None:
    a_cluster(fake)
    relay.down()
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        assert log.next() == (
            f"API server does not serve us; retrying server={relay.url} reason=connection refused"
        )
        assert follower.quiet()
        relay.up()
        follower.agrees(fake)
        assert log.next() == f"API server serves us again server={relay.url}"
    assert log.silent()  # three kinds met the same, each of them more than once


def test_an_outage_in_the_middle_is_a_line_for_each_reason(
    fake: FakeApiServer, relay: Wire, log: Log
) -> None:
    a_cluster(fake)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        relay.down()
        lines = [log.next()]
        while "reason=connection refused" not in lines[-1]:
            lines.append(log.next())  # a connection that was just made is reset
        assert len(lines) == len(set(lines))
        fake.create(service("new"))
        relay.up()
        follower.agrees(fake)
        assert "serves us again" in log.next()
        assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]
    assert log.silent()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("https://[::1]:1", "connection refused"),
        ("http://no-such-host.invalid", "its name cannot be resolved: "),
        ("http://203.0.113.1", "network is unreachable"),
    ],
)
def test_the_reason_is_in_words_of_the_network(log: Log, url: str, words: str) -> None:
    with Follower(ApiSource(config(url), EAGER)) as follower:
        assert f"server={url} reason={words}" in log.next()
        assert follower.quiet()


def test_an_answer_that_is_cut_is_asked_for_again(
    fake: FakeApiServer, relay: Wire, log: Log
) -> None:
    a_cluster(fake)
    relay.pages_only = True
    relay.interpose(Fault(cut_after=50), lambda r: of_services(r) and not r.is_watch)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        assert log.next().endswith("reason=cut in the middle of an answer")
        follower.agrees(fake)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "401 Unauthorized"),
        (
            403,
            b'{"kind": "Status", "message": "services is forbidden: User \\"x\\" cannot list"}',
            '403 services is forbidden: User "x" cannot list',
        ),
        (503, b"<html>", "503 Service Unavailable"),
    ],
)
def test_a_refusal_is_quoted_once(
    fake: FakeApiServer, relay: Wire, log: Log, status: int, body: bytes, words: str
) -> None:
    a_cluster(fake)
    relay.interpose(Fault(status=status, body=body), of_services, times=3)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        assert log.next().endswith(f"reason={words}")
        follower.agrees(fake)
        assert "serves us again" in log.next()
    assert sum(of_services(request) for request in relay.requests) == 4
    assert log.silent()


def test_a_server_that_asks_for_a_pause_gets_it(fake: FakeApiServer, relay: Wire) -> None:
    a_cluster(fake)
    busy = Fault(status=429, headers={"Retry-After": "1"})
    relay.interpose(busy, of_services)
    began = time.monotonic()
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
    assert time.monotonic() - began >= 1.0


def test_watches_that_end_at_once_are_worth_a_line(
    fake: FakeApiServer, relay: Wire, log: Log
) -> None:
    a_cluster(fake)
    relay.interpose(Fault(status=200), is_watch_of_services, times=4)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        assert log.next().endswith("reason=watches end at once: closed by the server")
        fake.create(service("new"))
        follower.agrees(fake)
        assert "serves us again" in log.next()
    assert follower.replaced(Kind.SERVICE) == 1


def test_a_watch_that_says_nothing_is_resumed_once_and_then_listed_again(
    fake: FakeApiServer, relay: Wire
) -> None:
    a_cluster(fake)
    with Follower(ApiSource(config(relay.url), IMPATIENT)) as follower:
        follower.until(lambda: follower.replaced(Kind.SERVICE) == 2)
    asked = [request.is_initial for request in relay.requests if of_services(request)]
    assert asked[:3] == [True, False, True]


def test_a_server_that_was_restored_from_a_backup_is_listed_again(
    fake: FakeApiServer, relay: Wire
) -> None:
    a_cluster(fake)
    with Follower(ApiSource(config(relay.url), IMPATIENT)) as follower:
        follower.agrees(fake)
        backup = Store()
        backup.revision = 10
        backup.put_all([service("old"), node()])
        fake.store = backup
        relay.cut()
        follower.agrees(fake)


def test_bookmarks_move_the_place_to_resume_from(fake: FakeApiServer, relay: Wire) -> None:
    fake.bookmark_seconds = 0.05
    a_cluster(fake)
    fake.store.put_all(endpoint_slice(f"e{number}") for number in range(5))
    bookmarks = threading.Semaphore(0)

    def count(part: bytes) -> bytes:
        if found := part.count(b'"BOOKMARK"'):
            bookmarks.release(found)
        return part

    relay.interpose(Fault(alter=count), is_watch_of_services)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        follower.agrees(fake)
        fake.create(endpoint_slice("late"))
        moved = fake.store.revision
        for _ in range(3):  # the first may be older, and the third may not be sent yet
            assert bookmarks.acquire(timeout=LINE_SECONDS)
        relay.cut()
        relay.asked(is_watch_of_services, 2)
    assert int(watches(relay)[-1].query["resourceVersion"]) == moved


@pytest.mark.parametrize("kind", ["services", "endpointslices"])
def test_stopping_in_a_watch_is_prompt(fake: FakeApiServer, relay: Wire, kind: str) -> None:
    a_cluster(fake)
    follower = Follower(ApiSource(config(relay.url), EAGER))
    with follower:
        follower.agrees(fake)
        relay.asked(lambda request: request.path.endswith(kind) and request.is_watch, 1)
        began = time.monotonic()
    assert time.monotonic() - began < PROMPT_SECONDS
    assert source_threads() == []
    fake.create(service("after"))
    assert follower.quiet()


@pytest.mark.parametrize("times", [1, 3])
def test_stopping_while_the_server_is_silent_is_prompt(relay: Wire, times: int) -> None:
    relay.interpose(Fault(before=relay.hold), lambda _: True, times)
    with Follower(ApiSource(config(relay.url), EAGER)) as follower:
        relay.asked(lambda _: True, 3)
        began = time.monotonic()
    assert time.monotonic() - began < PROMPT_SECONDS
    assert source_threads() == []
    assert follower.problems == []


def test_stopping_between_two_attempts_is_prompt(
    fake: FakeApiServer, relay: Wire, log: Log
) -> None:
    a_cluster(fake)
    relay.interpose(Fault(status=429, headers={"Retry-After": "30"}), lambda _: True, times=3)
    with Follower(ApiSource(config(relay.url), EAGER)):
        log.next()
        began = time.monotonic()
    assert time.monotonic() - began < PROMPT_SECONDS
    assert source_threads() == []


def test_a_thread_that_is_just_connecting_does_not_hold_up_the_end() -> None:
    with closing(socket.socket()) as deaf, closing(socket.socket()) as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        first.connect(deaf.getsockname())  # fills the queue: further SYNs are dropped
        patience = Patience(connect_seconds=STOP_SECONDS + 1)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        source = ApiSource(config(url), Timing(random=zero, patience=patience))
        with Follower(source) as follower:
            began = time.monotonic()
        assert time.monotonic() - began < STOP_SECONDS + PROMPT_SECONDS
        assert follower.quiet()
        for thread in source_threads():
            thread.join()
        assert follower.quiet()
