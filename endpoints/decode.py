"""Which objects do these bytes stand for? Pure.

Lists and watch events of the API server, straight from their bytes, become validated objects
(`endpoints.validate`). What cannot be read costs itself and nothing else: it becomes one `Problem`
that names object, field, value and reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar, cast

import msgspec

from endpoints.events import Delete, Problem, Upsert
from endpoints.mended import decoded
from endpoints.names import ObjectName
from endpoints.objects import EndpointSlice, Kind, KubernetesObject, Node, Service, name_of
from endpoints.unreadable import Unreadable, explained, short
from endpoints.validate import Refused, Shared, accept_node, accept_service, accept_slice

T = TypeVar("T")

TYPE_OF: Mapping[Kind, type[KubernetesObject]] = {
    Kind.SERVICE: Service,
    Kind.ENDPOINT_SLICE: EndpointSlice,
    Kind.NODE: Node,
}
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a watch (KEP-3157)."""


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    objects: tuple[KubernetesObject, ...]
    unreadable: frozenset[ObjectName]
    """Objects that exist but were refused."""
    problems: tuple[Problem, ...]
    resource_version: str = ""
    continue_token: str = ""
    """Not empty: there are more pages."""
    remaining: int | None = None


class Watched(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    """ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, or one that is newer than this program."""
    event: Upsert | Delete | None = None
    name: ObjectName | None = None
    """Of the object, if it is told; known even of one that was refused."""
    resource_version: str = ""
    problem: Problem | None = None
    code: int = 0
    """Of an ERROR: the HTTP status, 410 when the resource version is too old."""
    message: str = ""
    initial_events_end: bool = False


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class _List(msgspec.Struct, Generic[T]):
    kind: str = ""
    metadata: _ListMeta | None = None
    items: list[T] | None = None


class _WatchLine(msgspec.Struct):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class LooseMeta(msgspec.Struct, rename="camel"):
    """Metadata of an object whose other fields may be anything."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Loose(msgspec.Struct):
    metadata: LooseMeta


class _Status(msgspec.Struct):
    """`metav1.Status`, the object of an ERROR."""

    code: int = 0
    reason: str = ""
    message: str = ""


_LISTS: Mapping[Kind, msgspec.json.Decoder[_List[KubernetesObject]]] = {
    kind: cast(
        "msgspec.json.Decoder[_List[KubernetesObject]]",
        msgspec.json.Decoder(_List[of]),  # type: ignore[valid-type]
    )
    for kind, of in TYPE_OF.items()
}
_OBJECTS: Mapping[Kind, msgspec.json.Decoder[KubernetesObject]] = {
    kind: cast("msgspec.json.Decoder[KubernetesObject]", msgspec.json.Decoder(of))
    for kind, of in TYPE_OF.items()
}
_RAW_LIST = msgspec.json.Decoder(_List[msgspec.Raw])
_LINE = msgspec.json.Decoder(_WatchLine)
_HEADS = tuple((of, b'{"type":"%b","object":' % of.encode()) for of in ("MODIFIED", "ADDED"))
"""How the lines begin that tell an object; it ends one brace before the line does."""
_LOOSE = msgspec.json.Decoder(_Loose)
_STATUS = msgspec.json.Decoder(_Status)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, no UTF-8, or nested without end."""


def decode_list(data: bytes, kind: Kind) -> Page:
    """The objects of a list of one kind, as the API server answers a GET.

    Raises msgspec.DecodeError (ValidationError is one) only if the list itself cannot be read, or
    is none: an answer that merely lacks objects must not be taken for an empty cluster.
    """
    collected = Collected()
    try:
        page = _LISTS[kind].decode(data)
    except _UNREADABLE:
        # Somewhere in there is a bad object. As raw bytes each stands and falls alone.
        raw = _raw_list(data)
        _require_list(raw.kind, raw.metadata, kind)
        for item in raw.items or ():
            collected.add_bytes(item, kind)
        return collected.page(raw.metadata)
    _require_list(page.kind, page.metadata, kind)
    for obj in page.items or ():
        collected.add(obj, kind)
    return collected.page(page.metadata)


def _raw_list(data: bytes) -> _List[msgspec.Raw]:
    try:
        return decoded(_RAW_LIST, data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _require_list(found: str, meta: _ListMeta | None, kind: Kind) -> None:
    if found != f"{kind}List":
        raise msgspec.ValidationError(f"its kind is {short(found) or 'not told'}, not {kind}List")
    if meta is None or meta.resource_version in ("", "0"):
        raise msgspec.ValidationError("it tells no resourceVersion")


def decode_watch(line: bytes, kind: Kind, shared: Shared | None = None) -> Watched:
    """One line of a watch of one kind. Raises msgspec.DecodeError if it is no watch event.

    `shared` is common to the lines that together are a list.
    """
    shared = shared or Shared({})
    if (told := _read_at_once(line, kind)) is not None:
        return _accepted(*told, kind, shared)
    try:
        event = decoded(_LINE, line)
        match event.type:
            case "ADDED" | "MODIFIED":
                return _changed(event, kind, shared)
            case "DELETED":
                return _gone(event, kind)
            case "BOOKMARK":
                meta = _LOOSE.decode(event.object).metadata
                end = (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true"
                version = meta.resource_version
                return Watched(event.type, resource_version=version, initial_events_end=end)
            case "ERROR":
                status = _STATUS.decode(event.object)
                message = status.message or status.reason
                return Watched(event.type, code=status.code, message=message)
            case _:
                return Watched(event.type)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


class Collected:
    """The page in the making."""

    def __init__(self) -> None:
        self.objects: list[KubernetesObject] = []
        self.unreadable: set[ObjectName] = set()
        self.problems: list[Problem] = []
        self.shared = Shared({})

    def add(self, obj: KubernetesObject, kind: Kind, place: str = "") -> None:
        """An object, still to be validated; the place leads the subject of its problems."""
        try:
            problem = _accept(obj, self.shared, kind, place)
        except Unreadable as unreadable:
            self.refuse(unreadable)
        else:
            self.objects.append(obj)
            if problem is not None:
                self.problems.append(problem)

    def add_bytes(self, data: msgspec.Raw, kind: Kind) -> None:
        """An object as JSON."""
        try:
            obj = _object(data, kind)
        except Unreadable as unreadable:
            self.refuse(unreadable)
        else:
            self.add(obj, kind)

    def refuse(self, unreadable: Unreadable) -> None:
        """An object that cannot be read."""
        self.problems.append(unreadable.problem)
        if unreadable.name is not None:
            self.unreadable.add(unreadable.name)

    def page(self, meta: _ListMeta | None) -> Page:
        """All of them."""
        meta = meta or _ListMeta()
        return Page(
            objects=tuple(self.objects),
            unreadable=frozenset(self.unreadable),
            problems=tuple(self.problems),
            resource_version=meta.resource_version,
            continue_token=meta.continue_,
            remaining=meta.remaining_item_count,
        )


def _accept(obj: KubernetesObject, shared: Shared, kind: Kind, place: str = "") -> Problem | None:
    """Validate in place; the problem is about endpoints or annotations that an object lost."""
    left_out: list[Refused] = []
    fate = "this endpoint is left out"
    try:
        match obj:
            case Service():
                left_out = accept_service(obj)
                fate = "the Service is served without it"
            case EndpointSlice():
                left_out = accept_slice(obj, shared)
            case Node():
                accept_node(obj)
    except Refused as refused:
        subject = f"{place}{kind} {name_of(obj)}"
        problem = Problem(subject, refused.field, short(refused.value), refused.reason)
        raise Unreadable(problem, name_of(obj)) from None
    if not left_out:
        return None
    first, more = left_out[0], len(left_out) - 1
    also = f", and {more} more like it" * bool(more)
    reason = f"{first.reason}; {fate}{also}"
    return Problem(f"{place}{kind} {name_of(obj)}", first.field, short(first.value), reason)


def _read_at_once(line: bytes, kind: Kind) -> tuple[str, KubernetesObject] | None:
    """Type and object of a line as API servers spell it, which is walked through only once then.

    None: it is another kind of line, is spelled otherwise, or its object cannot be read.
    """
    for told, head in _HEADS:
        if line.startswith(head) and line.endswith(b"}"):
            try:
                return told, _OBJECTS[kind].decode(memoryview(line)[len(head) : -1])
            except _UNREADABLE:
                return None
    return None


def _changed(event: _WatchLine, kind: Kind, shared: Shared) -> Watched:
    """ADDED or MODIFIED; the resource version is kept even of an object that is refused."""
    try:
        obj = _object(event.object, kind)
    except Unreadable as unreadable:
        version = _loose(event.object).resource_version
        return Watched(event.type, None, unreadable.name, version, unreadable.problem)
    return _accepted(event.type, obj, kind, shared)


def _accepted(told: str, obj: KubernetesObject, kind: Kind, shared: Shared) -> Watched:
    version = obj.metadata.resource_version
    try:
        problem = _accept(obj, shared, kind)
    except Unreadable as unreadable:
        return Watched(told, None, unreadable.name, version, unreadable.problem)
    return Watched(told, Upsert(obj), name_of(obj), version, problem)


def _gone(event: _WatchLine, kind: Kind) -> Watched:
    """The last state is not looked at: an object goes even if it cannot be read."""
    meta = _LOOSE.decode(event.object).metadata
    name = name_in(meta, kind)
    if name is None:
        raise msgspec.ValidationError("a DELETED event names no object")
    return Watched(event.type, Delete(kind, name), name, meta.resource_version)


def _object(data: msgspec.Raw, kind: Kind) -> KubernetesObject:
    try:
        return _OBJECTS[kind].decode(data)
    except _UNREADABLE as error:
        name = name_in(_loose(data), kind)
        subject = f"{kind} {name or '(no name)'}"
        raise Unreadable(explained(error, subject, _parsed(data)), name) from None


def _loose(data: msgspec.Raw) -> LooseMeta:
    try:
        return _LOOSE.decode(data).metadata
    except _UNREADABLE:
        return LooseMeta()


def _parsed(data: msgspec.Raw) -> object:
    """The object as it was written, to quote a value from it; None if it is no JSON at all."""
    try:
        return msgspec.json.decode(data)
    except _UNREADABLE:
        return None


def name_in(meta: LooseMeta, kind: Kind) -> ObjectName | None:
    """The name that metadata tells; None if there is none."""
    if not meta.name:
        return None
    return ObjectName("" if kind is Kind.NODE else meta.namespace or "default", meta.name)
