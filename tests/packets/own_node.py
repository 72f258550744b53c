"""How does one process be client, node and endpoints at once?

For questions about chance and number, where the way of a packet does not matter: a namespace in
which every pod address is local, a mode of headgate in this very process, and one socket that
answers for all endpoints. A connection costs some 50 us.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator

from endpoints.documents import from_documents
from endpoints.events import Upsert
from endpoints.names import Family, ObjectName
from endpoints.node import NodeSettings
from endpoints.state import ClusterState
from modes.base import Delta
from tests.lab import modes, namespaces, sandbox, topology
from tests.lab.manifests import Document

NODE = topology.NODES[0]
PORT = 8080

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_FREE_BIND = {  # linux/in.h, linux/in6.h: any address may be bound
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
_SETUP = """
address add 192.168.0.11/32 dev lo
address add fd00:192:168::11/128 dev lo nodad
route add local 10.244.0.0/16 dev lo
route add local fd00:10:244::/48 dev lo
route add 10.96.0.0/12 dev lo src 192.168.0.11
route add fd00:10:96::/112 dev lo src fd00:192:168::11
"""


class OwnNode:
    """A node in the calling thread's namespace, programmed by a mode."""

    def __init__(self, mode: str, listener: socket.socket) -> None:
        """Program nothing yet."""
        addresses = frozenset((*NODE.addresses, "127.0.0.1", "::1"))
        settings = NodeSettings(NODE.name, cluster_cidrs=topology.CLUSTER_CIDRS)
        self._state = ClusterState(settings, addresses)
        self._mode = modes.create(mode)
        self._listener = listener
        self._mode.start(self._state.node)
        self._mode.replace({})

    def apply(self, documents: Iterable[Document]) -> None:
        """Let these objects be new or different, in one transaction."""
        parsed = json.loads(json.dumps(list(documents)))  # as if from a file
        objects, problems = from_documents((one, str(one["metadata"])) for one in parsed)
        assert not problems
        dirty: set[ObjectName] = set()
        for one in objects:
            dirty |= self._state.fold(Upsert(one)).dirty
        report = self._mode.apply(Delta({name: self._state.plans(name) for name in dirty}))
        assert not report.failed

    def services(self) -> set[ObjectName]:
        """The Services that are known."""
        return set(self._state.services())

    def reach(self, address: str, port: int, source: str | None = None) -> tuple[str, int]:
        """Connect, as this source, and say at which address and port the connection arrived."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            client.settimeout(1)
            if source is not None:
                client.setsockopt(*_FREE_BIND[family], 1)
                client.bind((source, 0))
            client.connect((address, port))
            server, _ = self._listener.accept()
            with server:
                place = server.getsockname()
        return str(place[0]).removeprefix("::ffff:"), int(place[1])

    def close(self) -> None:
        """Give the mode's sockets back."""
        self._mode.close()


@contextlib.contextmanager
def own_node(mode: str) -> Iterator[OwnNode]:
    """A node in a namespace of its own; the calling thread stays in there meanwhile."""
    with sandbox.own_network(), socket.socket(socket.AF_INET6) as listener:
        namespaces.loopback_up()
        subprocess.run(["ip", "-batch", "-"], input=_SETUP.strip(), text=True, check=True)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", PORT))
        listener.listen(16)
        listener.settimeout(1)
        node = OwnNode(mode, listener)
        try:
            yield node
        finally:
            node.close()


def pod_address(family: Family, number: int) -> str:
    """The address of one of up to 65,000 pods."""
    if family is Family.IPV4:
        return f"10.244.{number >> 8}.{number & 255}"
    return f"fd00:10:244::{number:x}"
