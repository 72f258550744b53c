"""What is in force: a flag, else a file, else the default? Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from proxy.settings.option import Value
from proxy.settings.refusal import ConfigError, plain
from proxy.settings.table import OPTIONS


class Given(msgspec.Struct, frozen=True):
    """A value that the operator gave."""

    value: Value
    text: str
    """As it was written."""
    origin: str
    """`--mode`, or `config.conf: mode`."""


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
        self._given = {**self._file.given, **dict(_from_flags(flags))}

    def is_said(self, key: str) -> bool:
        """Whether the operator gave a value."""
        return key in self._given

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
        """What is to be said at start: what of the file was passed over, and what is ignored."""
        ignored = []
        for key, given in self._given.items():
            option = OPTIONS[key]
            if not option.works and given.value != option.standard():
                ignored.append(f"{given.origin}: {plain(given.text)}: ignored: {option.does}")
        return (*self._file.warnings, *dict.fromkeys(ignored))

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


def _from_flags(flags: argparse.Namespace) -> Iterator[tuple[str, Given]]:
    for key, option in OPTIONS.items():
        texts = getattr(flags, destination(option.flag), None) if option.flag else None
        if texts is None or (key == "hostnameOverride" and not texts):
            continue  # to kube-proxy an empty override is none
        given = [texts] if isinstance(texts, str) else texts
        text = ",".join(given) if option.is_repeatable else given[-1]
        try:
            yield key, Given(option.of_flag(given), text, option.flag)
        except ValueError as error:
            raise ConfigError(option.flag, text, str(error)) from error
