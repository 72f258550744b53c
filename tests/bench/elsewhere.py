"""Where is measured what this machine's kernel does not have? In user-mode Linux, as tests/uml does.

Its system calls cost several times those of a real kernel, and starting a process more: its figures
are to be compared with each other.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Timer

import msgspec

from tests.bench.results import Report
from tests.uml import kernel

MODULES = (
    *("br_netfilter", "ip_vs"),
    *("iptable_nat", "iptable_filter", "ip6table_nat", "ip6table_filter"),
)
PATIENCE_SECONDS = 3600.0
_VANISHING = "/run"
"""The sandbox's own, and in memory: that of the kernel is a file, which no disk shall write."""
_PROGRESS = "bench: "
_PASSED_ON = ("KUBE_PROXY", "KUBEBUILDER_ASSETS")


class Failed(RuntimeError):
    """It could not be measured there; says why."""


def why_not() -> str:
    """Why there can be no such kernel; empty where there can."""
    reason = kernel.why_not()
    if not reason and not shutil.which(kernel.PROGRAM):
        reason = f"{kernel.PROGRAM} is missing: make packages"
    return f"MODE=ipvs: this kernel has no IPVS, and {reason}" if reason else ""


def run(arguments: Iterable[str], tell: Callable[[str], None]) -> Report:
    """What `python -m tests.bench` reports there, with these arguments; they must ask for JSON.

    Its progress is told. To be called in a sandbox. Raises Failed where there can be no such kernel, or if it does not report.
    """
    if reason := why_not():
        raise Failed(reason)
    tell("this kernel has no IPVS: booting user-mode Linux")
    with tempfile.TemporaryDirectory(dir=_VANISHING, prefix="uml-") as name:
        return _run(Path(name), arguments, tell)


def _run(folder: Path, arguments: Iterable[str], tell: Callable[[str], None]) -> Report:
    report = kernel.FOLDER_INSIDE / "report"
    asked = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
    bench = shlex.join(["env", *asked, sys.executable, "-m", "tests.bench", *arguments])
    said: list[str] = []
    with kernel.start(folder, f"{bench} > {report}", MODULES) as process:
        assert process.stdout is not None
        timer = Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith(_PROGRESS):
                    tell(line.removeprefix(_PROGRESS).rstrip())
        finally:
            timer.cancel()
            process.kill()
    status = folder / "status"
    ended = kernel.Ended(int(status.read_text()) if status.exists() else None, "".join(said))
    written = folder / report.name
    if not written.exists() or not written.stat().st_size:
        raise Failed(str(ended))
    return msgspec.json.decode(written.read_bytes(), type=Report)
