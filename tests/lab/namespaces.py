"""How does one thread leave a namespace, enter another and mount things there?

The system calls that Python 3.11 does not have: unshare(2), setns(2), mount(2) and prctl(2), each
with its errno turned into an OSError. Namespaces belong to threads, not to processes: everything
here acts on the calling thread, and a thread or process that it starts afterwards inherits.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sh14x")

_libc = ctypes.CDLL(None, use_errno=True)

THREAD_NETWORK = Path("/proc/thread-self/ns/net")
"""The calling thread's network namespace; /proc/self is that of the main thread."""


def _check(result: int, what: str) -> None:
    """Raise the OSError of a C call that answered -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Give the calling thread fresh namespaces; CLONE_NEWPID counts for its children only."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0) -> None:
    """Attach a file system to a place, or change what is attached there (mount(2))."""
    encoded = kind.encode() if kind is not None else None
    result = _libc.mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), None)
    _check(result, target)


def detach(target: str) -> None:
    """Take away what is mounted at a place, even while something still uses it (umount2(2))."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), target)


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0), "prctl")


def enter_network(descriptor: int) -> None:
    """Move the calling thread into the network namespace of an open descriptor."""
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """Run the body in another network namespace; sockets opened and processes started stay there."""
    home = os.open(THREAD_NETWORK, os.O_RDONLY)
    try:
        enter_network(descriptor)
        try:
            yield
        finally:
            enter_network(home)
    finally:
        os.close(home)


def create_network() -> int:
    """Make a network namespace and return its descriptor; it lives as long as something holds it."""
    home = os.open(THREAD_NETWORK, os.O_RDONLY)
    try:
        unshare(CLONE_NEWNET)
        try:
            return os.open(THREAD_NETWORK, os.O_RDONLY)
        finally:
            enter_network(home)
    finally:
        os.close(home)


def loopback_up() -> None:
    """Bring `lo` up in the calling thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        _, flags = _IFREQ.unpack(answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
