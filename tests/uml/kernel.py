"""How does a command of ours run on another kernel, and what is left of it afterwards? Nothing.

Debian's user-mode Linux is a program: a kernel whose hardware is the system calls of ours. It boots
in a second, needs no privilege, and has no link to any network of this machine. Its root is this
machine's file system under a layer in memory (tests/uml/init), so that what a command writes is gone
with it, but for one folder. The sandbox of the tests works in there as it does here.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "linux.uml"
FOLDER_INSIDE = Path("/outside")
"""Where a command finds the folder that it may write to."""

_REPOSITORY = Path(__file__).parents[2]
_INIT = Path(__file__).with_name("init")
_DEBIAN_MACHINES = ("x86_64", "i686")
_SHOWN_LINES = 60
_WORDS = {
    "mem": "512M",  # a file in the folder, as large as what was used of it
    "root": "/dev/root",
    "rootfstype": "hostfs",
    "rootflags": "/",
    "init": str(_INIT),
    "con": "null",
    "con0": "null,fd:1",
    "boot_directory": str(_REPOSITORY),
}


def why_not() -> str:
    """Why user-mode Linux cannot be installed here; empty if it can."""
    if shutil.which(PROGRAM):
        return ""
    system, machine = platform.freedesktop_os_release()["ID"], platform.machine()
    if system == "debian" and machine in _DEBIAN_MACHINES:
        return ""
    return (
        f"{system} on {machine} has no package user-mode-linux; Debian has it for "
        f"{' and '.join(_DEBIAN_MACHINES)}"
    )


@dataclass(frozen=True)
class Ended:
    """What is known when the kernel has switched itself off."""

    status: int | None
    """Of the command; None if the kernel ended before."""
    console: str
    """Everything that kernel and command printed."""

    def __str__(self) -> str:
        """The status and the end of the console."""
        how = "before the command did" if self.status is None else f"with status {self.status}"
        return f"user-mode Linux ended {how}; its console ends:\n{last_lines(self.console)}"


def last_lines(console: str) -> str:
    """As much of a console as a failed test shows."""
    return "\n".join(f"  {line}" for line in console.splitlines()[-_SHOWN_LINES:])


def start(folder: Path, command: str, modules: Iterable[str] = ()) -> subprocess.Popen[str]:
    """Boot, load modules and run a command of the shell from the root of the repository.

    The process is that of `unshare`: whoever kills it kills the whole kernel, and the kernel of this
    machine kills it together with the thread that called.

    Args:
        folder: an empty folder, which is FOLDER_INSIDE to the command.
        command: runs as root, with nothing in its environment but PATH and HOME.
        modules: by the names that modprobe knows; what they need comes with them.

    Raises:
        FileNotFoundError: linux.uml is not installed.
    """
    if not shutil.which(PROGRAM):
        raise FileNotFoundError(f"{PROGRAM} is missing: make packages")
    (folder / "command").write_text(command)
    (folder / "modules").write_text("\n".join(modules))
    words = _WORDS | {"uml_dir": str(folder / "control"), "boot_folder": str(folder)}
    # Its processes are traced ones, which would stay behind, stopped, if it alone were killed.
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--"]
    machine = [PROGRAM, "rw", "quiet", *(f"{key}={value}" for key, value in words.items())]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *alone, *machine],
        env={"TMPDIR": str(folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # it sends signals to its process group
    )


def run(folder: Path, command: str, modules: Iterable[str], seconds: float) -> Ended:
    """Boot, run a command as `start` does, and wait until the kernel has switched itself off.

    Raises:
        TimeoutError: it did not in this time, and was killed; the message has its console.
        FileNotFoundError: linux.uml is not installed.
    """
    with start(folder, command, modules) as process:
        try:
            console, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            console, _ = process.communicate()
            raise TimeoutError(
                f"user-mode Linux ran for {seconds} s and was killed; its console ends:\n"
                f"{last_lines(console)}"
            ) from error
    status = folder / "status"
    return Ended(int(status.read_text()) if status.exists() else None, console)
