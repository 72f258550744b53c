"""What is a document of a manifest file, and what is said of a part that is none? Pure."""

from __future__ import annotations

Document = tuple[object, int]
"""A value of dicts, lists, text, numbers, booleans and None, and the line where it starts."""


class Malformed(Exception):
    """This part of the file cannot be understood."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def items_kind(kind: object) -> dict[str, object] | None:
    """What the items of a list leave unsaid: those of a ServiceList are Services.

    None if the kind is not that of a list.
    """
    if not isinstance(kind, str) or not kind.endswith("List"):
        return None
    return {"kind": kind.removesuffix("List")} if kind != "List" else {}


def completed(inherited: dict[str, object], item: object) -> object:
    """An item with what it left unsaid."""
    return inherited | item if isinstance(item, dict) else item
