"""Do the small API server and the real one answer alike to who changes objects?"""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from http import HTTPStatus

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.requests import path_of
from tests.apiserver.store import Json
from tests.apiserver.story import ApiServer, ask, endpoint_slice, named
from tests.apiserver.wire import connect

SLICE = path_of(Kind.ENDPOINT_SLICE, named("pay"))


def test_a_name_is_taken_once(server: ApiServer) -> None:
    server.create(endpoint_slice("pay"))
    collection = path_of(Kind.ENDPOINT_SLICE, ObjectName("default", ""))
    status, answer = send(server, "POST", collection, endpoint_slice("pay"))
    assert (status, answer["reason"]) == (HTTPStatus.CONFLICT, "AlreadyExists")


def test_a_replacement_is_answered_with_what_it_became(server: ApiServer) -> None:
    server.create(endpoint_slice("pay", "10.244.1.1"))
    before = found(server)
    status, answer = send(server, "PUT", SLICE, endpoint_slice("pay", "10.244.1.2"))
    assert status == HTTPStatus.OK
    assert (answer["kind"], answer["apiVersion"]) == ("EndpointSlice", "discovery.k8s.io/v1")
    assert answer["endpoints"][0]["addresses"] == ["10.244.1.2"]
    assert version(answer) > version(before)
    assert version(found(server)) == version(answer)


def test_a_replacement_of_what_has_changed_is_refused(server: ApiServer) -> None:
    server.create(endpoint_slice("pay"))
    before = found(server)
    server.patch(Kind.ENDPOINT_SLICE, named("pay"), {"metadata": {"labels": {"x": "y"}}})
    status, answer = send(server, "PUT", SLICE, before)
    assert (status, answer["reason"]) == (HTTPStatus.CONFLICT, "Conflict")


def test_what_is_not_there_is_neither_replaced_nor_deleted(server: ApiServer) -> None:
    for method in ("PUT", "DELETE", "GET"):
        status, answer = send(server, method, SLICE, endpoint_slice("pay"))
        assert (method, status, answer["reason"]) == (method, HTTPStatus.NOT_FOUND, "NotFound")


def found(server: ApiServer) -> Json:
    status, body = ask(server, SLICE, {})
    assert status == HTTPStatus.OK, body
    document: Json = json.loads(body)
    return document


def version(document: Json) -> int:
    return int(document["metadata"]["resourceVersion"])


def send(server: ApiServer, method: str, path: str, document: Json) -> tuple[int, Json]:
    """The answer to a request; only POST and PUT have a body."""
    body = json.dumps(document) if method in ("POST", "PUT") else None
    headers = server.headers | {"Content-Type": "application/json"}
    with closing(connect(server)) as connection:
        connection.request(method, path, body=body, headers=headers)
        response: http.client.HTTPResponse = connection.getresponse()
        return response.status, json.loads(response.read())
