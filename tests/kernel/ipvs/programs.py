"""What do the programs say that people look at the kernel with, and when?"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

_PATIENCE_SECONDS, _GLANCE_SECONDS = 20.0, 0.02


def said(*command: str) -> str:
    """What a program prints, in the network of this thread."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until something is true that the kernel does by itself.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the kernel did not do what was waited for")
        threading.Event().wait(_GLANCE_SECONDS)
