"""How does a node get rid of every rule of ours? Works without an API server."""

from __future__ import annotations

import argparse
import sys

from modes.registry import BUILT, create


def main(_: argparse.Namespace) -> int:
    """Answer `headgate cleanup`: every mode removes what is its own. Raises EnvironmentFault."""
    for name in sorted(BUILT):
        mode = create(name)
        try:
            found = mode.cleanup()
        finally:
            mode.close()
        sys.stdout.write(f"{name}: {'removed' if found else 'nothing of ours was there'}\n")
    return 0
