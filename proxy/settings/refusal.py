"""Which setting cannot be used, and why? Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSEEN = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"  # what a terminal obeys; a tab only moves
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # what turns text around
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    """A text as it is, or quoted and escaped where it would break or garble a line."""
    return text if text.isprintable() else repr(text)


def printable(text: str) -> str:
    """A text that does nothing to a terminal: `?` stands for what would, line ends included."""
    return text if text.isprintable() else _UNSEEN.sub("?", text)


class ConfigError(Exception):
    """A setting cannot be used: its flag or its field of a file, the value and the reason."""

    def __init__(self, origin: str, value: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (origin, plain(value), reason) if part))


class ConfigErrors(ConfigError):
    """Several settings cannot be used: a line each."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("", "", "\n".join(map(str, errors)))
