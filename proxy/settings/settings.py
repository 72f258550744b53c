"""What is in force: a flag, else a file, else the default? Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import msgspec

from proxy.settings.option import Option, Value
from proxy.settings.refusal import ConfigError, plain
from proxy.settings.table import OPTIONS


class Given(msgspec.Struct, frozen=True):
    """A value that the operator gave."""

    value: Value
    text: str
    """As it was written."""
    origin: str
    """`--proxy-mode` as it was typed, or `config.conf: mode`."""


class FromFile(msgspec.Struct, frozen=True):
    """What a file says."""

    given: Mapping[str, Given] = {}
    """By the key of the option."""
    warnings: tuple[str, ...] = ()


class Settings:
    """All options with the values that are in force.

    A flag that was given beats the file. Raises ConfigError if a flag's text cannot be read.
    """

    def __init__(self, flags: argparse.Namespace, file: FromFile | None = None) -> None:
        self._file = file or FromFile()
        self._typed = dict(_from_flags(flags))
        self._given = {**self._file.given, **self._typed}

    def is_said(self, key: str) -> bool:
        """Whether the operator gave a value."""
        return key in self._given

    def is_typed(self, key: str) -> bool:
        """Whether a flag gave it."""
        return key in self._typed

    def value(self, key: str) -> Value:
        """The value in force."""
        given = self._given.get(key)
        return given.value if given else OPTIONS[key].standard()

    def text(self, key: str) -> str:
        """Of an option of text."""
        return cast("str", self.value(key))

    def on(self, key: str) -> bool:
        """Of an option that is true or false."""
        return cast("bool", self.value(key))

    def whole(self, key: str) -> int:
        """Of an integer, or the nanoseconds of a duration."""
        return cast("int", self.value(key))

    def number(self, key: str) -> float:
        """Of a number."""
        return float(cast("float", self.value(key)))

    def texts(self, key: str) -> tuple[str, ...]:
        """Of a list."""
        return cast("tuple[str, ...]", self.value(key))

    def gates(self, key: str) -> Mapping[str, bool]:
        """Of names that are on or off."""
        return cast("Mapping[str, bool]", self.value(key))

    def origin(self, key: str) -> str:
        """Where the value comes from; of a default the name of the option."""
        given = self._given.get(key)
        return given.origin if given else OPTIONS[key].flag or OPTIONS[key].field

    def refusal(self, key: str, reason: str) -> ConfigError:
        """Why the value in force cannot be used."""
        given = self._given.get(key)
        return ConfigError(self.origin(key), given.text if given else "", reason)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should look at: unknown fields, and what is ignored and missed."""
        return (*self._file.warnings, *self._ignored(lambda option: option.missed))

    def notes(self) -> tuple[str, ...]:
        """What is ignored and costs nobody anything."""
        return self._ignored(lambda option: not option.missed)

    def _ignored(self, of: Callable[[Option], bool]) -> tuple[str, ...]:
        """What differs from the default and is ignored: a line each."""
        lines = []
        for key, given in self._given.items():
            option = OPTIONS[key]
            if not option.works and given.value != option.standard() and of(option):
                lines.append(f"{given.origin}: {plain(given.text)}: ignored: {option.does}")
        return tuple(dict.fromkeys(lines))

    def written(self) -> dict[str, object]:
        """Every option that has a field, by its path, as a file has it."""
        return {
            option.field: option.written(self.value(option.key))
            for option in OPTIONS.values()
            if option.field
        }


def destination(flag: str) -> str:
    """The attribute of a namespace that holds a flag's texts."""
    return flag.removeprefix("--").replace("-", "_")


def spelling(attribute: str) -> str:
    """The attribute that holds which of a flag's names was typed, beside the one of its text."""
    return f"{attribute}_typed"


def _from_flags(flags: argparse.Namespace) -> Iterator[tuple[str, Given]]:
    for key, option in OPTIONS.items():
        texts = getattr(flags, destination(option.flag), None) if option.flag else None
        if texts is None or (key == "hostnameOverride" and not texts):
            continue  # to kube-proxy an empty override is none
        given = [texts] if isinstance(texts, str) else texts
        text = ",".join(given) if option.is_repeatable else given[-1]
        typed = getattr(flags, spelling(destination(option.flag)), option.flag)
        try:
            yield key, Given(option.of_flag(given), text, typed)
        except ValueError as error:
            raise ConfigError(typed, text, str(error)) from error
