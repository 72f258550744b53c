"""What was promised, and what came of it? Pure."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct):
    """What was promised of one size, and what came of it."""

    back_end: str
    size: str
    what: str
    limit: str
    figure: str
    met: bool
