"""Is a cluster read as a stream where that can be, and in pages where it cannot?"""

from __future__ import annotations

import pytest

from endpoints.objects import Kind
from proxy.sources import api
from proxy.sources.api import ApiSource, Timing
from proxy.sources.connection import Patience
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import ApiServer, Follower, config, endpoint_slice, node, service
from tests.apiserver.test_outages import zero
from tests.apiserver.test_source import EAGER, a_cluster, changes, source
from tests.apiserver.wire import Fault, Request, Wire


def pages(wire: Wire) -> list[Request]:
    return [request for request in wire.requests if not request.is_watch]


def streams(wire: Wire) -> list[Request]:
    return [request for request in wire.requests if request.is_initial]


def test_one_request_of_a_kind_lists_and_follows(server: ApiServer, wire: Wire) -> None:
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        changes(server)
        follower.agrees(server)
    assert pages(wire) == []
    assert len(wire.requests) == len(streams(wire)) == len(Kind)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]
    query = streams(wire)[0].query
    assert query["resourceVersionMatch"] == "NotOlderThan"
    assert query["allowWatchBookmarks"] == "true"
    assert "resourceVersion" not in query  # the newest state, not that of some cache


def test_a_server_that_has_it_switched_off_is_asked_once(server: ApiServer, wire: Wire) -> None:
    a_cluster(server)
    wire.pages_only = True
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        wire.down()
        changes(server)
        server.compact()
        wire.up()
        follower.until(lambda: all(follower.replaced(kind) == 2 for kind in Kind))
        follower.agrees(server)
    assert len(streams(wire)) == len(Kind)
    assert len(pages(wire)) >= 2 * len(Kind)


def test_a_server_that_is_older_tells_no_end(fake: FakeApiServer) -> None:
    """It skips the parameter, and goes on with what changes and with bookmarks."""
    fake.knows_initial_events = False
    fake.bookmark_seconds = 0.2
    a_cluster(fake)
    wire = Wire(fake)
    try:
        with Follower(source(wire)) as follower:
            follower.agrees(fake)
            changes(fake)
            follower.agrees(fake)
    finally:
        wire.close()
    assert len(streams(wire)) == len(Kind)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]


@pytest.mark.parametrize("chatty", [False, True])
def test_a_server_that_is_older_still_tells_not_even_bookmarks(
    fake: FakeApiServer, monkeypatch: pytest.MonkeyPatch, chatty: bool
) -> None:
    fake.knows_initial_events = False
    a_cluster(fake)
    patience = Patience(answer_seconds=0.5) if not chatty else Patience()
    monkeypatch.setattr(api, "INITIAL_SECONDS", 0.5)
    with Follower(ApiSource(config(fake.url), Timing(random=zero, patience=patience))) as follower:
        for round_ in range(500 if chatty else 1):
            follower.take()
            if len(follower.objects) == len(Kind):
                break
            assert fake.store.changed.acquire(timeout=20)
            fake.store.changed.wait(0.02)  # nothing but the passing of time
            fake.store.changed.release()
            mark = {"round": str(round_)}
            fake.store.put_all(
                [service("pay", **mark), endpoint_slice("pay"), node(zone=str(round_))]
            )
        follower.agrees(fake)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]


def test_a_stream_that_is_cut_before_its_end_is_no_list(server: ApiServer, wire: Wire) -> None:
    a_cluster(server)
    wire.interpose(Fault(cut_after=600), lambda r: r.is_initial, times=3)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]
    assert follower.problems == []


def test_a_stream_that_is_always_cut_gives_way_to_pages(server: ApiServer, wire: Wire) -> None:
    for number in range(6):
        server.create(service(f"s{number}"))
    wire.interpose(
        Fault(cut_after=600), lambda r: r.is_initial and r.path.endswith("services"), times=9
    )
    with Follower(ApiSource(config(wire.url), EAGER)) as follower:
        follower.agrees(server)
    assert sum(r.path.endswith("services") for r in streams(wire)) == 3
    assert [r.path for r in pages(wire)] == ["/api/v1/services"]
