"""Which program would a node get for these manifests?"""

from __future__ import annotations

import argparse

from modes.base import Rendered
from modes.registry import render
from proxy.debug.offline import offline
from proxy.debug.table import as_json, wants_json


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate render`; 1 if something in the manifests was refused.

    Raises ConfigError.
    """
    json = wants_json(flags.output)
    cluster = offline(flags)
    state = cluster.state
    plans = {of: state.plans(of) for of in state.services()}
    rendered: Rendered = render(cluster.mode, plans, state.node, cluster.of_modes)
    print(as_json(rendered.program) if json else "\n".join(rendered.lines))
    return 1 if cluster.problems else 0
