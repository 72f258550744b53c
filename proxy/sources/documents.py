"""Which documents does a manifest file hold, and at which lines? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from proxy.sources.malformed import Document, Malformed, completed, items_kind
from proxy.sources.yaml_documents import yaml_documents


def documents(data: bytes, *, is_json: bool) -> Iterator[Document | Malformed]:
    """The documents of a file, with the items of each `List` one by one; errors in their place.

    After a syntax error nothing more follows; after a document with a duplicate key the next one.
    """
    if is_json or data.lstrip().startswith(b"{"):
        found = list(_json(data))
        if is_json or not any(isinstance(item, Malformed) for item in found):
            yield from found
            return
    yield from yaml_documents(data)


class _Head(msgspec.Struct):
    """As much of a JSON document as tells whether it is a list; its items stay bytes."""

    kind: str | None = None
    items: list[msgspec.Raw] | None = None


_TRAILING = "trailing characters"
_BYTE = re.compile(r" \(byte (\d+)\)$")


def _json(data: bytes) -> Iterator[Document | Malformed]:
    """One document or several, one after the other."""
    position = 0
    line = 1
    while rest := data[position:].strip():
        start = data.index(rest[:1], position)
        line += data.count(b"\n", position, start)
        try:
            end = _end_of_json(rest)
            yield from _items(rest[:end], line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield _malformed_json(error, rest, line)
            return
        line += rest.count(b"\n", 0, end)
        position = start + end


def _end_of_json(data: bytes) -> int:
    """Where the first document ends: msgspec says so when it refuses what follows."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        offset = _BYTE.search(str(error))
        if _TRAILING not in str(error) or offset is None:
            raise
        return int(offset[1]) - 1  # it counts the byte that it refused
    return len(data)


def _items(document: bytes, line: int) -> Iterator[Document]:
    """The document, or the items of the list that it is; one item at a time is in memory."""
    try:
        head = msgspec.json.decode(document, type=_Head)
    except msgspec.ValidationError:
        head = _Head()
    inherited = items_kind(head.kind)
    if head.items is None or inherited is None:
        yield msgspec.json.decode(document), line
        return
    position = 0
    for item in head.items:
        start = document.index(bytes(item), position)
        line += document.count(b"\n", position, start)
        yield completed(inherited, msgspec.json.decode(item)), line
        position = start + len(bytes(item))
        line += document.count(b"\n", start, position)


def _malformed_json(error: Exception, data: bytes, line: int) -> Malformed:
    if isinstance(error, RecursionError):
        return Malformed(line, "nested too deeply")
    offset = _BYTE.search(str(error))
    end = int(offset[1]) if offset else len(data)
    reason = _BYTE.sub("", str(error)).removeprefix("JSON is malformed: ")
    return Malformed(line + data.count(b"\n", 0, end), f"JSON: {reason}")
