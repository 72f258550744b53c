"""How long does the real program take, from its start to its exit, and how large does it get?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import cluster
from tests.bench.cluster import SETTINGS, Size
from tests.bench.report import Ran


def run_once(of: Size) -> Ran:
    """Run `headgate run --once` on JSON files, in the network namespace of the caller.

    Raises RuntimeError with what the program said if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, data in cluster.documents(of):
            (Path(folder) / name).write_bytes(data)
        command = [sys.executable, "-m", "proxy", "run", "--once", "--mode", "nftables"]
        command += ["--manifests", folder, "--hostname-override", SETTINGS.name]
        command += ["--cluster-cidr", ",".join(SETTINGS.cluster_cidrs)]
        began = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.read()
        # Of a process that was started by one which is larger this would be the parent's peak:
        # everything that is large is made piece by piece here.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}: {said}")
    return Ran(of.services, of.endpoints, seconds, usage.ru_maxrss / 1024)
