"""How does a node get rid of every rule of ours? Works without an API server."""

from __future__ import annotations

import argparse
import sys

from modes.base import KernelFault
from modes.registry import MODES, create
from proxy.every import aside, of_every


def main(_: argparse.Namespace) -> int:
    """Answer `headgate cleanup`: every mode removes what is its own.

    1 if a kernel keeps rules of ours. Raises EnvironmentFault if no mode can be asked.
    """
    return 0 if all(of_every(MODES, _clean)) else 1


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
