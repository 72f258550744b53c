"""What does an API server answer to who creates, replaces or deletes an object?

As the real one does: a name is taken once, what is replaced or deleted must be there, and a
replacement that names a version must name the last one. What an object says is not looked at.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from tests.apiserver.requests import Place, Refusal, named_in
from tests.apiserver.store import Json, Store


def created(store: Store, path: str, document: Json) -> tuple[int, bytes]:
    """Status and body for a POST. Raises Refusal."""
    place, name = Place.parse(path), named_in(document)
    with store.changed:
        if store.holds(place.kind, name):
            raise _refusal(HTTPStatus.CONFLICT, "AlreadyExists", name.name)
        return HTTPStatus.CREATED, store.put(_typed(place, document)).body


def replaced(store: Store, path: str, document: Json) -> tuple[int, bytes]:
    """Status and body for a PUT. Raises Refusal."""
    place = Place.parse(path)
    with store.changed:
        _require(store, place)
        last = str(store.get(place.kind, place.name).revision)
        if document["metadata"].get("resourceVersion", last) != last:
            raise _refusal(HTTPStatus.CONFLICT, "Conflict", place.name.name)
        return HTTPStatus.OK, store.put(_typed(place, document)).body


def deleted(store: Store, path: str) -> tuple[int, bytes]:
    """Status and body for a DELETE. Raises Refusal."""
    place = Place.parse(path)
    with store.changed:
        _require(store, place)
        store.delete(place.kind, place.name)
    done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return HTTPStatus.OK, json.dumps(done).encode()


def _typed(place: Place, document: Json) -> Json:
    return {"kind": place.kind, "apiVersion": place.api_version} | document


def _require(store: Store, place: Place) -> None:
    if not store.holds(place.kind, place.name):
        raise _refusal(HTTPStatus.NOT_FOUND, "NotFound", place.name.name)


def _refusal(status: int, reason: str, name: str) -> Refusal:
    return Refusal(status, reason, f"{name!r}: {reason}")
