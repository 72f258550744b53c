"""What is an Event of Kubernetes about, and who takes one?

Apart from `posting`, which posts them: what talks to an API server costs 0.1 s to import.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

EventType = Literal["Normal", "Warning"]


class Reference(msgspec.Struct, frozen=True):
    """The object that an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    api_version: str = "v1"


class Recorder(Protocol):
    """Who takes events."""

    def record(self, about: Reference, type: EventType, reason: str, message: str) -> None:  # noqa: A002 (the field's name)
        """Take note of an event; never waits, never fails."""


class Nobody:
    """Takes no events: there is no API server to post them to."""

    def record(self, about: Reference, type: EventType, reason: str, message: str) -> None:  # noqa: A002
        """As of a Recorder."""
