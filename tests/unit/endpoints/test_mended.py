"""Is only that mended which nobody could read?"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.mended import DEEPEST, decoded, mended

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda i: st.lists(i) | st.dictionaries(st.text(), i),
)


@given(_json, st.booleans())
def test_what_can_be_read_stays_as_it_is(value: object, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    if b"\\ud" not in data.lower() and b"\xed" not in data:
        assert mended(data) == data


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (rb'"a\ud83d\ude00b"', "a\U0001f600b"),
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"a\ude00b"', "a\ufffdb"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', r"\ud83d"),
    ],
)
def test_half_of_a_character_is_as_go_reads_it(text: bytes, meaning: str) -> None:
    assert msgspec.json.decode(mended(text)) == meaning


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1, 50_000])
def test_what_is_too_deep_is_null_and_nothing_else_is(levels: int) -> None:
    deep = b'{"a":' * levels + b'"]"' + b"}" * levels
    decoder = msgspec.json.Decoder(dict[str, object])
    value = decoded(decoder, b'{"before": "[[[", "deep": ' + deep + b', "after": 1}')
    assert (value["before"], value["after"]) == ("[[[", 1)
    depth, inner = 0, value["deep"]
    while isinstance(inner, dict):
        depth, inner = depth + 1, inner["a"]
    kept = {DEEPEST: DEEPEST, DEEPEST + 1: DEEPEST + 1}  # few enough to be read as they are
    assert (depth, inner) == ((kept[levels], "]") if levels in kept else (DEEPEST - 1, None))


def test_what_never_ends_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decoded(msgspec.json.Decoder(), b"[" * 50_000)
