"""What does a proxy, with all that it starts, ask of the kernel for a change? Told by strace."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.whole.results import Calls

_TRACED = "trace=socket,sendto,sendmsg,sendmmsg,setsockopt,execve,execveat"
"""write(2) can send to netlink too, but no library does it; what is piped to children is large."""
_PATIENCE_SECONDS = 30.0
_GLANCE_SECONDS = 0.01
_QUIET_SECONDS = 0.2
"""Who sends nothing for so long has done what a change asks for."""

_NETLINK = re.compile(r"socket\(AF_NETLINK, \S+, (\w+)\) = \d+<socket:\[(\d+)\]>")
_SENT = re.compile(r"(?:sendto|sendmsg|sendmmsg)\(\d+<socket:\[(\d+)\]>.* = \d+$")
_REPLACED = re.compile(
    r"setsockopt\(\d+<socket:\[\d+\]>, SOL_IP(?:V6)?, IP6?T_SO_SET_\w+, .*, (\d+)\) = 0$"
)
_EXECUTED = re.compile(r"^execve(?:at)?\(.* = 0$", re.MULTILINE)
_DUMPED = re.compile(r" \| [0-9a-f]+  (.{48})  ")
"""Sixteen bytes in two halves; what follows is the same as text, and may look like bytes."""

_NETFILTER = "NETLINK_NETFILTER"
_NETLINK_NETFILTER = "12"
"""The same in /proc/net/netlink."""
_NLMSGHDR = struct.Struct("=IHHII")
_BATCH = (0x10, 0x11)
"""NFNL_MSG_BATCH_BEGIN and _END (linux/netfilter/nfnetlink.h): around messages, none themselves."""


_USER_MODE = "User Mode Linux"
"""As its processors call themselves."""


class _Sent(NamedTuple):
    """A system call that gives something to the kernel."""

    messages: int
    size: int


def counted(pid: int, change: Callable[[], None], count: int) -> Calls | None:
    """Count what a process and all that it starts ask of the kernel while something changes.

    `change` is called so often; each call returns when the kernel holds what was changed. The
    brackets of a batch of nf_tables are bytes, but no messages. Tables of the legacy iptables do
    not go through netlink: each setsockopt(2) that replaces one, or sets its counters, is one send
    of one message. A process counts when it executes a program.

    None: there is no strace, the kernel lets nobody trace that process, or it is user-mode Linux,
    where what starts after a trace hardly gets on.

    Raises RuntimeError if strace ends for another reason; and whatever `change` raises.
    """
    if _USER_MODE in Path("/proc/cpuinfo").read_text():
        return None
    strace = shutil.which("strace")
    if strace is None:
        return None
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        traces = Path(folder)
        protocols = _protocols(pid)
        command = [strace, "-ff", "-qqq", "-y", "-s0", "-e", _TRACED, "-e", "write=all"]
        command += ["-e", "signal=none", "-o", str(traces / "of"), "-p", str(pid)]
        with _attached(command, pid) as allowed:
            if not allowed:
                return None
            for _ in range(count):
                change()
            _wait_until_quiet(traces)
        texts = [path.read_text() for path in traces.iterdir()]
    return calls(texts, protocols, count)


def calls(traces: Sequence[str], protocols: Mapping[str, str], count: int) -> Calls:
    """What was traced, for one of `count` changes.

    A text for each thread, as of `strace -ff -y -s0 -e write=all`, and the protocols of netlink
    sockets that were open before, by inode: `NETLINK_NETFILTER` or anything else.
    """
    known = dict(protocols)
    for text in traces:
        known |= {inode: protocol for protocol, inode in _NETLINK.findall(text)}
    sent = [one for text in traces for one in _sent(text, known)]
    return Calls(
        sends=len(sent) / count,
        messages=sum(one.messages for one in sent) / count,
        bytes_sent=sum(one.size for one in sent) / count,
        child_processes=sum(bool(_EXECUTED.search(text)) for text in traces) / count,
    )


def _sent(trace: str, protocols: Mapping[str, str]) -> Iterator[_Sent]:
    """What one thread gave to the kernel."""
    lines = iter(trace.splitlines())
    line = next(lines, None)
    while line is not None:
        call, data = line, bytearray()
        # What was sent follows the call, sixteen bytes a line, each buffer under a title.
        while (line := next(lines, None)) is not None and line.startswith((" | ", " * ")):
            if dumped := _DUMPED.match(line):
                data += bytes.fromhex(dumped[1])
        if (found := _SENT.match(call)) and found[1] in protocols:
            yield _Sent(_messages(bytes(data), protocols[found[1]]), len(data))
        elif found := _REPLACED.match(call):
            yield _Sent(1, int(found[1]))


def _messages(data: bytes, protocol: str) -> int:
    """How many netlink messages there are in what was sent. Raises RuntimeError."""
    count = at = 0
    while at < len(data):
        length, kind, *_ = _NLMSGHDR.unpack_from(data, at)
        if length < _NLMSGHDR.size or at + length > len(data):
            raise RuntimeError(f"a netlink message of {length} bytes in {len(data) - at}")
        count += protocol != _NETFILTER or kind not in _BATCH
        at += (length + 3) & ~3
    return count


@contextmanager
def _attached(command: Sequence[str], pid: int) -> Iterator[bool]:
    """Run strace, attached to all threads; false if that is not allowed. Raises RuntimeError."""
    tied = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with subprocess.Popen(tied, stderr=subprocess.PIPE, text=True) as strace:
        try:
            yield _traces(strace, pid)
        finally:
            strace.terminate()  # it lets go of whom it traces
            try:
                strace.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                strace.kill()


def _traces(strace: subprocess.Popen[str], pid: int) -> bool:
    """Wait until it traces all threads; false if it may not. Raises RuntimeError."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not all(tracer == strace.pid for tracer in _tracers(pid)):
        try:
            strace.wait(_GLANCE_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise RuntimeError(f"strace does not attach to {pid}") from None
            continue
        assert strace.stderr is not None
        said = strace.stderr.read()
        if "Operation not permitted" in said:
            return False
        raise RuntimeError(f"strace ended, status {strace.returncode}: {said}")
    return True


def _tracers(pid: int) -> Iterator[int]:
    """Who traces each thread of a process; 0 is nobody."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^TracerPid:\s*(\d+)$", (thread / "status").read_text(), re.MULTILINE)
        assert found is not None, f"{thread}/status does not tell its tracer"
        yield int(found[1])


def _wait_until_quiet(traces: Path) -> None:
    """Return when nothing was traced for a while. Raises TimeoutError."""
    began = since = time.monotonic()
    size = 0
    pause = threading.Event()  # nobody sets it
    while (now := time.monotonic()) - since < _QUIET_SECONDS:
        if now - began > _PATIENCE_SECONDS:
            raise TimeoutError(f"no {_QUIET_SECONDS} s without a system call that is counted")
        pause.wait(_GLANCE_SECONDS)
        more = sum(path.stat().st_size for path in traces.iterdir())
        if more != size:
            size, since = more, now


def _protocols(pid: int) -> dict[str, str]:
    """The netlink sockets of its network: inode and protocol."""
    rows = [row.split() for row in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    return {row[9]: _NETFILTER if row[1] == _NETLINK_NETFILTER else row[1] for row in rows}
