"""Where is measured what this machine's kernel does not have? In user-mode Linux, as tests/uml does.

Its system calls cost several times those of a real kernel, and starting a process more: its figures
are to be compared with each other.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

from tests.uml import kernel

MODULES = (
    *("br_netfilter", "ip_vs"),
    *("iptable_nat", "iptable_filter", "ip6table_nat", "ip6table_filter"),
)
PATIENCE_SECONDS = 3600.0
_MEMORY = Path("/dev/shm")  # noqa: S108 (its memory is a file, which no disk shall write)
_PROGRESS = "bench: "


def run(arguments: Sequence[str]) -> int:
    """Run `python -m tests.bench` with these arguments there.

    Its progress goes to standard error, its report to standard output. Returns its exit status, and
    2 where there can be no such kernel.
    """
    reason = kernel.why_not()
    if not reason and not shutil.which(kernel.PROGRAM):
        reason = f"{kernel.PROGRAM} is missing: make packages"
    if reason:
        _tell(f"MODE=ipvs: this kernel has no IPVS, and {reason}")
        return 2
    _tell("this kernel has no IPVS: booting user-mode Linux")
    folder = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder, prefix="uml-") as name:
        return _run(Path(name), arguments)


def _run(folder: Path, arguments: Sequence[str]) -> int:
    report = kernel.FOLDER_INSIDE / "report"
    bench = shlex.join([sys.executable, "-m", "tests.bench", *arguments])
    said: list[str] = []
    with kernel.start(folder, f"{bench} > {report}", MODULES) as process:
        assert process.stdout is not None
        timer = Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith(_PROGRESS):
                    sys.stderr.write(line)
                    sys.stderr.flush()
        finally:
            timer.cancel()
            process.kill()
    status = folder / "status"
    ended = kernel.Ended(int(status.read_text()) if status.exists() else None, "".join(said))
    if ended.status != 0:
        _tell(str(ended))
        return ended.status or 1
    sys.stdout.write((folder / report.name).read_text())
    return 0


def _tell(text: str) -> None:
    print(f"{_PROGRESS}{text}", file=sys.stderr, flush=True)
