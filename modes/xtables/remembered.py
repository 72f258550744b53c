"""What does a list of xt_recent say of a client? Pure."""

from __future__ import annotations

import msgspec


class Remembered(msgspec.Struct, frozen=True, order=True):
    """One address in a list."""

    address: str
    seconds_ago: float | None = None
    """When its last packet came; None: the kernel does not tell us how late it is by its clock."""
