"""On which machines are faults planted? A node, two pods on its bridge, and a peer with two links.

The peer stands for another node (192.168.0.12, whose pod is 10.244.2.2) and for a client outside,
203.0.113.7, who asks by one link and is answered by the other one.

    pod-1 10.244.1.2 ─┐                        ┌─ eth0 192.168.0.12 ─┐
    pod-2 10.244.1.3 ─┴─ cni0 ─ node ─ eth0 ───┘                     ├─ peer
                                    └─ eth1 198.51.100.1 ── eth1 ────┘
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from endpoints.explain import Hook, Packet, walk
from endpoints.names import ObjectName, Protocol
from endpoints.node import DetectLocalMode, LocalTraffic, NodePortAddresses, NodeView
from endpoints.plan import Endpoint, ServicePlan
from modes.base import Plans
from proxy.facts.finding import Finding
from proxy.facts.findings import findings
from proxy.facts.machine import facts, flows
from proxy.facts.routing import ways
from proxy.node import local_addresses
from tests.lab import modes, namespaces, network
from tests.lab.network import Network
from tests.lab.probes import Answer, Connection, Target, connect
from tests.lab.servers import Servers
from tests.unit.modes.nftables.build import PAY, cluster_ip, node_port, plan_of

NODE, PEER, POD_1, POD_2 = "node", "peer", "pod-1", "pod-2"
VIP, VIP6, NODE_PORT, CLIENT = "10.96.7.7", "fd00:10:96::7", 30080, "203.0.113.7"
POD = {POD_1: "10.244.1.2", POD_2: "10.244.1.3", PEER: "10.244.2.2"}
POD6 = {POD_1: "fd00:10:244:1::2", POD_2: "fd00:10:244:1::3", PEER: "fd00:10:244:2::2"}
SERVICE = ObjectName("shop", "pay")
_CALM = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
}
_ON_NODE = _CALM | {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/all/forwarding": "1",
    "bridge/bridge-nf-call-iptables": "1",
    "bridge/bridge-nf-call-ip6tables": "1",
}
_MACS = ("02:00:00:00:00:11", "02:00:00:00:00:12")
# A link that has just come up loses its first neighbour solicitation, and asks again after 1 s.
_NODE_LINES = f"""
address add 192.168.0.11/24 dev eth0
address add fd00:192:168::11/64 dev eth0
address add 198.51.100.1/24 dev eth1
link set eth0 up
link set eth1 up
link add cni0 type bridge
address add 10.244.1.1/24 dev cni0
address add fd00:10:244:1::1/64 dev cni0
link set cni0 up
route add 10.244.2.0/24 via 192.168.0.12
route add fd00:10:244:2::/64 via fd00:192:168::12
route add 203.0.113.0/24 via 192.168.0.12
neighbour add fd00:192:168::12 lladdr {_MACS[1]} dev eth0 nud permanent
"""
_PEER_LINES = f"""
address add 192.168.0.12/24 dev eth0
address add fd00:192:168::12/64 dev eth0
address add 198.51.100.2/24 dev eth1
address add 10.244.2.2/32 dev lo
address add fd00:10:244:2::2/128 dev lo
address add 203.0.113.7/32 dev lo
link set eth0 up
link set eth1 up
route add 10.244.1.0/24 via 192.168.0.11
route add fd00:10:244:1::/64 via fd00:192:168::11
route add 10.96.0.0/12 via 198.51.100.1 src 203.0.113.7
neighbour add fd00:192:168::11 lladdr {_MACS[0]} dev eth0 nud permanent
"""


def service(*machines: str, ipv6: bool = False, protocol: Protocol = Protocol.TCP) -> ServicePlan:
    """The Service, with these machines for endpoints."""
    pods = POD6 if ipv6 else POD
    return plan_of(
        cluster_ip(VIP6 if ipv6 else VIP),
        node_port(NODE_PORT),
        cluster=[
            Endpoint(
                pods[machine],
                8080,
                is_local=machine is not PEER,
                node="node-b" if machine is PEER else "node-a",
            )
            for machine in machines
        ],
        name=msgspec.structs.replace(PAY, protocol=protocol),
    )


class World:
    """The machines; a mode of nftables keeps the node's rules, and nothing cleans up flows."""

    def __init__(self) -> None:
        """Build them. Needs a sandbox."""
        self._folder = tempfile.TemporaryDirectory(dir="/run")
        self.network = Network(Path(self._folder.name) / "net")
        self.servers = Servers()
        self.network.create(NODE, _ON_NODE)
        for machine in (PEER, POD_1, POD_2):
            self.network.create(machine, _CALM)
        peer = self.network.path(PEER)
        self.configure(
            NODE,
            f"link add eth0 address {_MACS[0]} type veth"
            f" peer name eth0 address {_MACS[1]} netns {peer}\n"
            f"link add eth1 type veth peer name eth1 netns {peer}{_NODE_LINES}",
        )
        self.configure(PEER, _PEER_LINES)
        for machine in (POD_1, POD_2):
            self._plug(machine)
        for machine in (PEER, POD_1, POD_2):
            self.servers.serve(machine, self.network[machine])
        with namespaces.inside(self.network[NODE]):
            self._mode = modes.create("nftables")
        self.node = self._view()
        self.plans: Plans = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mode.close()
        self.servers.close()
        self.network.close()
        self._folder.cleanup()

    def configure(self, machine: str, lines: str) -> None:
        """Let `ip` do this there, a line each."""
        self.network.configure(machine, lines.strip().splitlines())

    def sysctl(self, name: str, value: int) -> None:
        """Set one on the node, `ipv4/ip_forward`."""
        with namespaces.inside(self.network[NODE]):
            network.write_sysctls({name: str(value)})

    def serve(self, *plans: ServicePlan, localhost: str = "") -> None:
        """Let these be the plans of the only Service; `localhost`: NodePorts answer there, too."""
        self.node = self._view(localhost)
        self.plans = plans
        services: Mapping[ObjectName, Plans] = {SERVICE: plans} if plans else {}
        with namespaces.inside(self.network[NODE]):
            self._mode.start(self.node)
            assert not self._mode.replace(services).failed

    def reach(self, machine: str, target: Target) -> Answer:
        """Connect from a machine."""
        (answer,) = connect(self.network[machine], [target], 0.3, self.servers.settle)
        return answer

    def hold(self, machine: str, target: Target) -> Connection:
        """Open a socket on a machine, and send its first packet."""
        with namespaces.inside(self.network[machine]):
            return Connection(target.open(), self.servers.settle)

    def findings(
        self, source: str, to: str = VIP, interface: str | None = None, port: int = 80
    ) -> tuple[Finding, ...]:
        """What the node has to say of a packet to the Service; from its own address: one it sends."""
        hook = Hook.OUTPUT if source in self.node.addresses else Hook.PREROUTING
        packet = Packet(source, to, port, self.plans[0].name.protocol, hook, interface)
        explanation = walk(self.plans, self.node, packet)
        with namespaces.inside(self.network[NODE]):
            found = facts()
            return findings(
                packet,
                explanation,
                self.node,
                found,
                ways(packet, explanation, found),
                flows(packet),
            )

    def _plug(self, machine: str) -> None:
        number = machine[-1]
        self.configure(
            NODE,
            f"link add veth{number} type veth peer name eth0 netns {self.network.path(machine)}\n"
            f"link set veth{number} master cni0 up\n"
            f"link set veth{number} type bridge_slave hairpin on",
        )
        self.configure(
            machine,
            f"address add {POD[machine]}/24 dev eth0\naddress add {POD6[machine]}/64 dev eth0\n"
            "link set eth0 up\nroute add default via 10.244.1.1\n"
            "route add default via fd00:10:244:1::1",
        )

    def _view(self, localhost: str = "") -> NodeView:
        with namespaces.inside(self.network[NODE]):
            addresses = local_addresses()
        answering = tuple(sorted({"192.168.0.11", *([localhost] if localhost else [])}))
        pods = LocalTraffic(DetectLocalMode.CLUSTER_CIDR, ("10.244.0.0/16", "fd00:10:244::/48"))
        return NodeView(
            name="node-a",
            addresses=addresses,
            node_ports_v4=NodePortAddresses(addresses=answering),
            local_traffic=pods,
        )
