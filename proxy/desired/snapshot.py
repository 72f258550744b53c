"""What does a file hold with which a question is answered elsewhere, and later?

Everything that the debug commands ask a node: objects, as far as this program reads them, the
node, configuration, what the kernel held, facts of the machine, versions. No Secret, no token, and
nothing of a kubeconfig but its path: none of that is ever read.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from proxy.desired.desired import Desired, Running
from proxy.desired.recorded import Recorded, plans
from proxy.desired.sound import require_sound
from proxy.facts.facts import Facts
from proxy.facts.foreign import ForeignChains
from proxy.settings.refusal import ConfigError
from proxy.settings.regular_file import opened

FORMAT = 1
"""Raised when what was written before cannot be read any more."""
_LARGEST = 1 << 28
"""Bytes of JSON, at most: a file may claim to be anything."""
_PIECE = 1 << 20


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One look at one node."""

    format: int = FORMAT
    written: str
    """When, in UTC: `2026-11-21T14:03:11Z`."""
    version: str
    """Of the headgate that wrote it."""
    origin: str
    """Who said what the kernel should hold, in words."""
    cluster: Recorded
    running: Running | None = None
    """None: no headgate ran here."""
    held: Mapping[str, msgspec.Raw] = {}
    """What the kernel held, by mode; read by `modes.registry.recalled`."""
    facts: Facts | None = None
    foreign: ForeignChains = ()
    """Rules of others."""
    missing: Mapping[str, str] = {}
    """What could not be read, and why."""
    problems: int = 0

    def desired(self, only: str = "") -> Desired:
        """What the kernel should have held; `only`: of this Service, `namespace/name`."""
        of = self.cluster
        state = of.state()
        name = of.settings.name
        origin = f"a snapshot of {name}, taken {self.written} ({self.origin})"
        return Desired(
            of.mode,
            of.of_modes,
            state.node,
            plans(state, only),
            origin,
            self.problems,
            self.running,
        )


class _Kind(msgspec.Struct):
    """What every format has."""

    format: int


def written(snapshot: Snapshot) -> bytes:
    """The bytes of the file."""
    return gzip.compress(msgspec.json.encode(snapshot, order="deterministic"), compresslevel=6)


@lru_cache(maxsize=1)
def recall(path: Path) -> Snapshot:
    """What a file holds. Raises ConfigError if it is no snapshot, or one of another format."""

    def refusal(reason: str) -> ConfigError:
        return ConfigError("--snapshot", str(path), reason)

    try:
        with opened(path) as file, gzip.open(file) as packed:
            document = _read(packed)
    except gzip.BadGzipFile as fault:
        raise refusal("is no snapshot: it is not compressed by gzip") from fault
    except OSError as fault:
        raise refusal(fault.strerror or str(fault)) from fault
    except (EOFError, zlib.error) as fault:
        raise refusal(f"is damaged: {fault}") from fault
    if len(document) > _LARGEST:
        raise refusal("holds more than any snapshot")
    try:
        kind = msgspec.json.decode(document, type=_Kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal("is no snapshot of headgate") from error
    if kind.format != FORMAT:
        raise refusal(f"is of format {kind.format}; this headgate reads format {FORMAT}")
    try:
        found = msgspec.json.decode(document, type=Snapshot)
        require_sound(found.cluster, found.facts, found.foreign)
    except (ValueError, RecursionError) as error:  # among them what msgspec raises
        raise refusal(f"is damaged: {error}") from error
    return found


def _read(packed: gzip.GzipFile) -> bytearray:
    """Everything, or what is too much."""
    document = bytearray()
    while len(document) <= _LARGEST and (piece := packed.read(_PIECE)):
        document += piece
    return document
