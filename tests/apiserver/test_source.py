"""Does the source say what the server holds, whatever happens between them?"""

from __future__ import annotations

import pytest

from endpoints.events import Delete, Replace, Upsert
from endpoints.objects import Kind, Service
from proxy.sources import api
from proxy.sources.api import ApiSource, Timing
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.story import ApiServer, Follower, config, endpoint_slice, named, node, service
from tests.apiserver.wire import Fault, Request, Wire

EAGER = Timing(random=lambda: 0.0)


def source(wire: Wire) -> ApiSource:
    return ApiSource(config(wire.url), EAGER)


def lists(wire: Wire) -> list[Request]:
    return [r for r in wire.requests if r.path.endswith("services") and not r.is_watch]


def watches(wire: Wire) -> list[Request]:
    return [r for r in wire.requests if a_service_is_watched(r)]


def a_service_is_watched(request: Request) -> bool:
    return request.is_watch and request.path.endswith("services") and not request.is_initial


def a_cluster(server: ApiServer) -> None:
    for name in ("pay", "cart", "mail"):
        server.create(service(name))
        server.create(endpoint_slice(name))
    server.create(node())
    server.create(node("node-b", "eu-1b"))


def changes(server: ApiServer) -> None:
    """One of each: an addition, a change, a deletion."""
    server.create(service("new"))
    server.patch(Kind.ENDPOINT_SLICE, named("pay"), {"endpoints": [{"addresses": ["10.244.9.9"]}]})
    server.delete(Kind.SERVICE, named("cart"))


def test_what_is_there_is_listed_and_what_changes_is_followed(
    server: ApiServer, wire: Wire
) -> None:
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        changes(server)
        follower.agrees(server)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]
    assert named("cart") not in follower.objects[Kind.SERVICE]
    assert [name.name for name in follower.objects[Kind.NODE]] == ["node-a"]


def test_a_long_list_comes_in_pages_and_is_one_replacement(
    server: ApiServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE_LIMIT", 2)
    wire.pages_only = True
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
    assert follower.replaced(Kind.SERVICE) == 1
    assert len(lists(wire)) >= 2
    assert "continue" in lists(wire)[1].query
    assert {request.query["limit"] for request in lists(wire)} == {"2"}


def test_another_proxy_s_service_is_none_of_ours_until_its_label_goes(
    server: ApiServer, wire: Wire
) -> None:
    label = "service.kubernetes.io/service-proxy-name"
    server.create(service("ours"))
    server.create(service("theirs", **{label: "other"}))
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        assert named("theirs") not in follower.objects[Kind.SERVICE]
        server.patch(Kind.SERVICE, named("theirs"), {"metadata": {"labels": {label: None}}})
        follower.agrees(server)
        assert named("theirs") in follower.objects[Kind.SERVICE]
        server.patch(Kind.SERVICE, named("ours"), {"metadata": {"labels": {label: "other"}}})
        follower.agrees(server)
    assert Delete(Kind.SERVICE, named("ours")) in follower.messages


def test_a_watch_that_is_cut_goes_on_where_it_was(server: ApiServer, wire: Wire) -> None:
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        server.create(service("before"))
        follower.agrees(server)
        version = follower.objects[Kind.SERVICE][named("before")].metadata.resource_version
        wire.cut()
        changes(server)
        follower.agrees(server)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]
    assert watches(wire)[0].query["resourceVersion"] == version


@pytest.mark.parametrize("length", [1, 40, 400])
def test_a_line_that_is_cut_short_is_sent_again(server: ApiServer, wire: Wire, length: int) -> None:
    a_cluster(server)
    wire.pages_only = True
    wire.interpose(Fault(cut_after=length), a_service_is_watched)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        for round_ in range(3):
            server.patch(
                Kind.SERVICE, named("pay"), {"metadata": {"labels": {"round": str(round_)}}}
            )
        follower.agrees(server)
    assert follower.replaced(Kind.SERVICE) == 1
    assert len(watches(wire)) == 2
    assert follower.problems == []


def test_what_happens_while_the_server_is_away_is_caught_up(server: ApiServer, wire: Wire) -> None:
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        wire.down()
        changes(server)
        assert follower.quiet()
        wire.up()
        follower.agrees(server)
    assert [follower.replaced(kind) for kind in Kind] == [1, 1, 1]


