"""How does a test look at the ruleset, and meddle with it, as somebody else would?"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterable, Mapping

from endpoints.names import ObjectName, Protocol, ServicePortName
from endpoints.plan import ServicePlan
from modes.base import Plans
from modes.nftables import codec
from modes.nftables import netlink as nl
from modes.nftables.codec import Found
from modes.nftables.elements import Value, set_of
from modes.nftables.kernel import Kernel
from modes.nftables.mode import NftablesMode
from modes.nftables.skeleton import TABLE
from tests.unit.modes.nftables.build import cluster_ip, plan_of, pods

Clustered = dict[ObjectName, Plans]


def nft(*words: str, text: str = "") -> str:
    """Run nft; the text is its standard input. Raises CalledProcessError."""
    done = subprocess.run(["nft", *words], input=text, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


def ruleset() -> str:
    """All that there is, handles included: what is deleted and made again differs."""
    return nft("-a", "list", "ruleset")


def named(name: str, port: str = "http") -> ServicePortName:
    return ServicePortName("shop", name, port, Protocol.TCP)


def services(*numbers: int, endpoints: int = 2) -> Clustered:
    """Services of both families: number 7 is `shop/s7` at 10.96.0.7 and fd00:10:96::7."""
    return {ObjectName("shop", f"s{n}"): plans(n, endpoints) for n in numbers}


def plans(number: int, endpoints: int = 2) -> tuple[ServicePlan, ...]:
    v4 = pods(*(f"10.244.2.{n}" for n in range(1, endpoints + 1)))
    v6 = pods(*(f"fd00:10:244:2::{n:x}" for n in range(1, endpoints + 1)))
    name = named(f"s{number}")
    return (
        plan_of(cluster_ip(f"10.96.0.{number}"), cluster=v4, name=name),
        plan_of(cluster_ip(f"fd00:10:96::{number:x}"), cluster=v6, name=name),
    )


def commit(kernel: Kernel, messages: Iterable[nl.Message]) -> None:
    """Do something behind the mode's back."""
    assert not kernel.transact(list(messages)).failures


def add(kernel: Kernel, elements: Mapping[bytes, Value]) -> None:
    commit(kernel, codec.additions(elements))


def delete(kernel: Kernel, keys: Iterable[bytes]) -> None:
    commit(kernel, codec.deletions(keys))


def remember(kernel: Kernel, entries: Iterable[Found]) -> None:
    """Put clients into the affinity maps, as packets do."""
    for entry in entries:
        family, set_id = set_of(entry.key)
        body = nl.element_list(TABLE, set_id.set_name, [codec.encode_timed(entry)])
        commit(kernel, [nl.Message(nl.NEWSETELEM, nl.NLM_F_CREATE, family, body, [entry.key])])


class CountingSocket:
    """What a mode sends, counted: each send is one system call."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.sent: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)
        self._inner.sendall(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._inner.recv(size, flags)

    def close(self) -> None:
        self._inner.close()


def counted(mode: NftablesMode) -> CountingSocket:
    """From now on, what the mode sends."""
    counting = CountingSocket(mode._kernel._socket)
    mode._kernel._socket = counting  # type: ignore[assignment]
    return counting


def kinds(data: bytes) -> list[int]:
    """The kinds of message in what was sent."""
    found = []
    while data:
        size, kind = struct.unpack_from("=IH", data)
        found.append(kind & 0xFF)
        data = data[(size + 3) & ~3 :]
    return found
