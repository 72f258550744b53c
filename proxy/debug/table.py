"""How do rows become aligned text, and values JSON? Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.settings.refusal import ConfigError

GAP = "   "


def aligned(
    rows: Sequence[Sequence[str]], indent: str = "", right: frozenset[int] = frozenset()
) -> list[str]:
    """One line a row; columns are as wide as their widest cell, those in `right` end flush."""
    count = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(count)]
    return [
        (
            indent
            + GAP.join(
                cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
                for i, cell in enumerate(row)
            )
        ).rstrip()
        for row in rows
    ]


def percent(count: int) -> str:
    """The share of one among so many: `50%`, `33.3%`, `0.05%`."""
    return f"{100 / count:.3g}%"


def wants_json(output: str) -> bool:
    """Whether `-o` asks for JSON. Raises ConfigError."""
    if output not in ("text", "json"):
        raise ConfigError("-o", output, "must be text or json")
    return output == "json"


def as_json(value: object) -> str:
    """Indented JSON of structs and plain values."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
