"""Which documents does this YAML hold, and at which lines? Pure.

Read from the parser's events and not by PyYAML's loaders: those drop duplicate keys, make times of
timestamps and numbers of `1:2:3:4:5:6:7:8`, forget lines, and libyaml's composer crashes the
process on deep nesting. Scalars are told from text as in YAML 1.1, like kubectl tells them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from endpoints.unreadable import short
from proxy.parsing.malformed import Document, Malformed, completed, items_kind

_DEEPEST = 100
_LONGEST_INTEGER = 40
_MOST_ALIASED = 100_000
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_COLLECTION_TAGS = frozenset({None, "!", f"{_TAG}map", f"{_TAG}seq"})
_WORDS = "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_EXPONENT = r"[eE][-+]?[0-9]+"
_POINT = rf"[0-9][0-9_]*\.[0-9_]*({_EXPONENT})?|[0-9]+{_EXPONENT}|\.[0-9][0-9_]*"
_KINDS = (
    ("null", re.compile("~|null|Null|NULL|")),
    ("bool", re.compile(_WORDS)),
    ("int", re.compile("[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)")),
    ("float", re.compile(f"[-+]?({_POINT})")),
)
_FIRST = frozenset("~nNyYtTfFoO-+.0123456789")
"""Only text that begins like this, or is empty, may be anything but text."""
_TRUE = frozenset({"yes", "true", "on"})
_IN_OTHER_WORDS = {
    "mapping values are not allowed in this context": (
        "a colon where none can be: text with a colon at its end or before a space needs quotes"
    ),
    "did not find expected node content": "no value where one must be, or a bracket left open",
    "did not find expected key": "no key where one must be: is it indented as those above?",
    "found character that cannot start any token": (
        "a character that no plain text begins with: it needs quotes, or is a tab"
    ),
    "could not find expected ':'": "a key without a colon",
}
"""libyaml's words for what is most often wrong, and ours."""


def yaml_documents(
    data: bytes, forgiven: list[Malformed] | None = None
) -> Iterator[Document | Malformed]:
    """The documents, with the items of each `List` one by one; errors in their place.

    A duplicate key costs its document or item only, after a syntax error nothing follows. With a
    list for what is `forgiven` it costs nothing: the last value holds, and the list tells.
    """
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        events = yaml.parse(data, Loader=loader)
        for event in events:
            if isinstance(event, DocumentStartEvent):
                yield from _Document(events, forgiven).read()
    except Malformed as error:
        yield error
    except yaml.MarkedYAMLError as error:
        yield _malformed(error, data)
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        yield Malformed(line, f"a character that YAML forbids: {error.reason}")


