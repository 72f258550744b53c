"""Does a sandbox keep everything in, and does nothing of it outlive a kill?"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import namespaces, sandbox

SANDBOX = (sys.executable, "-m", "tests.lab.sandbox")
PATIENCE_SECONDS = 20.0
_LINK_CHANGES = 1  # RTMGRP_LINK

# Someone without privilege, with an interpreter that anyone may read (a virtualenv may be in /root).
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3")

SOMEONE_ELSE = pytest.mark.skipif(
    Path("/proc/self/uid_map").read_text().split()[2] == "1",
    reason="these tests run without privilege themselves: their user namespace has one user",
)

# As a system that forbids network namespaces; the limit is that of a user namespace made just now.
FORBIDDING = """
import pathlib, sys
from tests.lab import namespaces, sandbox
sandbox._become_root_of_a_user_namespace()
pathlib.Path("/proc/sys/user/max_net_namespaces").write_text("0")
sys.exit(sandbox.main(["true"]))
"""

# A process that leaves its session and its parent behind, as a badly behaved daemon does.
DAEMON = "import os, signal\nif os.fork() == 0:\n    os.setsid()\n    signal.pause()\n"

WHERE = "readlink /proc/self/ns/net; echo $$; ls /run /sys/class/net; id -u; exit 7"

# A sandbox in use: a second network namespace with a name, and a daemon in it.
TENANT = """
import os, signal, subprocess, sys
from tests.lab import namespaces, sandbox
{private}
os.mkdir("/run/netns")
network = namespaces.create_network()
open("/run/netns/tenant", "w").close()
namespaces.mount(f"/proc/self/fd/{{network}}", "/run/netns/tenant", None, namespaces.MS_BIND)
if os.fork() == 0:
    {child}
    namespaces.enter_network(network)
    print(os.getppid(), flush=True)
    signal.pause()
signal.pause()
"""


def test_the_tests_run_in_a_sandbox() -> None:
    sandbox.require_sandbox()
    machine = os.environ[sandbox.MARKER].split()[0]
    assert str(namespaces.THREAD_NETWORK.readlink()) != machine


def test_the_network_of_a_test_process_is_its_own() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert [link.name for link in Path("/sys/class/net").iterdir()] == ["lo"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()


def test_a_process_outside_is_refused() -> None:
    check = "from tests.lab import sandbox; sandbox.require_sandbox()"
    environment = {name: value for name, value in os.environ.items() if name != sandbox.MARKER}
    outside = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False
    )
    assert outside.returncode == 1
    assert "NotSandboxedError: network namespace net:[" in outside.stderr


def test_a_marker_that_leaked_out_of_its_sandbox_opens_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(sandbox.MARKER, "net:[1] pid:[1]")
    _assert_refused()


def test_a_thread_that_stayed_in_the_network_of_the_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The marker says that the machine's network is the one where this thread happens to be."""
    processes = os.environ[sandbox.MARKER].split()[1]
    monkeypatch.setenv(sandbox.MARKER, f"{namespaces.THREAD_NETWORK.readlink()} {processes}")
    _assert_refused()


def _assert_refused() -> None:
    with pytest.raises(sandbox.NotSandboxedError):
        sandbox.require_sandbox()
    with pytest.raises(sandbox.NotSandboxedError):
        sandbox.enter_private()


def test_a_command_runs_in_fresh_namespaces() -> None:
    _assert_fresh(_run([*SANDBOX, "sh", "-c", WHERE]))


@SOMEONE_ELSE
def test_without_privilege_a_user_namespace_gives_it(readable: Path) -> None:
    _assert_fresh(_run([*NOBODY, *SANDBOX[1:], "sh", "-c", WHERE], readable))


def _assert_fresh(done: subprocess.CompletedProcess[str]) -> None:
    assert done.stderr == ""
    network, pid, *listed, user = done.stdout.split()
    assert network != str(namespaces.THREAD_NETWORK.readlink())
    assert (pid, user) == ("2", "0")
    assert listed == ["/run:", "/sys/class/net:", "lo"]
    assert done.returncode == 7


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder with a copy of the sandbox that anyone may read; pytest's own folders are private."""
    folder = Path("/run/readable")
    (folder / "tests/lab").mkdir(parents=True)
    here = Path(__file__).parent
    for name in ("../__init__.py", "__init__.py", "namespaces.py", "sandbox.py"):
        shutil.copy(here / name, folder / "tests/lab" / name)
    yield folder
    shutil.rmtree(folder)


