"""What does this node's kernel hold, Service by Service?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modes.base import EnvironmentFault
from modes.held import Held
from modes.registry import AUTO, MODES
from proxy.debug.dumped import Dumped, joined, text
from proxy.debug.kernel import Kernel, kernel
from proxy.debug.question import subject
from proxy.debug.screen import screen
from proxy.debug.table import as_json, wants
from proxy.desired.choice import desired, is_named
from proxy.desired.desired import Desired
from proxy.desired.live import live
from proxy.desired.snapshot import recall
from proxy.every import aside, of_every
from proxy.settings.checks import mode


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate dump`; 1 if the Service that was asked for is not there.

    Raises EnvironmentFault, KernelFault and ConfigError.
    """
    form = wants(flags.output, "json", "native")
    wanted = mode(flags.mode or AUTO)
    asked = kernel(flags.snapshot, subject(flags.service))
    names = asked.modes if wanted == AUTO else (wanted,)
    held = dict(of_every(names, lambda name: _of(asked, name)))
    if flags.service and not any(of.services for of in held.values()):
        print(f"headgate: Service {flags.service} is not in the kernel", file=sys.stderr)
        return 1
    if form == "native":
        print("\n".join(line for of in held.values() for line in of.native()))
        return 0
    known = _known(flags, _only(held.values()) if flags.service else "")
    dumped = [Dumped(name, joined(of.services, known)) for name, of in held.items()]
    print(as_json(dumped) if form == "json" else "\n".join(_lines(dumped)))
    return 0


def _of(asked: Kernel, name: str) -> tuple[str, Held]:
    return name, asked.look(name)


def _only(held: Iterable[Held]) -> str:
    """The Service that was found, `namespace/name`; empty if there are several."""
    names = {service.name.partition(":")[0] for of in held for service in of.services}
    named = [name for name in names if "/" in name]
    return named[0] if len(named) == 1 else ""


def _known(flags: argparse.Namespace, only: str) -> Desired | None:
    """Who says more of the endpoints; None: nobody was named, and no headgate runs here.

    `only`: at least of those of this Service.
    """
    if flags.snapshot:
        return recall(Path(flags.snapshot)).desired(only)
    if is_named(flags):
        return desired(flags, only=only, otherwise=MODES[0])
    try:
        return live(only)
    except EnvironmentFault as fault:
        aside(f"nodes, zones and states are not known: {fault}")
        return None


def _lines(dumped: Sequence[Dumped]) -> Iterator[str]:
    """A block for each Service port and family, an empty line between two."""
    shown = screen()
    blocks = [text(of.mode, service, shown) for of in dumped for service in of.services]
    if not blocks:
        yield "no Service is in the kernel"
    for number, block in enumerate(blocks):
        yield from ["", *block] if number else block