def _malformed(error: yaml.MarkedYAMLError, data: bytes) -> Malformed:
    """Where and why the syntax is broken; a column is told where there is text in it."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "no YAML"
    reason = _IN_OTHER_WORDS.get(problem, problem)
    if mark is None:
        return Malformed(1, reason)
    last = data.count(b"\n", 0, len(data.rstrip())) + 1
    if mark.line >= last:  # the end is noticed behind it
        return Malformed(last, reason)
    return Malformed(mark.line + 1, f"column {mark.column + 1}: {reason}")


class _Document:
    """One document in the making."""

    def __init__(self, events: Iterator[Event], forgiven: list[Malformed] | None = None) -> None:
        self._events = events
        self._forgiven = forgiven
        self._anchors: dict[str, tuple[object, int]] = {}
        """What stands at each anchor, and how many values that is."""
        self._values = self._aliases = 0
        self._errors: list[Malformed] = []
        self._items: list[tuple[int, object, list[Malformed]]] | None = None

    def read(self) -> Iterator[Document | Malformed]:
        """Take the document's events. Raises Malformed where nothing after it can be read."""
        first = next(self._events)
        root = self._value(first, 0)
        kind = items_kind(root.get("kind")) if isinstance(root, dict) else None
        if kind is not None and self._items is not None and not self._errors:
            for line, item, errors in self._items:
                yield errors[0] if errors else (completed(kind, item), line)
            return
        errors = [*self._errors, *(e for _, _, found in self._items or () for e in found)]
        yield min(errors, key=lambda e: e.line) if errors else (root, _line(first))

    def _value(self, event: Event, depth: int) -> object:
        if isinstance(event, AliasEvent):
            return self._aliased(event)
        self._values += 1
        before = self._values
        if depth > _DEEPEST:
            raise Malformed(_line(event), "nested too deeply")
        value: object
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(depth)
        else:
            value = [self._value(item, depth + 1) for item in self._until(SequenceEndEvent)]
        if isinstance(event, CollectionStartEvent) and event.tag not in _COLLECTION_TAGS:
            self._errors.append(Malformed(_line(event), f"tag {event.tag} is not supported"))
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.anchor is not None:
            self._anchors[event.anchor] = value, self._values - before + 1
        return value

    def _until(self, end: type[Event]) -> Iterator[Event]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _aliased(self, event: AliasEvent) -> object:
        """What stands at the anchor; one that is still open contains the alias, or is none."""
        if event.anchor not in self._anchors:
            self._errors.append(Malformed(_line(event), f"alias *{event.anchor} of nothing before"))
            return None
        value, size = self._anchors[event.anchor]
        self._values += size
        self._aliases += size
        if self._aliases > _MOST_ALIASED:
            raise Malformed(_line(event), f"aliases stand for more than {_MOST_ALIASED:,} values")
        return value

    def _mapping(self, depth: int) -> dict[str, object]:
        fields: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key in self._until(MappingEndEvent):
            if not isinstance(key, ScalarEvent):
                raise Malformed(_line(key), "a key that is no text")
            value = next(self._events)
            if depth == 0 and key.value == "items" and isinstance(value, SequenceStartEvent):
                found: object = self._listed()
            else:
                found = self._value(value, depth + 1)
            if key.value == _MERGE and key.implicit[0]:
                merged = self._merged(found, _line(key)) | merged
                continue
            if key.value in fields:
                duplicate = Malformed(_line(key), f"duplicate key {key.value}")
                if self._forgiven is None:
                    self._errors.append(duplicate)
                    continue
                self._forgiven.append(duplicate)
            fields[key.value] = found
        return merged | fields if merged else fields

    def _listed(self) -> list[object]:
        """The items of what may be a list: each with its line, and errors of its own."""
        outside, self._items = self._errors, []
        for item in self._until(SequenceEndEvent):
            self._errors = []
            value = self._value(item, 2)
            self._items.append((_line(item), value, self._errors))
        self._errors = outside
        return [value for _, value, _ in self._items]

    def _merged(self, value: object, line: int) -> dict[str, object]:
        """What `<<` brings: a mapping, or several of which the earlier wins."""
        merged: dict[str, object] = {}
        for source in reversed(value if isinstance(value, list) else [value]):
            if isinstance(source, dict):
                merged |= source
            else:
                self._errors.append(Malformed(line, "<< merges mappings only"))
        return merged

    def _scalar(self, event: ScalarEvent) -> object:
        text: str = event.value
        if event.tag is not None:
            kind = event.tag.removeprefix(_TAG)
        elif event.implicit[0] and (not text or text[0] in _FIRST):
            kind = next((kind for kind, rule in _KINDS if rule.fullmatch(text)), "str")
        else:
            return text
        try:
            return _plain(kind, text)
        except ValueError:
            self._errors.append(Malformed(_line(event), f"{short(text)!r} is not of type {kind}"))
        except LookupError:
            self._errors.append(Malformed(_line(event), f"tag {event.tag} is not supported"))
        return None


def _plain(kind: str, text: str) -> object:
    """The value of a scalar. Raises ValueError for another kind's text, LookupError otherwise."""
    match kind:
        case "str" | "!":
            return text
        case "int":
            return _integer(text.replace("_", ""))
        case "bool":
            return text.lower() in _TRUE
        case "null":
            return None
        case "float":
            return float(text.replace("_", ""))
    raise LookupError(kind)


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(digits)
    unsigned = digits.lstrip("+-")
    if unsigned.startswith("0") and unsigned.isdigit():
        return int(digits, 8)
    return int(digits, 0)


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
