"""Which version is this?"""

from __future__ import annotations

import argparse
import sys
from importlib import metadata


def version() -> str:
    """The version of the installed distribution; `(not installed)` when run from its folder."""
    try:
        return metadata.version("headgate")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def main(_: argparse.Namespace) -> int:
    """Answer `headgate version`."""
    sys.stdout.write(f"headgate {version()}\n")
    return 0
