"""How does a checkout start as an installation does?

An installation is compiled, and has nothing that only tests need. The kubernetes client imports
kubernetes_validate where it is there, and with it 0.1 s of schemas, which it uses for nothing of
ours.
"""

from __future__ import annotations

import compileall
import os
from collections.abc import MutableMapping
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("conntrack", "endpoints", "modes", "proxy")
_ABSENT = _ROOT / "build" / "absent"
_ONLY_TESTS_NEED = "kubernetes_validate"


def make_so(environment: MutableMapping[str, str]) -> None:
    """Compile what is measured, and change the environment of what will be started.

    Raises OSError if the checkout cannot be written to.
    """
    for package in _PACKAGES:
        compileall.compile_dir(_ROOT / package, quiet=1)
    stub = _ABSENT / f"{_ONLY_TESTS_NEED}.py"
    if not stub.exists():
        _ABSENT.mkdir(parents=True, exist_ok=True)
        stub.write_text("raise ImportError(__name__)\n")
    before = filter(None, [environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join([str(_ABSENT), *before])
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