def test_a_signal_ends_the_command_and_the_status_says_so() -> None:
    assert _run([*SANDBOX, "sh", "-c", "kill -KILL $$"]).returncode == 128 + signal.SIGKILL
    with _started([*SANDBOX, "sh", "-c", "echo ready; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_an_orphan_does_not_keep_the_sandbox_open() -> None:
    done = _run([*SANDBOX, sys.executable, "-c", DAEMON])
    assert done.returncode == 0


@SOMEONE_ELSE
def test_where_no_sandbox_can_be_made_one_line_says_so(readable: Path) -> None:
    done = _run([*NOBODY, "-c", FORBIDDING], readable)
    assert done.returncode == sandbox.REFUSED
    assert done.stdout == ""
    assert done.stderr.startswith("sandbox: unshare: No space left on device: the tests need")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("victim", ["supervisor", "init", "command"])
def test_nothing_outlives_a_killed_sandbox(victim: str) -> None:
    tenant = TENANT.format(private="", child="os.setsid()")
    with _started([*SANDBOX, sys.executable, "-c", tenant]) as process, _link_into(process) as link:
        init = _only_child(process.pid)
        command = _only_child(init)
        everyone = _descendants(process.pid)
        assert len(everyone) == 3
        pidfds = [os.pidfd_open(pid) for pid in everyone]
        os.kill({"supervisor": process.pid, "init": init, "command": command}[victim], 9)
        _wait_until_all_end(pidfds)
        link.wait_until_gone()
    assert not Path("/run/netns/tenant").exists()


def test_nothing_outlives_a_killed_worker() -> None:
    """A worker of pytest has no PID namespace of its own: its children die by PDEATHSIG."""
    tenant = TENANT.format(private="sandbox.enter_private()", child="namespaces.die_with_parent()")
    with _started([sys.executable, "-c", tenant]) as worker, _link_into(worker) as link:
        pidfds = [os.pidfd_open(pid) for pid in [worker.pid, *_descendants(worker.pid)]]
        assert len(pidfds) == 2
        worker.kill()
        _wait_until_all_end(pidfds)
        link.wait_until_gone()
    assert not Path("/run/netns/tenant").exists()


def test_pytest_enters_by_itself_and_each_worker_is_alone(tmp_path: Path) -> None:
    """A run as a person starts it: no marker, two workers, a story that says where it is."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_where.py").write_text(
        "import os, pathlib, pytest\n"
        "from tests.lab import sandbox\n"
        "@pytest.mark.parametrize('number', range(2))\n"
        "def test_where(number):\n"
        "    sandbox.require_sandbox()\n"
        "    place = os.readlink('/proc/thread-self/ns/net') + os.readlink('/proc/self/ns/pid')\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'place-{{number}}').write_text(place)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != sandbox.MARKER}
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n2"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    here = str(namespaces.THREAD_NETWORK.readlink()), str(Path("/proc/self/ns/pid").readlink())
    places = {(tmp_path / f"place-{number}").read_text() for number in range(2)}
    assert len(places) == 2
    assert not any(part in place for part in here for place in places)


class _Link:
    """One end of a cable whose other end is in a namespace: it goes when the namespace goes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._changes.bind((0, _LINK_CHANGES))
        self._changes.settimeout(PATIENCE_SECONDS)

    def wait_until_gone(self) -> None:
        """Return when the link is gone; TimeoutError if it stays. Every change wakes it up."""
        while self._name in {name for _, name in socket.if_nameindex()}:
            self._changes.recv(65536)

    def close(self) -> None:
        self._changes.close()


@contextmanager
def _link_into(process: subprocess.Popen[str]) -> Iterator[_Link]:
    """Wait until the tenant is ready, then put a cable into its second network namespace."""
    assert process.stdout is not None
    assert process.stdout.readline().strip()
    inside = _descendants(process.pid)[-1]
    subprocess.run(
        ["ip", "link", "add", "cable", "type", "veth", "peer", "name", "c0", "netns", str(inside)],
        check=True,
    )
    link = _Link("cable")
    try:
        yield link
    finally:
        link.close()


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _only_child(pid: int) -> int:
    [child] = _children(pid)
    return child


def _descendants(pid: int) -> list[int]:
    """Every process below this one, the youngest generation last."""
    found: list[int] = []
    generation = [pid]
    while generation := [child for parent in generation for child in _children(parent)]:
        found += generation
    return found


def _wait_until_all_end(pidfds: list[int]) -> None:
    """Return when every process ended; a pidfd becomes readable then, even before it is reaped."""
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0], "a process outlived the kill"
        os.close(pidfd)
