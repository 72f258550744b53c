"""How long does the real program take, from its start to its exit, and how large does it get?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
        launch = [sys.executable, "-m", "tests.bench.launch", *command]
        done = subprocess.run(launch, capture_output=True, text=True, check=True)
    seconds, kilobytes, status = done.stdout.split()
    if status != "0":
        raise RuntimeError(f"{' '.join(command)}: exit status {status}: {done.stderr}")
    return Ran(of.services, of.endpoints, float(seconds), int(kilobytes) / 1024)
