"""Which setting cannot be used, and why? Pure."""

from __future__ import annotations

from collections.abc import Sequence


def plain(text: str) -> str:
    """A text as it is, or quoted and escaped where it would break or garble a line."""
    return text if text.isprintable() else repr(text)


class ConfigError(Exception):
    """A setting cannot be used: its flag or its field of a file, the value and the reason."""

    def __init__(self, origin: str, value: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (origin, plain(value), reason) if part))


class ConfigErrors(ConfigError):
    """Several settings cannot be used: a line each."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("", "", "\n".join(map(str, errors)))
