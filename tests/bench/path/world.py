"""Where do the packets go? From a client through a node to pods, each a network namespace.

    client ── node ── server
    10.255.255.2     10.128.0.1 to 10.128.0.10

Only the node has rules. The client has an address of the pods' network and is no endpoint, so that
nothing that it sends to a Service is masqueraded.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.bench import cluster
from tests.bench.cluster import TARGET_PORT, Size
from tests.lab import namespaces
from tests.lab.network import Network

PODS = tuple(cluster.pods(Size(1, 10), 0))
Address = tuple[str, int]
POD_ADDRESSES = tuple((pod, TARGET_PORT) for pod in PODS)
"""Where the pods listen."""

_CLIENT, _CLIENT_SIDE = "10.255.255.2", "10.255.255.1"
_SERVER, _SERVER_SIDE = "10.255.254.2", "10.255.254.1"
_BACKLOG = 4096
"""What the kernel allows by default."""
_SYSCTLS = {"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0"}
_FORWARDING = _SYSCTLS | {"ipv4/ip_forward": "1"}


class World:
    """The machines of one variant, and what was seen to answer there."""

    def __init__(self, network: Network) -> None:
        """Connect machines that exist, and let the pods listen."""
        self._network = network
        self.targets: Sequence[Address] = POD_ADDRESSES
        """Where clients connect to."""
        self.answers: Counter[str] = Counter()
        """How many flows each address answered, as the server saw its own."""
        _connect(network)
        with namespaces.inside(network["server"]):
            self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for one in (self.datagrams, self.listener):
            one.bind(("", TARGET_PORT))
        self.listener.listen(_BACKLOG)
        self.listener.settimeout(0)

    def on_node(self) -> AbstractContextManager[None]:
        """Run the body in the node's network namespace."""
        return namespaces.inside(self._network["node"])

    def on_client(self) -> AbstractContextManager[None]:
        """Run the body in the client's network namespace."""
        return namespaces.inside(self._network["client"])

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a command on the node. Raises RuntimeError if it fails."""
        return self._network.run("node", command, text)

    def forget_flows(self) -> None:
        """Let the node track nothing that was. Raises RuntimeError."""
        self.run(["conntrack", "--flush"])

    def close(self) -> None:
        """Stop listening."""
        self.datagrams.close()
        self.listener.close()


@contextmanager
def built(folder: Path) -> Iterator[World]:
    """A world without rules; a folder that is not there yet will hold its namespaces."""
    network = Network(folder)
    try:
        network.create("client", _SYSCTLS)
        network.create("node", _FORWARDING)
        network.create("server", _SYSCTLS)
        world = World(network)
        try:
            yield world
        finally:
            world.close()
    finally:
        network.close()


def _connect(network: Network) -> None:
    network.configure(
        "node",
        [
            *_link(network, "client", _CLIENT_SIDE),
            *_link(network, "server", _SERVER_SIDE),
            *(f"route add {pod} via {_SERVER}" for pod in PODS),
        ],
    )
    network.configure("client", _host(_CLIENT, _CLIENT_SIDE))
    addresses = (f"address add {pod}/32 dev eth0" for pod in PODS)
    network.configure("server", [*_host(_SERVER, _SERVER_SIDE), *addresses])


def _link(network: Network, machine: str, address: str) -> Iterator[str]:
    yield f"link add {machine} type veth peer name eth0 netns {network.path(machine)}"
    yield f"link set {machine} up"
    yield f"address add {address}/30 dev {machine}"


def _host(address: str, gateway: str) -> Iterator[str]:
    yield "link set eth0 up"
    yield f"address add {address}/30 dev eth0"
    yield f"route add default via {gateway}"
