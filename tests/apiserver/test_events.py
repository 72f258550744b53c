"""Does an event reach the API server, and does it cost nothing when it does not?"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest

from proxy.events import posting as events
from proxy.events.posting import FLUSH_SECONDS, Events, Timing
from proxy.events.recorder import Reference
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.store import Json
from tests.apiserver.story import config
from tests.apiserver.test_outages import PROMPT_SECONDS, Log, log

__all__ = ["log"]
PAY = Reference("Service", "shop", "pay", "u-1")
NODE = Reference("Node", "", "node-a", "u-2")


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


@contextmanager
def posting(url: str, clock: Clock | None = None) -> Iterator[Events]:
    clock = clock or Clock()
    posted = Events(config(url), Timing(clock, clock.now, lambda: 0.0))
    posted.start()
    try:
        yield posted
    finally:
        posted.stop()


def told(server: FakeApiServer) -> list[Json]:
    return list(server.events.values())


def test_an_event_in_full(fake: FakeApiServer) -> None:
    with posting(fake.url) as posted:
        posted.record(PAY, "Warning", "Skipped", "spec.ports[0].port: 0: must be 1-65535")
    ((namespace, name), event), *others = fake.events.items()
    assert others == []
    assert namespace == "shop"
    assert name.startswith("pay.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "shop"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "shop",
            "name": "pay",
            "uid": "u-1",
        },
        "type": "Warning",
        "reason": "Skipped",
        "message": "spec.ports[0].port: 0: must be 1-65535",
        "count": 1,
        "firstTimestamp": "1970-01-01T00:16:40Z",
        "lastTimestamp": "1970-01-01T00:16:40Z",
        "source": {"component": "headgate", "host": "node-a"},
        "reportingComponent": "headgate",
        "reportingInstance": "node-a",
    }


def test_events_about_a_node_are_kept_in_default(fake: FakeApiServer) -> None:
    with posting(fake.url) as posted:
        posted.record(NODE, "Normal", "StartKubeProxy", "")
    assert [namespace for namespace, _ in fake.events] == ["default"]
    assert told(fake)[0]["involvedObject"]["namespace"] == ""


def test_equal_events_are_counted(fake: FakeApiServer) -> None:
    clock = Clock()
    with posting(fake.url, clock) as posted:
        posted.record(PAY, "Warning", "Skipped", "this")
        posted.record(PAY, "Warning", "Skipped", "this")
        posted.record(PAY, "Warning", "Skipped", "that")
        fake.recorded(lambda: [e["count"] for e in told(fake)] == [2, 1])
        clock.seconds += 60
        posted.record(PAY, "Warning", "Skipped", "this")
        fake.recorded(lambda: [e["count"] for e in told(fake)] == [3, 1])
        assert told(fake)[0]["firstTimestamp"] == "1970-01-01T00:16:40Z"
        assert told(fake)[0]["lastTimestamp"] == "1970-01-01T00:17:40Z"
        clock.seconds += 601
        posted.record(PAY, "Warning", "Skipped", "this")
        fake.recorded(lambda: [e["count"] for e in told(fake)] == [3, 1, 1])


def test_an_event_that_the_server_has_forgotten_is_created_again(fake: FakeApiServer) -> None:
    with posting(fake.url) as posted:
        posted.record(PAY, "Warning", "Skipped", "this")
        fake.recorded(lambda: len(fake.events) == 1)
        fake.events.clear()
        posted.record(PAY, "Warning", "Skipped", "this")
    assert [e["count"] for e in told(fake)] == [1]


def test_one_object_does_not_flood_the_server(fake: FakeApiServer) -> None:
    clock = Clock()
    with posting(fake.url, clock) as posted:
        for number in range(100):
            posted.record(PAY, "Warning", "Skipped", str(number))
        posted.record(NODE, "Normal", "Other", "")
        fake.recorded(lambda: any(e["reason"] == "Other" for e in told(fake)))
        assert len(fake.events) == events.BURST + 1
        clock.seconds += 301
        posted.record(PAY, "Warning", "Skipped", "next")
        posted.record(PAY, "Warning", "Skipped", "too many")
    assert [e["message"] for e in told(fake)][events.BURST + 1 :] == ["next"]


def test_what_is_forbidden_is_told_once(fake: FakeApiServer, log: Log) -> None:
    fake.refuses_events = [(403, 'events is forbidden: User "x" cannot create')] * 3
    with posting(fake.url) as posted:
        for number in range(4):
            posted.record(PAY, "Warning", "Skipped", str(number))
        fake.recorded(lambda: len(fake.events) == 1)
    assert log.next() == (
        f"Events are not posted server={fake.url}"
        ' reason=403 events is forbidden: User "x" cannot create'
    )
    assert log.silent()
    assert [e["message"] for e in told(fake)] == ["3"]


@pytest.mark.parametrize("code", [401, 429, 500, 503])
def test_what_may_pass_is_tried_again(fake: FakeApiServer, code: int) -> None:
    fake.refuses_events = [(code, "not now")]
    with posting(fake.url) as posted:
        posted.record(PAY, "Warning", "Skipped", "this")
        fake.recorded(lambda: len(fake.events) == 1)


def test_a_name_that_is_taken_is_ours_from_an_answer_that_was_lost(fake: FakeApiServer) -> None:
    fake.refuses_events = [(409, "already exists")]
    with posting(fake.url) as posted:
        posted.record(PAY, "Warning", "Skipped", "this")
        posted.record(NODE, "Normal", "Other", "")
        fake.recorded(lambda: len(fake.events) == 1)
    assert [e["reason"] for e in told(fake)] == ["Other"]


def test_recording_never_waits_and_the_end_does_not_wait_long() -> None:
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)  # connections are made, and nobody ever answers
        began = time.monotonic()
        with posting(f"http://127.0.0.1:{deaf.getsockname()[1]}") as posted:
            for number in range(3 * events.QUEUE_LENGTH):
                posted.record(PAY, "Warning", "Skipped", str(number))
            recorded = time.monotonic()
            assert recorded - began < PROMPT_SECONDS
        assert time.monotonic() - recorded < 2 * FLUSH_SECONDS + PROMPT_SECONDS
    assert not [t for t in threading.enumerate() if t.name == "events"]


def test_what_is_waiting_at_the_end_is_posted(fake: FakeApiServer) -> None:
    with posting(fake.url) as posted:
        for number in range(20):
            posted.record(PAY, "Warning", "Skipped", str(number))
    assert [e["message"] for e in told(fake)] == [str(number) for number in range(20)]


def test_without_a_server_there_is_one_line(log: Log) -> None:
    url = "http://127.0.0.1:1"
    with posting(url) as posted:
        posted.record(PAY, "Warning", "Skipped", "this")
        assert log.next() == f"Events are not posted server={url} reason=connection refused"
    assert log.silent()


def test_memory_has_a_bound(fake: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 10)
    with posting(fake.url) as posted:
        for number in range(40):
            about = Reference("Service", "shop", f"s{number}")
            posted.record(about, "Warning", "Skipped", "this")
        fake.recorded(lambda: len(fake.events) == 40)
    assert (len(posted._posted), len(posted._limits)) == (10, 10)
