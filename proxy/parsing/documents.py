"""Which documents does a manifest file hold, and at which lines? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from proxy.parsing.malformed import Document, Malformed, completed, items_kind
from proxy.parsing.yaml_documents import yaml_documents

_TRAILING = "trailing characters"
_BYTE = re.compile(r" \(byte (\d+)\)$")
_SPACE = re.compile(rb"\s*")
_JSON_OBJECT = re.compile(rb"\s*\{")


def documents(data: bytes, *, is_json: bool) -> Iterator[Document | Malformed]:
    """The documents of a file, with the items of each `List` one by one; errors in their place.

    After a syntax error nothing more follows; after a document with a duplicate key the next one.
    One document of a JSON list is in memory at a time.
    """
    if is_json or _JSON_OBJECT.match(data):
        spans, error = _spans(data)
        if is_json or error is None:
            for start, end in spans:
                yield from _items(data, start, end)
            if error is not None:
                yield error
            return
    yield from yaml_documents(data)


def _spans(data: bytes) -> tuple[list[tuple[int, int]], Malformed | None]:
    """Where JSON documents start and end, and why there are no more, if that is no end."""
    spans: list[tuple[int, int]] = []
    view = memoryview(data)
    start = _behind_space(data, 0)
    while start < len(data):
        try:
            end = start + _length(view[start:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return spans, _malformed(error, data, start)
        spans.append((start, end))
        start = _behind_space(data, end)
    return spans, None


def _behind_space(data: bytes, position: int) -> int:
    found = _SPACE.match(data, position)
    return found.end() if found else position


def _length(data: memoryview) -> int:
    """How long the first document is: msgspec says so when it refuses what follows."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        offset = _BYTE.search(str(error))
        if _TRAILING not in str(error) or offset is None:
            raise
        return int(offset[1]) - 1  # it counts the byte that it refused
    return len(data)


class _Head(msgspec.Struct):
    """As much of a JSON document as tells whether it is a list; its items stay bytes."""

    kind: str | None = None
    items: list[msgspec.Raw] | None = None


def _items(data: bytes, start: int, end: int) -> Iterator[Document | Malformed]:
    """The document, or the items of the list that it is."""
    view = memoryview(data)[start:end]
    line = data.count(b"\n", 0, start) + 1
    try:
        head = msgspec.json.decode(view, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = _Head()  # what is wrong with it is told below
    inherited = items_kind(head.kind)
    items: Iterable[msgspec.Raw | memoryview] = (view,)
    if inherited is not None and head.items is not None:
        items = head.items
    behind = start
    for item in items:
        found = data.index(item, behind)
        line += data.count(b"\n", start, found)
        try:
            yield completed(inherited or {}, msgspec.json.decode(item)), line
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield _malformed(error, data, found)
        start, behind = found, found + len(memoryview(item))


def _malformed(error: Exception, data: bytes, start: int) -> Malformed:
    """The refusal of a document that starts there."""
    line = data.count(b"\n", 0, start) + 1
    if isinstance(error, RecursionError):
        return Malformed(line, "nested too deeply")
    offset = _BYTE.search(str(error))
    end = start + int(offset[1]) if offset else len(data.rstrip())
    reason = _BYTE.sub("", str(error)).removeprefix("JSON is malformed: ")
    return Malformed(line + data.count(b"\n", start, end), f"JSON: {reason}")