def test_nothing_is_forgotten_when_the_server_has_forgotten_where_we_were(
    server: ApiServer, wire: Wire
) -> None:
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        before = len(follower.messages)
        wire.down()
        changes(server)
        server.compact()
        wire.up()
        follower.until(lambda: all(follower.replaced(kind) == 2 for kind in Kind))
        follower.agrees(server)
    # No deletion and no empty list in between: each kind goes from all it was to all it is.
    after = {m.kind: m for m in follower.messages[before:] if isinstance(m, Replace)}
    assert len(follower.messages) - before == len(after) == 3
    assert {obj.metadata.name for obj in after[Kind.SERVICE].objects} >= {"pay", "mail", "new"}


def test_a_watch_that_is_refused_as_too_old_is_a_new_list(server: ApiServer, wire: Wire) -> None:
    wire.pages_only = True
    a_cluster(server)
    wire.interpose(Fault(status=410), a_service_is_watched)
    with Follower(source(wire)) as follower:
        follower.until(lambda: follower.replaced(Kind.SERVICE) == 2)
        follower.agrees(server)
    assert follower.replaced(Kind.ENDPOINT_SLICE) == 1


def test_a_list_that_expires_half_read_begins_again(
    server: ApiServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAGE_LIMIT", 2)
    wire.pages_only = True
    a_cluster(server)

    def second_page(request: Request) -> bool:
        return request.path.endswith("services") and "continue" in request.query

    wire.interpose(Fault(before=server.compact), second_page)
    with Follower(source(wire)) as follower:
        # A real one starts anew, and answers nothing meanwhile.
        follower.until(lambda: follower.replaced(Kind.SERVICE) == 1, seconds=60)
        follower.agrees(server)
    assert follower.replaced(Kind.SERVICE) == 1
    assert sum("continue" not in request.query for request in lists(wire)) == 2


def test_a_line_of_nonsense_is_a_new_list(server: ApiServer, wire: Wire) -> None:
    wire.pages_only = True
    a_cluster(server)
    nonsense = Fault(alter=lambda _: b"<html>gateway</html>\n")
    wire.interpose(nonsense, a_service_is_watched)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        server.create(service("lost-in-nonsense"))
        follower.agrees(server)
    assert follower.replaced(Kind.SERVICE) == 2


def test_an_answer_of_nonsense_is_asked_for_again(server: ApiServer, wire: Wire) -> None:
    wire.pages_only = True
    a_cluster(server)
    page = Fault(status=200, body=b"<html>welcome</html>")
    wire.interpose(page, lambda request: request.path.endswith("nodes"), times=2)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
    assert follower.replaced(Kind.NODE) == 1


def test_every_change_comes_once(server: ApiServer, wire: Wire) -> None:
    """However often the wire is cut, no version of an object is told twice, and none too late."""
    a_cluster(server)
    with Follower(source(wire)) as follower:
        follower.agrees(server)
        for round_ in range(12):
            label = {"metadata": {"labels": {"round": str(round_)}}}
            server.patch(Kind.SERVICE, named("pay"), label)
            server.patch(Kind.ENDPOINT_SLICE, named("mail"), label)
            if round_ % 3 == 0:
                wire.cut()
        follower.agrees(server)
    versions = [
        int(message.object.metadata.resource_version)
        for message in follower.messages
        if isinstance(message, Upsert) and isinstance(message.object, Service)
    ]
    assert len(versions) == 12
    assert versions == sorted(set(versions))


def test_a_malformed_object_costs_itself_only(fake: FakeApiServer) -> None:
    """The real server takes none; an older or newer one than this program may."""
    impossible = service("impossible") | {
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 0}]}
    }
    fake.store.put_all([service("pay"), impossible, service("mail"), node()])
    with Follower(ApiSource(config(fake.url), EAGER)) as follower:
        follower.until(lambda: len(follower.problems) == 1)
        assert follower.problems == [
            "Service default/impossible: spec.ports[0].port: 0: must be 1-65535"
        ]
        follower.until(lambda: Kind.SERVICE in follower.objects)
        assert follower.objects[Kind.SERVICE].keys() == {named("pay"), named("mail")}
        before = follower.objects[Kind.SERVICE][named("pay")]
        fake.patch(Kind.SERVICE, named("pay"), {"spec": {"ports": "all of them"}})
        fake.create(service("after"))
        follower.until(lambda: named("after") in follower.objects[Kind.SERVICE])
        assert follower.problems[1:] == [
            "Service default/pay: spec.ports: all of them: expected array | null, got str"
        ]
        assert follower.objects[Kind.SERVICE][named("pay")] == before
        fake.delete(Kind.SERVICE, named("pay"))
        follower.until(lambda: named("pay") not in follower.objects[Kind.SERVICE])
