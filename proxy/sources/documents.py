"""Which documents does a manifest file hold, and at which lines? Pure.

YAML becomes plain values here instead of in PyYAML's constructor, for what that does not do: refuse
duplicate keys, keep timestamps and `1:2:3:4:5:6:7:8` as the text they are, remember lines, and
refuse aliases that contain themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Document = tuple[object, int]
"""A value of dicts, lists, text, numbers, booleans and None, and the line where it starts."""


class Malformed(Exception):
    """This part of the file cannot be understood."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def documents(data: bytes, *, is_json: bool) -> Iterator[Document | Malformed]:
    """The documents of a file, with the items of each `List` one by one; errors in their place.

    After a syntax error nothing more follows; after a document with a duplicate key the next one.
    """
    if is_json or data.lstrip().startswith(b"{"):
        found = list(_json(data))
        if is_json or not any(isinstance(item, Malformed) for item in found):
            yield from found
            return
    yield from _yaml(data)


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
    if head.items is None or not (head.kind or "").endswith("List"):
        yield msgspec.json.decode(document), line
        return
    position = 0
    inherited = _inherited(head.kind)
    for item in head.items:
        start = document.index(bytes(item), position)
        line += document.count(b"\n", position, start)
        value = msgspec.json.decode(item)
        yield (inherited | value if isinstance(value, dict) else value), line
        position = start + len(bytes(item))
        line += document.count(b"\n", start, position)


def _inherited(kind: str | None) -> dict[str, object]:
    """What the items of a ServiceList leave unsaid: that they are Services."""
    of = (kind or "").removesuffix("List")
    return {"kind": of} if of else {}


def _malformed_json(error: Exception, data: bytes, line: int) -> Malformed:
    if isinstance(error, RecursionError):
        return Malformed(line, "nested too deeply")
    offset = _BYTE.search(str(error))
    end = int(offset[1]) if offset else len(data)
    reason = _BYTE.sub("", str(error)).removeprefix("JSON is malformed: ")
    return Malformed(line + data.count(b"\n", 0, end), f"JSON: {reason}")


_INTEGER = r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)"
_DECIMAL = (
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9][0-9_]*)"
)
_BOOLEAN = "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_TRUE = frozenset({"yes", "true", "on"})
_TAG = "tag:yaml.org,2002:"
_RULES = (
    ("bool", f"(?:{_BOOLEAN})$", "yYnNtTfFoO"),
    ("int", f"(?:{_INTEGER})$", "-+0123456789"),
    ("float", f"(?:{_DECIMAL})$", "-+0123456789."),
    ("null", "(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", "(?:<<)$", "<"),
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # libyaml, where PyYAML was built with it
    """Tells text from numbers as YAML 1.1 does, without its timestamps and base 60."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML reads this name of the class)
        first: [(_TAG + tag, re.compile(rule)) for tag, rule, firsts in _RULES if first in firsts]
        for first in {first for _, _, firsts in _RULES for first in firsts}
    }


def _yaml(data: bytes) -> Iterator[Document | Malformed]:
    try:
        for node in yaml.compose_all(data, Loader=_Loader):
            yield from _values(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "not YAML"
        yield Malformed(mark.line + 1 if mark else 1, reason)
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        yield Malformed(line, f"a character that YAML forbids: {error.reason}")
    except RecursionError:
        yield Malformed(1, "nested too deeply")


def _values(document: Node) -> Iterator[Document | Malformed]:
    inherited, nodes = _listed(document)
    for node in nodes:
        try:
            value = _Values().plain(node)
            line = node.start_mark.line + 1
            yield (inherited | value if isinstance(value, dict) else value), line
        except Malformed as error:
            yield error


def _listed(document: Node) -> tuple[dict[str, object], Iterable[Node]]:
    """The document, or the items of the list that it is, and what they leave unsaid."""
    if not isinstance(document, MappingNode):
        return {}, (document,)
    fields = {key.value: value for key, value in document.value if isinstance(key, ScalarNode)}
    kind, items = fields.get("kind"), fields.get("items")
    if not isinstance(kind, ScalarNode) or not kind.value.endswith("List"):
        return {}, (document,)
    if not isinstance(items, SequenceNode) or len(fields) < len(document.value):
        return {}, (document,)
    return _inherited(kind.value), items.value


class _Values:
    """Plain values of the nodes of one document; what an alias repeats is made once."""

    def __init__(self) -> None:
        self._made: dict[Node, object] = {}
        self._open: set[Node] = set()

    def plain(self, node: Node) -> object:
        """The value of a node. Raises Malformed."""
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if node in self._made:
            return self._made[node]
        if node in self._open:
            raise Malformed(node.start_mark.line + 1, "an alias that contains itself")
        self._open.add(node)
        value: object
        if isinstance(node, MappingNode):
            value = self._mapping(node)
        else:
            value = [self.plain(item) for item in node.value]
        self._open.discard(node)
        self._made[node] = value
        return value

    def _mapping(self, node: MappingNode) -> dict[str, object]:
        fields: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise Malformed(line, "a key that is no text")
            if key.tag == _TAG + "merge":
                merged = self._merged(value) | merged
                continue
            if key.value in fields:
                raise Malformed(line, f"duplicate key {key.value}")
            fields[key.value] = self.plain(value)
        return merged | fields if merged else fields

    def _merged(self, node: Node) -> dict[str, object]:
        """What `<<` brings: a mapping, or several of which the earlier wins."""
        value = self.plain(node)
        sources = value if isinstance(value, list) else [value]
        merged: dict[str, object] = {}
        for source in reversed(sources):
            if not isinstance(source, dict):
                raise Malformed(node.start_mark.line + 1, "<< merges mappings only")
            merged |= source
        return merged


def _scalar(node: ScalarNode) -> object:
    text: str = node.value
    tag = node.tag.removeprefix(_TAG)
    try:
        match tag:
            case "str":
                return text
            case "int":
                return _integer(text)
            case "bool":
                return text.lower() in _TRUE
            case "null":
                return None
            case "float":
                return float(text.replace("_", ""))
    except ValueError:
        raise Malformed(node.start_mark.line + 1, f"{text!r} is not of type {tag}") from None
    raise Malformed(node.start_mark.line + 1, f"tag {node.tag} is not supported")


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    unsigned = digits.lstrip("+-")
    if unsigned.startswith("0") and unsigned.isdigit():
        return int(digits, 8)
    return int(digits, 0)
