"""Which program would a node get for these objects?"""

from __future__ import annotations

import argparse

from modes.base import Rendered
from modes.registry import render
from proxy.debug.table import as_json, wants_json
from proxy.desired.choice import desired
from proxy.settings.refusal import printable


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate render`; 1 if something in the objects was refused.

    Raises ConfigError and EnvironmentFault.
    """
    json = wants_json(flags.output)
    wanted = desired(flags)
    rendered: Rendered = render(wanted.mode, wanted.by_service(), wanted.node, wanted.of_modes)
    print(as_json(rendered.program) if json else "\n".join(map(printable, rendered.lines)))
    return 1 if wanted.problems else 0
