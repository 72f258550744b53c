"""What is a setting, and which value does a text or a part of a file stand for? Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, cast

import msgspec

from proxy.settings.durations import DURATION, nanoseconds, spelled

Value = str | bool | int | float | tuple[str, ...] | Mapping[str, bool]
"""By the kind of an option: durations are nanoseconds."""

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_INTEGER = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]{1,16}|0[bB][01]{1,64}|0[oO]?[0-7]{0,22}|[1-9]\d{0,18})"
)
_NUMBER = re.compile(r"[-+]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][-+]?\d{1,3})?", re.ASCII)
_PATTERN = re.compile(r"(?P<pattern>[^,=]+)=(?P<verbosity>\d{1,9})", re.ASCII)
_GOT = re.compile(r"got `(?P<type>\w+)`(?P<inside> - at )?")
_TYPES = {
    "str": "a text",
    "int": "an integer",
    "float": "a fraction",
    "bool": "a boolean",
    "array": "a list",
    "object": "a section",
    "null": "null",
}
"""What an operator calls the types of msgspec."""
_INT32 = range(-(2**31), 2**31)


class Kind(StrEnum):
    """What the value of an option looks like."""

    TEXT = "text"
    BOOLEAN = "true or false"
    INTEGER = "integer"
    NUMBER = "number"
    DURATION = "duration"
    TIME = "duration, or nanoseconds"
    QUANTITY = "quantity"
    LIST = "list"
    PATHS = "path"
    GATES = "NAME=true|false,…"
    VMODULE = "PATTERN=N,…"


class Option(msgspec.Struct, frozen=True):
    """A flag, a field of KubeProxyConfiguration, or both: one setting."""

    flag: str
    """`--bind-address`; empty if only a file can say it. Two options may share a flag."""
    field: str
    """`iptables.syncPeriod`; empty if only a flag can say it."""
    kind: Kind
    default: str
    """As a flag's text; empty for none."""
    does: str
    """What headgate does with it, or why it does nothing."""
    works: bool = True
    """False: it is accepted and ignored."""
    missed: bool = False
    """Ignored, and who asks for it goes without something."""
    metavar: str = ""
    aliases: tuple[str, ...] = ()
    """Other names of the flag."""
    pointer: bool = False
    """In a file only null leaves it unsaid; of others zero, false and "" do (Go's zero values)."""
    otherwise: str = ""
    """What the default is, where no text can tell."""

    @property
    def key(self) -> str:
        """What names it: no two options share it."""
        return self.field or self.flag

    @property
    def is_repeatable(self) -> bool:
        """Whether all texts of a flag count, and not just the last."""
        return self.kind in (Kind.LIST, Kind.PATHS, Kind.GATES)

    def of_flag(self, texts: Sequence[str]) -> Value:
        """The value of a flag that was given once or more. Raises ValueError with a reason."""
        if self.kind is Kind.PATHS:
            return tuple(texts)
        return _READING[self.kind].text(",".join(texts) if self.is_repeatable else texts[-1])

    def of_field(self, raw: object) -> Value | None:
        """The value of a part of a file, None if it leaves the option unsaid.

        Raises ValueError with a reason.
        """
        if raw is None:
            return None
        try:
            value = _READING[self.kind].raw(raw)
        except msgspec.ValidationError as error:
            raise ValueError(self._mistyped(raw, str(error))) from error
        return value if self.pointer or value != _READING[self.kind].zero else None

    def _mistyped(self, raw: object, error: str) -> str:
        """What must be there, and what is; without quotes a text may be what is wanted."""
        wanted = f"must be {_READING[self.kind].wanted}"
        found = _GOT.search(error)
        if found is None:
            return wanted
        verb = "holds" if found["inside"] else "is"
        quoted = ""
        if isinstance(raw, str) and self.kind in _UNQUOTED and self._reads(raw):
            quoted = ": leave out the quotes"
        return f"{wanted}, {verb} {_TYPES[found['type']]}{quoted}"

    def _reads(self, text: str) -> bool:
        try:
            self.of_flag((text,))
        except ValueError:
            return False
        return True

    def standard(self) -> Value:
        """The default."""
        return self.of_flag((self.default,)) if self.default else _READING[self.kind].zero

    def written(self, value: Value) -> object:
        """A value as it stands in a file: of JSON's types."""
        match self.kind:
            case Kind.DURATION | Kind.TIME:
                return spelled(cast("int", value))
            case Kind.LIST:
                return list(cast("tuple[str, ...]", value)) or None
            case Kind.GATES:
                return dict(cast("Mapping[str, bool]", value))
            case Kind.VMODULE:
                return _items(cast("str", value)) or None
        return value


