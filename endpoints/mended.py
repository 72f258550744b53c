"""What can be read of JSON that is right, but that the decoder takes for wrong? Pure.

One such object must not make the list that it is in unreadable. Go's decoder, by which Kubernetes
reads JSON, takes both: half of a surrogate pair counts as U+FFFD, and nesting may be 10,000 deep.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

DEEPEST = 100
"""What is nested deeper is null: no field that is read is."""
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What these bytes stand for, mended if need be.

    Raises msgspec.DecodeError, and UnicodeDecodeError.
    """
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return decoder.decode(mended(data))


def mended(data: bytes) -> bytes:
    """The same JSON without halves of surrogate pairs, and of bounded depth."""
    return _shallow(_ESCAPE.sub(lambda m: rb"\ufffd" if m["half"] else m[0], data))


def _shallow(data: bytes) -> bytes:
    parts: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(data):
        if token[0] in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                parts += (data[start : token.start()], b"null")
        elif token[0] in b"]}":
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    return b"".join(parts) + (data[start:] if depth <= DEEPEST else b"")
