"""Which documents does a manifest file hold, and at which lines?"""

from __future__ import annotations

import pytest

from proxy.parsing.documents import documents
from proxy.parsing.malformed import Document, Malformed


def read(text: str, *, is_json: bool = False) -> list[Document]:
    found = list(documents(text.encode(), is_json=is_json))
    assert not [item for item in found if isinstance(item, Malformed)]
    return [item for item in found if not isinstance(item, Malformed)]


def refusals(data: bytes, *, is_json: bool = False) -> list[tuple[int, str]]:
    found = documents(data, is_json=is_json)
    return [(item.line, item.reason) for item in found if isinstance(item, Malformed)]


def value(text: str) -> object:
    [(found, _)] = read(f"v: {text}")
    assert isinstance(found, dict)
    return found["v"]


def test_documents_know_the_lines_they_start_at() -> None:
    assert read("a: 1\n---\n# a remark\nb: 2\n---\n\n\nc: 3\n") == [
        ({"a": 1}, 1),
        ({"b": 2}, 4),
        ({"c": 3}, 8),
    ]


def test_items_of_a_list_come_one_by_one_with_their_lines() -> None:
    assert read("kind: List\nitems:\n- {kind: Service}\n- kind: Node\n") == [
        ({"kind": "Service"}, 3),
        ({"kind": "Node"}, 4),
    ]


def test_items_of_a_list_of_one_kind_are_of_that_kind() -> None:
    assert read("kind: ServiceList\nitems:\n- {a: 1}\n") == [({"kind": "Service", "a": 1}, 3)]
    text = '{"kind": "NodeList", "items": [\n{"a": 1},\n\n{"a": 1}]}'
    assert read(text, is_json=True) == [
        ({"kind": "Node", "a": 1}, 2),
        ({"kind": "Node", "a": 1}, 4),
    ]


def test_json_may_hold_several_documents() -> None:
    assert read('{"a": 1}\n{"b":\n[2]}\n\n{"c": 3}\n', is_json=True) == [
        ({"a": 1}, 1),
        ({"b": [2]}, 2),
        ({"c": 3}, 5),
    ]


def test_json_is_recognised_without_its_suffix_and_yaml_may_look_like_it() -> None:
    assert read('\n {"a": 1}') == [({"a": 1}, 2)]
    assert read("{a: b}") == [({"a": "b"}, 1)]


def test_a_json_document_with_items_that_is_no_list_stays_whole() -> None:
    assert read('{"kind": "Thing", "items": [1]}', is_json=True) == [
        ({"kind": "Thing", "items": [1]}, 1)
    ]
    assert read('{"kind": "List", "items": 5}', is_json=True) == [({"kind": "List", "items": 5}, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", 80),
        ("-5", -5),
        ("0x1f", 31),
        ("010", 8),
        ("08", "08"),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("'80'", "80"),
        ("eu-1a", "eu-1a"),
        ("10.96.7.7", "10.96.7.7"),
        # PyYAML's own loader makes a time of the first and a number to base 60 of the others.
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("12:30", "12:30"),
        ("!!str 80", "80"),
        ("[1, a]", [1, "a"]),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("1: a\ntrue: b\n") == [({"1": "a", "true": "b"}, 1)]


def test_aliases_and_merges() -> None:
    assert read("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n") == [
        ({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}, 1)
    ]


def test_the_earlier_of_several_merged_mappings_wins() -> None:
    text = "a: &x {k: 1}\nb: &y {k: 2, l: 2}\nc: {<<: [*x, *y]}\n"
    assert read(text)[0][0] == {
        "a": {"k": 1},
        "b": {"k": 2, "l": 2},
        "c": {"k": 1, "l": 2},
    }


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (found,) = documents("\n".join(lines).encode(), is_json=False)
    assert isinstance(found, Malformed)
    assert (found.line, found.reason) == (5, "aliases stand for more than 100,000 values")


def test_a_number_without_end_is_no_number() -> None:
    (found,) = documents(b"port: 0x" + b"F" * 5000, is_json=False)
    assert isinstance(found, Malformed)
    assert "is not of type int" in found.reason
    assert len(found.reason) < 200


def test_json_that_is_no_text() -> None:
    (found,) = documents(b'{"kind": "Service\xff"}', is_json=True)
    assert isinstance(found, Malformed)
    assert found.line == 1


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "duplicate key c"),
        ("a: &x\n- *x\n", 2, "alias *x of nothing before"),
        ("a: *y\n", 1, "alias *y of nothing before"),
        ("a: 1\nb: !secret x\n", 2, "tag !secret is not supported"),
        ("a: !x {b: 1}\n", 1, "tag !x is not supported"),
        ("a: 1\n[1]: 2\n", 2, "a key that is no text"),
        ("a: 1\n<<: 5\n", 2, "<< merges mappings only"),
        ("a: 1\nb: !!int x\n", 2, "'x' is not of type int"),
        ("a: 1\n\tb: 2\n", 2, "column 1: found a tab character that violates indentation"),
        ("a: [1,\n2\n", 2, "did not find expected ',' or ']'"),
        (
            "a: 1\nb: @c\nd: 1\n",
            2,
            "column 4: a character that no plain text begins with: it needs quotes, or is a tab",
        ),
        (
            "a:\n   b: 1\n  c: 2\n",
            3,
            "column 3: no key where one must be: is it indented as those above?",
        ),
        ("a: 1\nb\nc: 2\n", 3, "column 1: a key without a colon"),
    ],
)
def test_refusals_name_the_line(text: str, line: int, reason: str) -> None:
    assert refusals(text.encode()) == [(line, reason)]


def test_a_document_with_a_duplicate_key_does_not_cost_the_others() -> None:
    found = list(documents(b"a: 1\n---\nb: 1\nb: 2\n---\nc: 3\n", is_json=False))
    assert found[0] == ({"a": 1}, 1)
    assert isinstance(found[1], Malformed)
    assert found[2] == ({"c": 3}, 6)


def test_json_refusals_name_the_line() -> None:
    assert refusals(b'{"a": 1}\n{"b":\n 2 3}', is_json=True) == [(3, "JSON: expected ',' or '}'")]
    assert refusals(b'{"a": [1,\n', is_json=True) == [(1, "JSON: Input data was truncated")]
    assert refusals(b'{"a": "\xff"}', is_json=True)[0][0] == 1


def test_json_before_the_error_is_read() -> None:
    assert next(documents(b'{"a": 1}\n{"b"', is_json=True)) == ({"a": 1}, 1)


def test_characters_that_yaml_forbids() -> None:
    [(line, reason)] = refusals(b"a: 1\nb: \x00\n")
    assert line == 2
    assert reason.startswith("a character that YAML forbids: ")


@pytest.mark.parametrize("is_json", [True, False])
def test_endless_nesting_is_refused(is_json: bool) -> None:
    [(_, reason)] = refusals(b"[" * 100_000, is_json=is_json)
    assert reason == "nested too deeply"


def test_nothing_is_no_document() -> None:
    assert read("") == []
    assert read("# only a remark\n") == []
    assert read("", is_json=True) == []
