"""How long is a duration as Go spells it? Pure.

Durations are whole nanoseconds here, as they are in Go (time.ParseDuration, time.Duration.String).
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

SECOND = 10**9
DURATION = "a duration, like 90s, 15m or 1h30m"
"""What a text must be, in words."""
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(_UNITS)})", re.ASCII)
_MOST = 2**63 - 1
_LONGEST_TEXT = 100
_EXACT = Context(prec=2 * _LONGEST_TEXT)


def nanoseconds(text: str) -> int:
    """The nanoseconds of `90s`, `1h15m30.5s`, `-1s`, `0`; parts of one are dropped.

    Raises ValueError with a reason.
    """
    sign, unsigned = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    parts = _PART.findall(unsigned) if len(text) <= _LONGEST_TEXT else []
    if unsigned != "0" and (not parts or "".join(map("".join, parts)) != unsigned):
        raise ValueError(f"must be {DURATION}")
    total = sum(int(_EXACT.multiply(Decimal(number), _UNITS[unit])) for number, unit in parts)
    if total > _MOST:
        raise ValueError("is longer than a duration can be (292 years)")
    return sign * total


def whole_seconds(text: str) -> int:
    """The seconds of a duration that is none below zero. Raises ValueError with a reason."""
    return seconds(nanoseconds(text))


def seconds(duration: int) -> int:
    """A duration's seconds, which must be whole and not below zero, or ValueError is raised."""
    if duration < 0:
        raise ValueError("must not be below zero")
    if duration % SECOND:
        raise ValueError("must be whole seconds")
    return duration // SECOND


def spelled(duration: int) -> str:
    """A duration as Go writes it: `1h15m30.5s`, `1.5ms`, `0s`."""
    sign, rest = ("-" if duration < 0 else ""), abs(duration)
    if rest < SECOND:
        unit = next((unit for unit in ("ms", "µs", "ns") if rest >= _UNITS[unit]), "s")
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
    minutes, rest = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{text}{_decimal(rest, SECOND)}s"


def _decimal(duration: int, unit: int) -> str:
    whole, rest = divmod(duration, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else f"{whole}"
