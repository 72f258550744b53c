"""What does a source of objects promise, and what may it say to the main loop?

There is one queue, one thread that reads it (`proxy.app`), and any number of threads that write it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from endpoints.events import Event, Problem
from endpoints.objects import Kind
from modes.base import Foreign
from proxy.config import Config


class LocalAddresses(msgspec.Struct, frozen=True):
    """The kernel's local addresses are these now (`proxy.node`)."""

    addresses: frozenset[str]


class ForeignChange(msgspec.Struct, frozen=True):
    """Somebody else changed our rules, or may have."""

    foreign: tuple[Foreign, ...]


class ConfigChanged(msgspec.Struct, frozen=True):
    """The file of `--config` says something else now (`proxy.sources.config_file`)."""

    config: Config | None
    """None: it cannot be used, and what it said before stays in force."""
    error: str = ""
    """Why not, a line for each thing that is wrong."""


class Stop(msgspec.Struct, frozen=True):
    """The operator wants the program to end; the rules stay."""

    reason: str


class Died(msgspec.Struct, frozen=True):
    """A thread that must live ended with an exception that it did not expect."""

    thread: str
    error: BaseException


class Together(msgspec.Struct, frozen=True):
    """Events of one moment, a saved file for example: one transaction in the kernel."""

    events: tuple[Event, ...]


class Between(msgspec.Struct, frozen=True):
    """Something that wants to see the main loop's own values, between two syncs.

    All news that came before it is in them, but for what waits for the distance between syncs: that
    the kernel is not told of yet either.
    """

    act: Callable[[], None]
    """Returns at once."""


Message = (
    Event
    | Together
    | Problem
    | LocalAddresses
    | ForeignChange
    | ConfigChanged
    | Between
    | Stop
    | Died
)


class Sink(Protocol):
    """Where sources put what they see; `queue.SimpleQueue[Message]` is one."""

    def put(self, item: Message, /) -> None:
        """Append a message; never blocks, may be called from any thread."""


class Source(Protocol):
    """Objects of a cluster, from the API server or from files.

    Works in a daemon thread of its own. Puts one `Replace` for each of its `kinds` before anything
    else of that kind, and puts it again when it had to list anew; nothing is programmed before each
    kind was listed once. An object that it cannot read becomes a `Problem`, and costs nothing else.
    """

    kinds: frozenset[Kind]

    def start(self, sink: Sink) -> None:
        """Begin to list and to watch. Raises EnvironmentFault if that can never work."""

    def stop(self) -> None:
        """End the thread and wait for it."""
