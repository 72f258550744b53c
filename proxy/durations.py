"""How long is a duration as Go spells it? Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_PART = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(_UNITS)})", re.ASCII)


def whole_seconds(text: str) -> int:
    """The seconds of `90s`, `1h30m`, `1.5m`, `0`. Raises ValueError with a reason.

    As Go's time.ParseDuration has it; what has a sign, or is no whole number of seconds, is
    refused.
    """
    parts = _PART.findall(text)
    if text != "0" and (not parts or "".join(map("".join, parts)) != text):
        raise ValueError("must be a duration, like 90s, 15m or 1h30m")
    seconds = sum((Decimal(number) * _UNITS[unit] for number, unit in parts), Decimal())
    if seconds != seconds.to_integral_value():
        raise ValueError("must be whole seconds")
    return int(seconds)
