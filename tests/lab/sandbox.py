"""Where may a test touch the kernel without touching this machine?

`python -m tests.lab.sandbox COMMAND...` runs a command in fresh network, mount, PID, UTS and IPC
namespaces; without privilege also in a user namespace. Three processes stand in a row:

    supervisor (outside)  ->  init (PID 1 inside)  ->  COMMAND

The kernel kills the row from the left to the right and with PID 1 everything else inside, so that
nothing outlives a `kill -9` of any of the three. pytest re-executes itself through here
(tests/conftest.py), and each of its processes then takes namespaces of its own.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.lab import namespaces

MARKER = "HEADGATE_SANDBOX"
"""Environment variable: the machine's network namespace and the sandbox's PID namespace."""

REFUSED = 4
"""Exit status where no sandbox can be made; pytest's for a wrong use."""

_ALL = (
    namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWIPC
)
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SI_KERNEL = 128


class NotSandboxedError(RuntimeError):
    """Something was about to touch the network of this machine."""


def _processes() -> str:
    """The PID namespace of this process, as the kernel names it."""
    return str(Path("/proc/self/ns/pid").readlink())


def _network() -> str:
    """The network namespace of this thread, as the kernel names it."""
    return str(namespaces.THREAD_NETWORK.readlink())


def is_inside() -> bool:
    """Tell whether this thread is in a network namespace that a sandbox made.

    A marker that leaked into another environment is no proof: the PID namespace must be the
    sandbox's own, and the network namespace another than the machine's.
    """
    machine, _, processes = os.environ.get(MARKER, "").partition(" ")
    return processes == _processes() and machine != _network()


@contextmanager
def own_network() -> Iterator[None]:
    """An empty network for the calling thread, which ends when it is left. Raises as below."""
    require_sandbox()
    descriptor = namespaces.create_network()
    try:
        with namespaces.inside(descriptor):
            yield
    finally:
        os.close(descriptor)


def require_sandbox() -> None:
    """Refuse to go on outside of a sandbox.

    Raises:
        NotSandboxedError: this thread is in the network namespace of the machine, or may be.
    """
    if not is_inside():
        raise NotSandboxedError(
            f"network namespace {_network()} was not made by tests.lab.sandbox: run this with "
            "pytest, or as `python -m tests.lab.sandbox COMMAND`"
        )


def enter_private() -> None:
    """Give the calling thread a network of its own: `lo` up, an empty /run, a /sys that shows it.

    Raises:
        NotSandboxedError: called outside of a sandbox.
    """
    require_sandbox()
    namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
    _furnish()


def _furnish() -> None:
    """Make mounts private, hide /run, show the new network in /sys, bring `lo` up."""
    safe = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", "/run", "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV)
    namespaces.mount("sysfs", "/sys", "sysfs", safe)
    namespaces.loopback_up()


def reexecute() -> NoReturn:
    """Replace this process by a sandbox that runs its command line again."""
    arguments = [sys.executable, "-m", "tests.lab.sandbox", sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)  # noqa: S606 -- no shell is the safe form


def run(command: Sequence[str]) -> int:
    """Run a command in a sandbox and return its exit status, 128 + signal if a signal ended it.

    Raises:
        OSError: the kernel refuses a namespace, even with a user namespace around it.
    """
    machine = _network()
    _leave_machine()
    parent = os.pidfd_open(os.getpid())
    signal.pthread_sigmask(signal.SIG_BLOCK, [*_FORWARDED, signal.SIGCHLD])
    if (init := os.fork()) == 0:
        os._exit(_init(parent, machine, command))
    os.close(parent)
    return _supervise(init)


def _leave_machine() -> None:
    """Take fresh namespaces; where privilege is missing, take it from a user namespace."""
    try:
        namespaces.unshare(_ALL)
    except PermissionError:
        _become_root_of_a_user_namespace()
        namespaces.unshare(_ALL)


def _become_root_of_a_user_namespace() -> None:
    """Enter a fresh user namespace in which this user is root and has every capability."""
    user, group = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")  # gid_map is refused before (Linux 3.19)
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _init(parent: int, machine: str, command: Sequence[str]) -> int:
    """Be PID 1: mount, start the command, reap whatever its processes leave behind."""
    namespaces.die_with_parent()
    if select.select([parent], [], [], 0)[0]:
        return REFUSED  # the supervisor died before the kernel was told to kill us with it
    os.close(parent)
    try:
        namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("proc", "/proc", "proc")
        _furnish()
    except OSError as error:
        return _refuse(error)
    os.environ[MARKER] = f"{machine} {_processes()}"
    if (child := os.fork()) == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [*_FORWARDED, signal.SIGCHLD])
        try:
            os.execvp(command[0], list(command))  # noqa: S606 -- the sandbox becomes the command
        except OSError as error:
            print(f"sandbox: {command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    return _supervise(child)


def _supervise(child: int) -> int:
    """Pass signals on to the child and reap until it ends; return its status as a shell would.

    What a terminal sends (SI_KERNEL) reaches the whole process group, so the child has it already.
    """
    while True:
        received = signal.sigwaitinfo([*_FORWARDED, signal.SIGCHLD])
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != _SI_KERNEL:
                os.kill(child, received.si_signo)
            continue
        while (ended := _reap()) is not None:
            process, status = ended
            if process == child:
                return status if status >= 0 else 128 - status


def _reap() -> tuple[int, int] | None:
    """One child that ended and its exit code (minus the signal), or None if none is waiting."""
    try:
        process, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (process, os.waitstatus_to_exitcode(status)) if process else None


def _refuse(error: OSError) -> int:
    """Say in one line why there can be no sandbox."""
    print(
        f"sandbox: {error.filename}: {error.strerror}: the tests need namespaces of their own; "
        "run as root, or allow unprivileged user namespaces",
        file=sys.stderr,
    )
    return REFUSED


def main(command: Sequence[str]) -> int:
    """Run the command in a sandbox; return its exit status or REFUSED."""
    if not command:
        print("usage: python -m tests.lab.sandbox COMMAND [ARGUMENT...]", file=sys.stderr)
        return 2
    try:
        return run(command)
    except OSError as error:
        return _refuse(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
