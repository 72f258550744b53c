"""What does a table of legacy iptables hold? Asked as a whole: the kernel tells no part of it.

The structures are those of linux/netfilter_ipv4/ip_tables.h and linux/netfilter/x_tables.h. Nothing
is parsed but the few rules that are asked for: a table has 100,000s.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from modes.xtables.names import SVC
from tests.bench.whole.translation import DNAT, Destination, destination

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")
_ENTRIES = struct.Struct("=32sI4x")
"""struct ipt_get_entries: name and size, and what aligns the entries to eight bytes."""
_ATTEMPTS = 100

_TARGET_OFFSETS, _ENTRY_SIZE = 88, 112
"""Of struct ipt_entry: where it says at which offset its target and the next entry are."""
_OFFSETS = struct.Struct("=HH")
_ADDRESSES = struct.Struct("=4s4s4s4s")
"""An entry begins with source, destination and the mask of each."""
_ANY, _HOST = bytes(4), bytes([255] * 4)
_TARGET = struct.Struct("=H29sB")
"""struct xt_entry_target: size, name, revision."""
_VERDICT = struct.Struct("=i")
_ERROR = _TARGET.pack(64, b"ERROR", 0)
"""The target of an entry that is the head of a chain; the chain's name follows."""
_ERROR_SIZE = 64
_NAME_SIZE = 30


class Size(NamedTuple):
    """How large a table is."""

    entries: int
    octets: int


class Target(NamedTuple):
    """What a rule does; one of both is empty."""

    chain: int
    """It jumps there: where the first rule of a chain is. 0: it does not."""
    destination: Destination


class Blob:
    """A table as the kernel keeps it. Pure."""

    def __init__(self, data: bytearray, end: int) -> None:
        """The entries are in the data behind a header, up to an end."""
        self._data = data
        self._end = end
        self._services: dict[bytes, int] | None = None
        self._spans: dict[str, tuple[int, int]] = {}

    def chain(self, name: str) -> int | None:
        """Where the first rule of a chain of a Service is; None if there is no such chain."""
        if self._services is None:
            self._services = dict(self._chains(SVC.encode()))
        return self._services.get(name.encode())

    def _chains(self, prefix: bytes) -> Iterator[tuple[bytes, int]]:
        """All chains whose name begins so, and where the first rule of each is."""
        at = self._data.find(_ERROR + prefix, 0, self._end)
        while at >= 0:
            yield self._name(at), at + _ERROR_SIZE
            at = self._data.find(_ERROR + prefix, at + _ERROR_SIZE, self._end)

    def _name(self, error: int) -> bytes:
        """The name of the chain that begins with this target."""
        start = error + len(_ERROR)
        return bytes(self._data[start : start + _NAME_SIZE]).partition(b"\0")[0]

    def leads(self, chain: str, to: bytes, target: int) -> bool:
        """Whether a rule of a chain leads from one destination address to another chain."""
        return any(self._target(entry).chain == target for entry in self._rules_to(chain, to))

    def names(self, chain: str, to: bytes) -> bool:
        """Whether a chain has a rule for one destination address."""
        return any(True for _ in self._rules_to(chain, to))

    def _rules_to(self, chain: str, to: bytes) -> Iterator[int]:
        start, end = self._span(chain)
        addresses = _ADDRESSES.pack(_ANY, to, _ANY, _HOST)
        entry = self._data.find(addresses, start, end)
        while entry >= 0:
            yield entry
            entry = self._data.find(addresses, entry + _ENTRY_SIZE, end)

    def _span(self, chain: str) -> tuple[int, int]:
        """From the name of a chain to the head of the next one; nothing if there is no such."""
        if chain not in self._spans:
            start = self._data.find(_ERROR + chain.encode() + b"\0", 0, self._end)
            end = self._data.find(_ERROR, start + 1, self._end)
            self._spans[chain] = (start, end) if start >= 0 else (0, 0)
        return self._spans[chain]

    def destinations(self, chain: int) -> set[Destination]:
        """Where a chain sends connections, through other chains too. Raises RuntimeError."""
        found = set()
        for target in map(self._target, self._entries(chain)):
            if target.destination:
                found.add(target.destination)
            elif target.chain:
                found |= self.destinations(target.chain)
        return found

    def _entries(self, entry: int) -> Iterator[int]:
        """The rules of a chain, from its first one on."""
        while not self._is_head(entry):
            yield entry
            entry += _OFFSETS.unpack_from(self._data, entry + _TARGET_OFFSETS)[1]

    def _is_head(self, entry: int) -> bool:
        """Whether the next chain begins here, or the table ends."""
        error = entry + _ENTRY_SIZE
        return self._data.startswith(_ERROR, error)

    def _target(self, entry: int) -> Target:
        target_offset, next_offset = _OFFSETS.unpack_from(self._data, entry + _TARGET_OFFSETS)
        target = entry + target_offset
        _, name, revision = _TARGET.unpack_from(self._data, target)
        told = target + _TARGET.size
        word = name.partition(b"\0")[0].decode()
        if word == DNAT:
            return Target(0, destination(revision, bytes(self._data[told : entry + next_offset])))
        verdict = _VERDICT.unpack_from(self._data, told)[0] if not word else -1
        place = _ENTRIES.size + verdict
        # A rule without a target has for a verdict the next rule; MARK and others lead nowhere.
        leads = verdict >= 0 and place != entry + next_offset
        return Target(place if leads else 0, b"")


NO_TABLE = Blob(bytearray(), 0)


class Kernel:
    """A table, in the network namespace of the thread that makes this."""

    def __init__(self, name: str) -> None:
        """Asking about a table makes it. Raises OSError."""
        self._name = name.encode()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._info = bytearray(_INFO.size)
        self._room = bytearray(_ENTRIES.size)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def size(self) -> Size:
        """How large it is; that costs the same for each table. Raises OSError."""
        _INFO.pack_into(self._info, 0, self._name, *(0,) * 13)
        self._ask(_GET_INFO, self._info, _INFO.size)
        *_, entries, octets = _INFO.unpack(self._info)
        return Size(entries, octets)

    def read(self) -> Blob:
        """All of it; the last one that was read is no longer valid then. Raises OSError."""
        for _ in range(_ATTEMPTS):
            octets = self.size().octets
            end = _ENTRIES.size + octets
            if len(self._room) < end:
                self._room = bytearray(end + end // 4)
            # Of the field of a name the kernel writes what the name needs, and leaves the rest.
            ctypes.memset((ctypes.c_char * end).from_buffer(self._room), 0, end)
            _ENTRIES.pack_into(self._room, 0, self._name, octets)
            try:
                self._ask(_GET_ENTRIES, self._room, end)
            except OSError as fault:
                if fault.errno != errno.EAGAIN:  # it was replaced by one of another size
                    raise
            else:
                return Blob(self._room, end)
        raise OSError(errno.EAGAIN, f"table {self._name.decode()} changes too fast to be read")

    def _ask(self, question: int, told: bytearray, size: int) -> None:
        """The answer takes the place of the question."""
        where = (ctypes.c_char * size).from_buffer(told)
        length = ctypes.c_uint32(size)
        found = self._libc.getsockopt(
            self._socket.fileno(), socket.IPPROTO_IP, question, where, ctypes.byref(length)
        )
        if found:
            code = ctypes.get_errno()
            raise OSError(code, f"table {self._name.decode()}: {os.strerror(code)}")
