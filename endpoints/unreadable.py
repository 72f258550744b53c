"""Why could this object not be read, in words an operator can act on? Pure."""

from __future__ import annotations

import re
import reprlib

import msgspec

from endpoints.events import Problem
from endpoints.names import ObjectName

_LONGEST_VALUE = 80
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 4
_BRIEF.maxstring = _BRIEF.maxother = _LONGEST_VALUE
_AT = re.compile(r"(?P<reason>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[\]]+)")


class Unreadable(Exception):
    """An object that becomes a problem and nothing else; its name, if that at least is known."""

    def __init__(self, problem: Problem, name: ObjectName | None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.name = name


def explained(error: Exception, subject: str, document: object) -> Problem:
    """A decoding error of msgspec in the words of a refusal.

    `document` is the object as it was written: the refused value is quoted from it.
    """
    if not isinstance(error, msgspec.ValidationError):
        return Problem(subject, "", "", str(error))
    found = _AT.fullmatch(str(error))
    reason, path = (found["reason"], found["path"] or "") if found else (str(error), "")
    path = path.removeprefix(".")
    if missing := _MISSING.fullmatch(reason):
        return Problem(subject, f"{path}.{missing['field']}".removeprefix("."), "", "is required")
    if reason.startswith("Invalid enum value"):  # Protocol, the only one on the wire
        reason = "must be TCP, UDP or SCTP"
    reason = reason.replace("`", "").replace("Expected", "expected", 1)
    return Problem(subject, path, _value_at(document, path), reason)


def _value_at(document: object, path: str) -> str:
    """The value at a path like `spec.ports[0].port`, shortened; empty if there is none."""
    for index, key in _STEP.findall(path):
        if index and isinstance(document, list) and int(index) < len(document):
            document = document[int(index)]
        elif key and isinstance(document, dict) and key in document:
            document = document[key]
        else:  # `[...]`, some key of a map
            return ""
    return short(document)


def short(value: object) -> str:
    """The text of a value, cut to what fits a line."""
    text = value if isinstance(value, str) else _BRIEF.repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