def boolean(text: str) -> bool:
    """A boolean in the spellings that Go's flags take. Raises ValueError."""
    if text not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return text in _TRUE


def integer(text: str) -> int:
    """An integer of 32 bits as Go's flags take it: `15`, `0xf`, `0b1111`, `017`.

    Raises ValueError.
    """
    if not text.isascii() or not _INTEGER.fullmatch(text):
        raise ValueError("must be an integer")
    digits = text.lstrip("+-")
    octal = digits.isdigit() and digits.startswith("0")
    value = int(digits, 8) if octal else int(digits, 0)
    return _int32(-value if text.startswith("-") else value)


def _int32(value: int) -> int:
    if value not in _INT32:
        raise ValueError("does not fit into 32 bits")
    return value


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number")
    return _finite(float(text))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _gates(text: str) -> Mapping[str, bool]:
    gates = {}
    for part in _list(text):
        gate, equals, state = (piece.strip() for piece in part.partition("="))
        if not gate or not equals:
            raise ValueError(f"{part!r}: must be NAME=true or NAME=false")
        try:
            gates[gate] = boolean(state)
        except ValueError as error:
            raise ValueError(f"{gate}: {state or 'nothing'}: {error}") from error
    return gates


def _vmodule(text: str) -> str:
    for part in _list(text):
        if not _PATTERN.fullmatch(part):
            raise ValueError(f"{part!r}: must be PATTERN=N, like sync=4 or kernel*=6")
    return ",".join(_list(text))


class _VModuleItem(msgspec.Struct, rename="camel"):
    file_pattern: str
    verbosity: int


def _items(vmodule: str) -> list[dict[str, object]]:
    found = [part.partition("=") for part in _list(vmodule)]
    return [{"filePattern": name, "verbosity": int(level)} for name, _, level in found]


def _raw_number(raw: object) -> float:
    return _finite(msgspec.convert(raw, float))


def _raw_time(raw: object) -> int:
    """Go's logging takes both, `5s` and nanoseconds, which kubeadm writes."""
    either = msgspec.convert(raw, str | int)
    return either if isinstance(either, int) else nanoseconds(either)


def _raw_vmodule(raw: object) -> str:
    items = msgspec.convert(raw, list[_VModuleItem])
    return _vmodule(",".join(f"{item.file_pattern}={item.verbosity}" for item in items))


def _raw_path(_: object) -> str:
    raise ValueError("only a flag can say it")


class _Reading(NamedTuple):
    """How a kind of value is read; what reads raises ValueError, as msgspec.ValidationError is."""

    wanted: str
    """What it must be, in words."""

    text: Callable[[str], Value]
    """From the text of a flag."""
    raw: Callable[[object], Value]
    """From a part of a file."""
    zero: Value


_READING: Mapping[Kind, _Reading] = {
    Kind.TEXT: _Reading("a text", str, lambda raw: msgspec.convert(raw, str), ""),
    Kind.BOOLEAN: _Reading(
        "true or false", boolean, lambda raw: msgspec.convert(raw, bool), zero=False
    ),
    Kind.INTEGER: _Reading("an integer", integer, lambda raw: _int32(msgspec.convert(raw, int)), 0),
    Kind.NUMBER: _Reading("a number", _number, _raw_number, 0.0),
    Kind.DURATION: _Reading(
        DURATION, nanoseconds, lambda raw: nanoseconds(msgspec.convert(raw, str)), 0
    ),
    Kind.TIME: _Reading(f"{DURATION}, or nanoseconds", nanoseconds, _raw_time, 0),
    Kind.QUANTITY: _Reading(
        "a quantity, like 64Ki", str, lambda raw: str(msgspec.convert(raw, str | int)), "0"
    ),
    Kind.LIST: _Reading(
        "a list of texts", _list, lambda raw: tuple(msgspec.convert(raw, list[str])), ()
    ),
    Kind.PATHS: _Reading("a path", str, _raw_path, ()),
    Kind.GATES: _Reading(
        "a section of true and false", _gates, lambda raw: msgspec.convert(raw, dict[str, bool]), {}
    ),
    Kind.VMODULE: _Reading("a list of filePattern and verbosity", _vmodule, _raw_vmodule, ""),
}
_UNQUOTED = (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER)
"""Kinds that a text cannot be, as it may in YAML without its quotes."""


def type_of(raw: object) -> str:
    """What an operator calls the type of a part of a file."""
    types = {str: "str", bool: "bool", int: "int", float: "float", list: "array", dict: "object"}
    return _TYPES[types[type(raw)]]
