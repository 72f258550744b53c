"""How does an operator take home everything that a question to this node needs?"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from modes import registry
from modes.base import EnvironmentFault, KernelFault, Missing
from proxy.desired.choice import NOBODY, gathered, is_named
from proxy.desired.desired import Running
from proxy.desired.live import live, objects
from proxy.desired.recorded import Recorded, recorded
from proxy.desired.snapshot import Snapshot, written
from proxy.every import aside
from proxy.facts.foreign_kernel import foreign_rules
from proxy.facts.machine import facts
from proxy.settings.refusal import ConfigError
from proxy.version import version

_STDOUT = "-"


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate snapshot`; 1 if something of the machine could not be read.

    Raises ConfigError and EnvironmentFault.
    """
    if flags.output == _STDOUT and sys.stdout.isatty():
        raise ConfigError("-o", _STDOUT, "is a terminal: send it into a file, by > FILE")
    taken = take(flags)
    data = written(taken)
    if flags.output == _STDOUT:
        sys.stdout.buffer.write(data)
    else:
        _write(Path(flags.output), data)
    for what, why in taken.missing.items():
        aside(f"{what} left out: {why}")
    held = ", ".join(taken.held) or "no mode's rules"
    services = _many(taken.cluster.services, "Service")
    slices = _many(taken.cluster.slices, "EndpointSlice")
    # Where the file goes to standard output, nothing else may.
    (sys.stderr if flags.output == _STDOUT else sys.stdout).write(
        f"{flags.output}   {len(data) / 1024:,.0f} KiB: {services}, {slices}, {held}, routes,"
        " sysctls, rules of others\n"
        "It holds addresses of clients that session affinity keeps, and names of Services; no"
        " Secrets, no tokens.\n"
    )
    return 1 if taken.missing or taken.problems else 0


def _many(found: Sequence[object], name: str) -> str:
    return f"{len(found):,} {name}{'' if len(found) == 1 else 's'}"


def _write(path: Path, data: bytes) -> None:
    """For our own user only, and never through what somebody put there before."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        opened = os.open(path, flags, 0o600)
        try:
            with os.fdopen(opened, "wb") as file:
                file.write(data)
        except OSError:
            path.unlink()  # half a snapshot is none
            raise
    except OSError as fault:
        raise ConfigError("-o", str(path), fault.strerror or "cannot be written") from fault


def take(flags: argparse.Namespace) -> Snapshot:
    """Look at this machine, and at what it should hold. Raises ConfigError, EnvironmentFault."""
    cluster, origin, running, problems = _cluster(flags)
    held: dict[str, msgspec.Raw] = {}
    missing: dict[str, str] = {}
    for mode in registry.MODES:
        try:
            document = registry.look(mode, settings=cluster.of_modes).document()
        except Missing:
            continue
        except (EnvironmentFault, KernelFault) as fault:
            missing[mode] = str(fault)
        else:
            held[mode] = msgspec.Raw(msgspec.json.encode(document))
    try:
        foreign = foreign_rules()
    except (EnvironmentFault, KernelFault) as fault:
        foreign = ()
        missing["rules of others"] = str(fault)
    return Snapshot(
        written=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        version=version(),
        origin=origin,
        cluster=cluster,
        running=running,
        held=held,
        facts=facts(tools=True),
        foreign=foreign,
        missing=missing,
        problems=problems,
    )


def _cluster(flags: argparse.Namespace) -> tuple[Recorded, str, Running | None, int]:
    """What should be held, who says so, and how much of it was refused."""
    if is_named(flags):
        found = gathered(flags, otherwise="", here=True)
        return recorded(found.state, found.mode, found.of_modes), found.origin, None, found.problems
    told, running = objects(), live("-/-")
    if told is None or running is None:
        raise EnvironmentFault(NOBODY)
    return told, running.origin, running.running, 0
