"""How are several addresses or links named in one sentence? Pure."""

from __future__ import annotations

from collections.abc import Iterable

_FEW = 3


def listed(names: Iterable[str], last: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`, `a, b or 4 more`; each once, in the order given."""
    found = list(dict.fromkeys(names))
    if len(found) > _FEW:
        found = [*found[: _FEW - 1], f"{len(found) - _FEW + 1} more"]
    *first, end = found
    return f"{', '.join(first)} {last} {end}" if first else end
