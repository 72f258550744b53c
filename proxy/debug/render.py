"""Which program would a node get for these manifests?"""

from __future__ import annotations

import argparse

from modes.base import ModeSettings, Rendered
from modes.registry import render
from proxy.config import ipvs_settings, masquerade_bit
from proxy.debug.offline import named_mode, offline
from proxy.debug.table import as_json, wants_json


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate render`; 1 if something in the manifests was refused.

    Raises ConfigError.
    """
    json = wants_json(flags.output)
    mode = named_mode(flags)
    settings = ModeSettings(masquerade_bit=masquerade_bit(flags), ipvs=ipvs_settings(flags))
    cluster = offline(flags, mode)
    state = cluster.state
    plans = {of: state.plans(of) for of in state.services()}
    rendered: Rendered = render(mode, plans, state.node, settings)
    print(as_json(rendered.program) if json else "\n".join(rendered.lines))
    return 1 if cluster.problems else 0
