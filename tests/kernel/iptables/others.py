"""What do others do on the same machine? Hold the lock, write rules, install half of iptables."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(lock: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A program that holds a lock for some time, or until it is killed."""
    command = [sys.executable, "-c", _HOLD, str(lock), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def write(variant: str, text: str, command: str = "iptables") -> None:
    """Somebody else's rules."""
    subprocess.run([f"{command}-{variant}-restore", "--noflush"], input=text, text=True, check=True)


def legacy_tables() -> str:
    """The tables of iptables-legacy that exist in this thread's network."""
    return Path("/proc/thread-self/net/ip_tables_names").read_text()


def nft_ruleset() -> str:
    """All of nf_tables in this thread's network."""
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    return done.stdout


def program(folder: Path, name: str, script: str) -> None:
    """Install a program; `{real}` in its script is the one that it stands before."""
    real = shutil.which(name)
    assert real is not None
    installed = folder / name
    installed.write_text("#!/bin/sh\n" + script.format(real=real, folder=folder))
    installed.chmod(0o755)


def extensions_without(folder: Path, *missing: str) -> None:
    """Fill a folder with iptables' libraries, a few left out."""
    libraries = next(Path("/usr/lib").glob("**/xtables"))
    for library in libraries.iterdir():
        if library.name not in missing:
            (folder / library.name).symlink_to(library)
