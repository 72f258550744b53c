"""How does a node get rid of every rule of ours? Works without an API server."""

from __future__ import annotations

import argparse
import sys

from modes.base import KernelFault
from modes.registry import AUTO, MODES, create
from proxy.alone import alone
from proxy.every import aside, of_every
from proxy.settings import checks


def main(flags: argparse.Namespace) -> int:
    """Answer `headgate cleanup`: every mode, or the one of `--mode`, removes what is its own.

    1 if a kernel keeps rules of ours. Raises EnvironmentFault if no mode can be asked or while a
    headgate runs here, which would write its rules again at once, and ConfigError for a mode that
    there is not. `headgate run --cleanup` cleans all, as kube-proxy's.
    """
    wanted = checks.mode(getattr(flags, "only", ""), "--mode")
    with alone(patient=False):
        return 0 if all(of_every(MODES if wanted == AUTO else (wanted,), _clean)) else 1


def _clean(name: str) -> bool:
    """Whether nothing of a mode is left."""
    mode = create(name, tell=aside)
    try:
        found = mode.cleanup()
    except KernelFault as fault:
        aside(f"{name}: {fault}")
        return False
    finally:
        mode.close()
    sys.stdout.write(f"{name}: {'removed' if found else 'nothing of ours was there'}\n")
    return True
