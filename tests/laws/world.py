"""Where do random packets meet random Services? In a node's kernel with seven machines around it.

Far lighter than the lab: a star of cables (`tests.laws.places`) and a mode in this very process, so
that a whole new cluster is programmed and asked in half a second.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from endpoints.explain import Hook, Packet
from endpoints.names import Family
from endpoints.node import Loopback, NodeSettings
from modes.base import Mode
from modes.nftables import netlink as nl
from tests.lab import modes, namespaces
from tests.lab.network import Network, write_sysctls
from tests.lab.probes import Answer, Target, connect
from tests.lab.servers import PORTS, Servers
from tests.laws.places import (
    BRIDGE_ADDRESSES,
    CABLED,
    CLIENTS,
    ENDPOINTS,
    HERE,
    NODE,
    NODE_ADDRESSES,
    SINK_ADDRESSES,
    Place,
)

SINK = "sink"
SILENCE_SECONDS = 0.3
_NUMBERS = count(1)
_V4, _V6 = NODE_ADDRESSES
_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}
_NETLINK_NETFILTER, _CONNTRACK, _DELETE = 12, 1, 2
_Result = TypeVar("_Result")


class World:
    """node-a, programmed by a mode, and everyone around it; close it when done."""

    def __init__(self, mode: str) -> None:
        """Cable the machines; nothing is programmed yet."""
        with contextlib.ExitStack() as building:
            self._network = Network(Path(f"/run/world-{next(_NUMBERS)}"))
            building.callback(self._network.close)
            self._servers = Servers()
            building.callback(self._servers.close)
            self.mode: Mode = modes.create(mode)
            building.callback(self.mode.close)
            self._threads = ThreadPoolExecutor(len(CLIENTS))
            building.callback(self._threads.shutdown)
            self._cable()
            for place in ENDPOINTS:
                for port in PORTS:
                    self._servers.serve(f"{place.name}:{port}", self._network[place.name], [port])
            self._closing = building.pop_all()

    def close(self) -> None:
        """Let everything go."""
        self._closing.close()

    def settings(self, given: NodeSettings) -> NodeSettings:
        """Settings as this mode's nodes have them: with IPVS they hold the Services' addresses."""
        if self.mode.name != "ipvs":
            return given
        return msgspec.structs.replace(given, loopback=Loopback.NEVER, holds_addresses=True)

    def on_node(self, action: Callable[[], _Result]) -> _Result:
        """Do something in the network of node-a."""
        with namespaces.inside(self._network[HERE]):
            return action()

    def ask(self, packets: Sequence[Packet]) -> list[Answer]:
        """Send them all, those of one source at the same time as those of others."""
        answers: dict[int, Answer] = {}
        jobs = []
        for place in CLIENTS:
            mine = [i for i, packet in enumerate(packets) if sender(packet) is place]
            if mine:
                targets = [
                    Target(p.destination, p.port, p.protocol) for p in (packets[i] for i in mine)
                ]
                jobs.append((mine, self._threads.submit(self._connect, place, targets)))
        for mine, job in jobs:
            answers.update(zip(mine, job.result(), strict=True))
        return [answers[i] for i in range(len(packets))]

    def forget_flows(self) -> None:
        """Delete every tracked flow of node-a, so that a reused source port is a new flow."""
        kind = _CONNTRACK << 8 | _DELETE
        with namespaces.inside(self._network[HERE]):
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        with netlink:
            netlink.send(nl.message(kind, nl.NLM_F_ACK, 0, 1, b""))
            (answer,) = nl.replies(netlink.recv(1 << 16))
            assert not answer.error

    def _connect(self, place: Place, targets: Sequence[Target]) -> list[Answer]:
        network = self._network[place.name]
        return connect(network, targets, SILENCE_SECONDS, self._servers.settle)

    def _cable(self) -> None:
        for machine in (HERE, SINK, *(place.name for place in CABLED)):
            self._network.create(machine)
        for machine in (HERE, SINK):
            with namespaces.inside(self._network[machine]):
                write_sysctls(_FORWARDING)
        self._network.configure(HERE, _node_lines(self._network))
        self._network.configure(SINK, _sink_lines())
        for command in _NOBODY:
            self._network.run(SINK, command.split())
        for place in CABLED:
            self._network.configure(place.name, _leaf_lines(place))


def sender(packet: Packet) -> Place:
    """Who sends a packet."""
    if packet.hook is Hook.OUTPUT:
        return NODE
    (found,) = [place for place in CLIENTS if packet.source in place.addresses.values()]
    return found


def _node_lines(network: Network) -> Iterator[str]:
    for address in (*NODE_ADDRESSES, *BRIDGE_ADDRESSES):
        yield f"address add {address} dev lo"
    for link, machine in [(place.link, place.name) for place in CABLED] + [(SINK, SINK)]:
        yield f"link add {link} type veth peer name eth0 netns {network.path(machine)}"
        yield f"link set {link} up"
        # A neighbour solicitation is answered only for an address of the link itself.
        yield f"address add fe80::1/64 dev {link} nodad"
    for place in CABLED:
        yield f"route add {place.addresses[Family.IPV4]} dev {place.link} src {_V4}"
        yield f"route add {place.addresses[Family.IPV6]} dev {place.link} src {_V6}"
    yield f"route add {SINK_ADDRESSES[0]} dev {SINK} src {_V4}"
    yield f"route add default via {SINK_ADDRESSES[0]} dev {SINK} src {_V4}"
    yield f"route add default via fe80::2 dev {SINK} src {_V6}"


def _leaf_lines(place: Place) -> Iterator[str]:
    yield "link set eth0 up"
    yield f"address add {place.addresses[Family.IPV4]} dev eth0"
    yield f"address add {place.addresses[Family.IPV6]} dev eth0 nodad"
    yield f"route add {_V4} dev eth0"
    yield f"route add default via {_V4} dev eth0"
    yield "route add default via fe80::1 dev eth0"


# Who comes here is told that there is nobody: neither an answer, nor a refusal, nor silence. A
# route of type unreachable would tell it once a second only.
_NOBODY = (
    "iptables-legacy -A FORWARD -j REJECT --reject-with icmp-net-unreachable",
    "ip6tables-legacy -A FORWARD -j REJECT --reject-with icmp6-no-route",
)


def _sink_lines() -> Iterator[str]:
    yield "link set eth0 up"
    yield f"address add {SINK_ADDRESSES[0]} dev eth0"
    yield f"address add {SINK_ADDRESSES[1]} dev eth0 nodad"
    yield "address add fe80::2/64 dev eth0 nodad"
    yield f"route add {_V4} dev eth0"
    yield f"route add {_V6} via fe80::1 dev eth0"
    yield f"route add default via {_V4} dev eth0"
    yield "route add default via fe80::1 dev eth0"
