"""Is everything counted that processes send to the kernel, and nothing else?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.bench.whole.calls import calls, counted
from tests.bench.whole.results import Calls

SENDER = """
import socket, struct, subprocess
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
other, _ = socket.socketpair()
print("is open", flush=True)
while input():
    later = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    request = struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, 0)  # RTM_GETLINK
    for sends in (netlink, later):
        sends.sendmsg([request, request])
    other.send(b"to nobody in the kernel")
    subprocess.run(["true"])
    print("done", flush=True)
"""


def test_what_is_counted_is_what_is_sent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sender:
        assert sender.stdin is not None
        assert sender.stdout is not None
        assert sender.stdout.readline() == "is open\n"

        def change() -> None:
            print("go", file=sender.stdin, flush=True)
            assert sender.stdout is not None
            assert sender.stdout.readline() == "done\n"

        change()
        found = counted(sender.pid, change, 3)
        change()  # it is not traced any longer, and well
        print(file=sender.stdin, flush=True)
    assert sender.returncode == 0
    if found is None:
        pytest.skip("nobody may be traced here, or there is no strace")
    assert found == Calls(sends=2, messages=4, bytes_sent=80, child_processes=1)


def test_without_strace_nothing_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert counted(os.getpid(), pytest.fail, 1) is None


@pytest.mark.parametrize(
    ("said", "found"), [("Operation not permitted", None), ("Bad address", RuntimeError)]
)
def test_where_nobody_may_trace_nothing_is_counted(
    said: str, found: type[Exception] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    strace = tmp_path / "strace"
    strace.write_text(f"#!/bin/sh\necho 'attach: ptrace(PTRACE_SEIZE, 1): {said}' >&2\nexit 1\n")
    strace.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if found is None:
        assert counted(os.getpid(), pytest.fail, 1) is None
    else:
        with pytest.raises(found, match=said):
            counted(os.getpid(), pytest.fail, 1)


BATCH = """\
socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER) = 3<socket:[77]>
setsockopt(3<socket:[77]>, SOL_NETLINK, NETLINK_EXT_ACK, [1], 4) = 0
sendmsg(3<socket:[77]>, {msg_name={sa_family=AF_NETLINK}, msg_iov=[...], msg_iovlen=2}, 0) = 60
 * 40 bytes in buffer 0
 | 00000  14 00 00 00 10 00 01 00  00 00 00 00 00 00 00 00  ................ |
 | 00010  00 00 00 0a 14 00 00 00  03 0a 01 04 01 00 00 00  94 00............ |
 | 00020  00 00 00 00 02 00 00 00                           ........         |
 * 20 bytes in buffer 1
 | 00000  14 00 00 00 11 00 01 00  02 00 00 00 00 00 00 00  ................ |
 | 00010  00 00 00 0a                                       ....             |
sendto(3<socket:[77]>, ..., 20, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
+++ exited with 0 +++
"""
GENERIC = """\
sendto(5<socket:[78]>, ..., 20, 0, NULL, 0) = 20
 | 00000  14 00 00 00 10 00 01 00  00 00 00 00 00 00 00 00  ................ |
 | 00010  03 01 00 00                                       ....             |
sendto(6<socket:[79]>, ..., 20, 0, NULL, 0) = 20
 | 00000  14 00 00 00 10 00 01 00  00 00 00 00 00 00 00 00  ................ |
 | 00010  03 01 00 00                                       ....             |
"""
LEGACY = """\
execve("/usr/sbin/iptables-restore", [...], 0x7ffede1d2490 /* 36 vars */) = 0
socket(AF_INET, SOCK_RAW, IPPROTO_RAW)  = 4<socket:[90]>
setsockopt(4<socket:[90]>, SOL_IP, IPT_SO_SET_REPLACE, ""..., 880) = 0
setsockopt(4<socket:[90]>, SOL_IP, IPT_SO_SET_ADD_COUNTERS, ""..., 120) = 0
setsockopt(5<socket:[91]>, SOL_IPV6, IP6T_SO_SET_REPLACE, ""..., 1000) = 0
setsockopt(5<socket:[91]>, SOL_IPV6, IP6T_SO_SET_REPLACE, ""..., 1000) = -1 EAGAIN (Again)
"""
SEARCHED = 'execve("/bin/nft", [...], 0x7f) = -1 ENOENT (No such file)\n'


@pytest.mark.skipif(sys.byteorder != "little", reason="the messages here are of such a machine")
@pytest.mark.parametrize(
    ("traces", "found"),
    [
        pytest.param([BATCH], Calls(1, 1, 60, 0), id="the brackets of a batch are no messages"),
        pytest.param([GENERIC], Calls(1, 1, 20, 0), id="the same type elsewhere is a message"),
        pytest.param([LEGACY], Calls(3, 3, 2000, 1), id="a table of the legacy iptables"),
        pytest.param([SEARCHED], Calls(0, 0, 0, 0), id="a program that was not there"),
        pytest.param([BATCH, GENERIC, LEGACY, ""], Calls(5, 5, 2080, 1), id="threads add up"),
    ],
)
def test_a_trace_is_read(traces: list[str], found: Calls) -> None:
    assert calls(traces, {"78": "16"}, 1) == found
    halved = Calls(*(value / 2 for value in msgspec.structs.astuple(found)))
    assert calls(traces, {"78": "16"}, 2) == halved


def test_a_trace_that_cannot_be_read_is_refused() -> None:
    torn = BATCH.replace("14 00 00 00  03", "3c 00 00 00  03")
    with pytest.raises(RuntimeError, match="a netlink message of"):
        calls([torn], {}, 1)
