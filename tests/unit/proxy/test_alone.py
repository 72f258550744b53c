"""Does one headgate wait for another, and for nobody else?"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from modes.base import EnvironmentFault
from proxy import alone as module
from proxy.alone import alone

NAME = "\0headgate-run"
NOBODY = 65534
TOLD = "It is not known whether another headgate runs"

BIND = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0headgate-run')\n"
READY = "print('ready', flush=True)\n"
SILENT = f"{BIND}s.listen()\n{READY}sys.stdin.read()"
MUTE = f"{BIND}{READY}sys.stdin.read()"
HANGS_UP = f"{BIND}s.listen()\n{READY}while True: s.accept()[0].close()"
FULL = f"""{BIND}s.listen(0)
clients = []
while True:
    clients.append(socket.socket(socket.AF_UNIX))
    clients[-1].setblocking(False)
    try:
        clients[-1].connect('\\0headgate-run')
    except BlockingIOError:
        break
{READY}sys.stdin.read()"""

Hold = Callable[[str, int], subprocess.Popen[bytes]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process of a user that holds the name."""
    running: list[subprocess.Popen[bytes]] = []

    def held(script: str, user: int) -> subprocess.Popen[bytes]:
        command = ["/usr/bin/env", "python3", "-c", script]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, user=user, cwd="/")
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield held
    for process in running:
        process.kill()
        process.communicate()


def test_the_name_is_free_again_after_the_end() -> None:
    for _ in range(2):
        already = pytest.raises(EnvironmentFault, match=rf"already \(pid {os.getpid()}\)")
        with alone(patient=False), already:
            alone(patient=False)


@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("script", [SILENT, HANGS_UP])
def test_a_stranger_is_named_and_not_waited_for(
    hold: Hold, script: str, caplog: pytest.LogCaptureFixture, *, patient: bool
) -> None:
    stranger = hold(script, NOBODY)
    with alone(patient=patient):
        pass
    [record] = caplog.records
    assert (record.levelname, record.message) == ("ERROR", TOLD)
    reason = f"process {stranger.pid} of user {NOBODY} holds the name"
    assert vars(record)["fields"]["reason"] == reason


@pytest.mark.parametrize("script", [MUTE, FULL])
def test_who_cannot_be_asked_is_not_waited_for_long(
    hold: Hold, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    hold(script, NOBODY)
    before, busy = time.monotonic(), time.process_time()
    with alone(patient=True):
        pass
    assert 1 <= time.monotonic() - before <= 10
    assert time.process_time() - busy < 0.5
    assert [record.message for record in caplog.records] == [TOLD]


def test_who_hangs_up_is_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root does: it may be a headgate that is about to end."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.05)
    asked: list[float] = []
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(NAME)
        holder.listen()

        def hang_up() -> None:
            while len(asked) < 4:
                holder.accept()[0].close()
                asked.append(time.monotonic())
            holder.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with alone(patient=True):
            thread.join()
    assert all(later - earlier > 0.04 for earlier, later in pairwise(asked))


def test_another_one_of_ours_is_waited_for(
    hold: Hold, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    other = hold(SILENT, NOBODY)
    threading.Timer(0.3, other.kill).start()
    with alone(patient=True):
        assert other.wait(10) < 0
    assert [record.message for record in caplog.records] == ["Waiting for another headgate to end"]


def test_a_kernel_without_such_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(EnvironmentFault, match="runs: Permission denied"):
        alone(patient=True)
