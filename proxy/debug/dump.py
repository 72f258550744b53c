"""What does this node's kernel hold, Service by Service?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from modes.base import EnvironmentFault
from modes.held import DumpedService
from modes.registry import AUTO, MODES
from proxy.debug.dumped import Dumped, joined, text
from proxy.debug.kernel import kernel, look_at
from proxy.debug.question import subject
from proxy.debug.screen import screen
from proxy.debug.table import as_json, wants
from proxy.desired.choice import desired, is_named
from proxy.desired.desired import Desired
from proxy.desired.live import live
from proxy.desired.snapshot import recall
from proxy.every import aside
from proxy.settings.checks import mode
from proxy.settings.refusal import printable

_NONE = "no Service is in the kernel"


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate dump`; 1 if the Service that was asked for is not there.

    Raises EnvironmentFault, KernelFault and ConfigError.
    """
    form = wants(flags.output, "json", "native")
    wanted = mode(flags.mode or AUTO)
    asked = kernel(flags.snapshot, subject(flags.service))
    looked = look_at(asked, asked.modes if wanted == AUTO else (wanted,))
    held = looked.held
    is_told = form != "native" or flags.service or looked.unread
    services = {name: of.services if is_told else () for name, of in held.items()}
    is_empty = not any(services.values())
    if flags.service and is_empty:
        if looked.unread:
            raise EnvironmentFault(f"not known: {looked.doubt}")
        aside(f"Service {flags.service} is not in the kernel")
        return 1
    if form == "native":
        print("\n".join(printable(line) for of in held.values() for line in of.native()))
    else:
        known = _known(flags, _only(services.values()) if flags.service else "")
        dumped = [Dumped(name, joined(of, known)) for name, of in services.items()]
        none = _NONE if not looked.unread else f"{_NONE}, as far as it can be read"
        print(as_json(dumped) if form == "json" else "\n".join(_lines(dumped, none)))
    if looked.unread:
        aside(f"not known: {looked.doubt}" if is_empty else looked.doubt)
    return 2 if looked.unread and is_empty else 0


def _only(held: Iterable[Iterable[DumpedService]]) -> str:
    """The Service that was found, `namespace/name`; empty if there are several."""
    names = {service.name.partition(":")[0] for of in held for service in of}
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


def _lines(dumped: Sequence[Dumped], none: str) -> Iterator[str]:
    """A block for each Service port and family, an empty line between two; else `none`."""
    shown = screen()
    blocks = [text(of.mode, service, shown) for of in dumped for service in of.services]
    if not blocks:
        yield none
    for number, block in enumerate(blocks):
        yield from ["", *block] if number else block
