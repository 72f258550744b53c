"""Which program would a node get for these manifests?"""

from __future__ import annotations

import argparse

from modes.base import Rendered
from modes.registry import AUTO, render, require
from proxy.config import ConfigError, mode
from proxy.debug.offline import offline
from proxy.debug.table import as_json, wants_json


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate render`; 1 if something in the manifests was refused.

    Raises ConfigError and NotBuilt.
    """
    json = wants_json(flags.output)
    wanted = mode(flags.mode)
    if wanted == AUTO:
        raise ConfigError(
            "--mode", wanted, "must name a mode: render asks no kernel which one works"
        )
    require(wanted)
    cluster = offline(flags)
    state = cluster.state
    rendered: Rendered = render(
        wanted, {of: state.plans(of) for of in state.services()}, state.node
    )
    print(as_json(rendered.program) if json else "\n".join(rendered.lines))
    return 1 if cluster.problems else 0
