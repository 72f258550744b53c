"""Which objects do parsed documents of manifest files stand for? Pure.

As `endpoints.decode` does with what an API server sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from endpoints.decode import TYPE_OF, Collected, LooseMeta, Page, name_in
from endpoints.events import Problem
from endpoints.names import ObjectName
from endpoints.objects import Kind, KubernetesObject
from endpoints.unreadable import Unreadable, explained, short

_API_VERSIONS: Mapping[str, str] = {
    Kind.SERVICE: "v1",
    Kind.ENDPOINT_SLICE: "discovery.k8s.io/v1",
    Kind.NODE: "v1",
}
_LIST_KINDS = frozenset({"List", *(f"{kind}List" for kind in Kind)})


def from_documents(
    documents: Iterable[tuple[object, str]],
) -> tuple[tuple[KubernetesObject, ...], tuple[Problem, ...]]:
    """The objects of parsed YAML or JSON documents, and what was wrong with the others.

    See `read_documents`, which also names the objects that were refused.
    """
    page = read_documents(documents)
    return page.objects, page.problems


def read_documents(documents: Iterable[tuple[object, str]]) -> Page:
    """The objects of parsed YAML or JSON documents.

    Each document comes with the subject of its problems, like `pay.yaml:12`. A `List`, or a list
    of one kind, counts as its items; empty documents and other kinds are left out.
    """
    collected = Collected()
    for document, subject in documents:
        for item, place in _flattened(document, subject):
            _add(collected, item, place)
    return collected.page(None)


def _add(collected: Collected, document: object, place: str) -> None:
    try:
        found = _converted(document, place)
    except Unreadable as unreadable:
        collected.refuse(unreadable)
    else:
        if found is not None:
            obj, kind = found
            collected.add(obj, kind, f"{place}: ")


def _flattened(document: object, subject: str) -> Iterator[tuple[object, str]]:
    """The document, or the items of the list that it is, each with its subject."""
    match document:
        case None:
            return
        case {"kind": str(kind), "items": items} if kind in _LIST_KINDS:
            if items is not None and not isinstance(items, list):
                yield document, subject
                return
            inherited = {"kind": kind.removesuffix("List")} if kind != "List" else {}
            for number, item in enumerate(items or ()):
                typed = {**inherited, **item} if isinstance(item, dict) else item
                yield from _flattened(typed, f"{subject} items[{number}]")
        case _:
            yield document, subject


def _converted(document: object, place: str) -> tuple[KubernetesObject, Kind] | None:
    """The object of a parsed document; None if it is of a kind that is not read."""
    if not isinstance(document, dict):
        raise Unreadable(Problem(place, "", short(document), "is no Kubernetes object"), None)
    kind_name = document.get("kind")
    if not kind_name or not isinstance(kind_name, str):
        raise Unreadable(Problem(place, "kind", short(kind_name or ""), "is required"), None)
    if kind_name in _LIST_KINDS:
        problem = Problem(place, "items", short(document.get("items", "")), "must be a list")
        raise Unreadable(problem, None)
    if kind_name not in _API_VERSIONS:
        return None
    kind = Kind(kind_name)
    wanted, given = _API_VERSIONS[kind], short(document.get("apiVersion") or _API_VERSIONS[kind])
    if given.rpartition("/")[0] != wanted.rpartition("/")[0]:
        return None  # a kind of this name in another API group, like Knative's Service
    meta = document.get("metadata")
    if isinstance(meta, dict):
        document = {**document, "metadata": {key: _text(value) for key, value in meta.items()}}
    name = _document_name(meta, kind)
    subject = f"{place}: {kind} {name or '(no name)'}"
    if given != wanted:
        raise Unreadable(Problem(subject, "apiVersion", given, f"must be {wanted}"), name)
    try:
        return msgspec.convert(document, TYPE_OF[kind]), kind
    except msgspec.ValidationError as error:
        raise Unreadable(explained(error, subject, document), name) from None


def _document_name(meta: object, kind: Kind) -> ObjectName | None:
    try:
        return name_in(msgspec.convert(meta, LooseMeta, strict=False), kind)
    except msgspec.ValidationError:
        return None


def _text(value: object) -> object:
    """YAML reads an unquoted timestamp as a time; the API spells times as text, in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value
