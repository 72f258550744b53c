"""Do the small API server and the real one keep the same rules? Those that the source relies on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import urlencode

from endpoints.decode import Page, Watched, decode_list, decode_watch
from endpoints.events import Delete, Upsert
from endpoints.objects import Kind
from tests.apiserver.story import PATHS, SELECTORS, ApiServer, ask, named, service
from tests.apiserver.wire import connect

SERVICES = PATHS[Kind.SERVICE]


def page(server: ApiServer, **query: str) -> Page:
    status, body = ask(server, SERVICES, query)
    assert status == http.client.OK, body
    return decode_list(body, Kind.SERVICE)


def refusal(server: ApiServer, query: Mapping[str, str]) -> tuple[int, str]:
    status, body = ask(server, SERVICES, query)
    return status, json.loads(body)["reason"]


@contextmanager
def watch(server: ApiServer, version: str, **query: str) -> Iterator[Iterator[Watched]]:
    """The events of a watch of Services, as they come."""
    parameters = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "30", **query}
    with closing(connect(server)) as connection:
        connection.request("GET", f"{SERVICES}?{urlencode(parameters)}", headers=server.headers)
        response = connection.getresponse()
        assert response.status == http.client.OK
        lines = iter(response.readline, b"")
        yield (decode_watch(line, Kind.SERVICE) for line in lines)


def names(page: Page) -> list[str]:
    return [obj.metadata.name for obj in page.objects]


def test_pages_show_one_moment(server: ApiServer) -> None:
    for name in ("a1", "a2", "a3", "a4"):
        server.create(service(name))
    everything = names(page(server))
    first = page(server, limit="2")
    assert first.remaining == len(everything) - 2
    server.create(service("a0"))
    second = page(server, limit="500", **{"continue": first.continue_token})
    assert names(first) + names(second) == everything
    assert second.continue_token == ""
    assert second.resource_version == first.resource_version


def test_the_rest_of_a_list_can_expire(server: ApiServer) -> None:
    for name in ("a1", "a2", "a3"):
        server.create(service(name))
    first = page(server, limit="2")
    server.compact()
    query = {"limit": "2", "continue": first.continue_token}
    assert refusal(server, query) == (http.client.GONE, "Expired")


def test_a_list_is_ordered_and_selected_by_labels(server: ApiServer) -> None:
    server.create(service("ours"))
    server.create(service("theirs", **{"service.kubernetes.io/service-proxy-name": "x"}))
    server.create(service("nobodys", **{"service.kubernetes.io/headless": ""}))
    found = names(page(server, **SELECTORS[Kind.SERVICE]))
    assert "ours" in found
    assert found == sorted(found)
    assert not {"theirs", "nobodys"} & set(found)


def test_a_watch_tells_what_came_after_a_list(server: ApiServer) -> None:
    server.create(service("a"))
    with watch(server, page(server).resource_version) as events:
        server.patch(Kind.SERVICE, named("a"), {"metadata": {"labels": {"x": "y"}}})
        server.create(service("b"))
        server.delete(Kind.SERVICE, named("a"))
        seen = [next(events) for _ in range(3)]
    assert [event.type for event in seen] == ["MODIFIED", "ADDED", "DELETED"]
    versions = [int(event.resource_version) for event in seen]
    assert versions == sorted(set(versions))
    assert seen[2].event == Delete(Kind.SERVICE, named("a"))


def test_a_watch_resumes_after_any_version(server: ApiServer) -> None:
    start = page(server).resource_version
    for name in ("a", "b", "c"):
        server.create(service(name))
    with watch(server, start) as events:
        versions = [next(events).resource_version for _ in range(3)]
    with watch(server, versions[0]) as events:
        assert [next(events).resource_version for _ in range(2)] == versions[1:]


def test_a_change_of_labels_can_look_like_a_deletion_or_an_addition(server: ApiServer) -> None:
    label = "service.kubernetes.io/service-proxy-name"
    server.create(service("a"))
    with watch(server, page(server).resource_version, **SELECTORS[Kind.SERVICE]) as events:
        server.patch(Kind.SERVICE, named("a"), {"metadata": {"labels": {label: "x"}}})
        server.patch(Kind.SERVICE, named("a"), {"metadata": {"labels": {"unseen": "y"}}})
        server.patch(Kind.SERVICE, named("a"), {"metadata": {"labels": {label: None}}})
        seen = [next(events) for _ in range(2)]
    assert [event.type for event in seen] == ["DELETED", "ADDED"]
    assert int(seen[1].resource_version) > int(seen[0].resource_version) + 1


def test_a_watch_from_nowhere_begins_with_everything(server: ApiServer) -> None:
    for name in ("a", "b"):
        server.create(service(name))
    everything = set(names(page(server)))
    with watch(server, "") as events:
        first = [next(events) for _ in everything]
        server.create(service("c"))
        assert next(events).type == "ADDED"
    assert {event.type for event in first} == {"ADDED"}
    added = {event.event.object.metadata.name for event in first if isinstance(event.event, Upsert)}
    assert added == everything


def test_initial_events_end_with_a_bookmark(server: ApiServer) -> None:
    server.create(service("a"))
    everything = names(page(server))
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with watch(server, "", **query) as events:
        assert [next(events).type for _ in everything] == ["ADDED"] * len(everything)
        end = next(events)
        assert (end.type, end.initial_events_end) == ("BOOKMARK", True)
        server.create(service("b"))
        later = next(events)
    assert int(later.resource_version) > int(end.resource_version) > 0


def test_a_watch_ends_when_asked_to_and_tells_where_it_was(server: ApiServer) -> None:
    query = {"allowWatchBookmarks": "true", "timeoutSeconds": "4"}
    with watch(server, page(server).resource_version, **query) as events:
        server.create(service("a"))  # 1.36 sends none in a short watch without any event
        first, *others = list(events)
    assert (first.type, {event.type for event in others}) == ("ADDED", {"BOOKMARK"})
    assert not others[-1].initial_events_end


def test_a_watch_from_a_forgotten_version_is_an_error_in_the_stream(server: ApiServer) -> None:
    start = page(server).resource_version
    server.create(service("a"))
    server.compact()
    with watch(server, start) as events:
        seen = list(events)
    assert [(event.type, event.code) for event in seen] == [("ERROR", http.client.GONE)]
