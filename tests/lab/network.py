"""How do namespaces become nodes, a router and a client on one network?

The switch is a bridge in the router's namespace. Links and routes are written by one `ip -batch`
for each namespace, sysctls by plain files; nothing waits for duplicate address detection.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab import namespaces, sandbox, topology
from tests.lab.topology import CLIENT, NODES, PREFIX_LENGTHS, ROUTER, Node

_SYSCTLS = Path("/proc/sys/net")

_EVERYWHERE = {
    # Inherited from the machine otherwise (net.core.devconf_inherit_init_net is 0).
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # No second of waiting for each IPv6 address.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
    # Refusals by ICMP are rationed: six to a peer at once, then one a second. No type is, now.
    "ipv4/icmp_ratemask": "0",
    "ipv6/icmp/ratemask": "\n",
}

_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    # A redirect would teach a node a way past the machine that the test watches.
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
}


def _bridge_calls(value: str) -> dict[str, str]:
    names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
    return dict.fromkeys((f"bridge/{name}" for name in names), value)


# The reply of a pod to its neighbour on the same bridge is translated back only if it is shown to
# the IP hooks. The router's bridge is the cluster's switch and shows nothing.
_NODE = _EVERYWHERE | _FORWARDING | _bridge_calls("1") | {"bridge/bridge-nf-call-arptables": "0"}
_ROUTER = _EVERYWHERE | _FORWARDING | _bridge_calls("0")


class Network:
    """The namespaces of one lab: they have names in a folder, and go when they are closed."""

    def __init__(self, folder: Path) -> None:
        """Make nothing yet; `folder` will hold a file for each namespace, as /run/netns does."""
        sandbox.require_sandbox()
        self._folder = folder
        self._descriptors: dict[str, int] = {}
        folder.mkdir(parents=True)

    def __iter__(self) -> Iterator[str]:
        """The machines that exist now."""
        return iter(tuple(self._descriptors))

    def __getitem__(self, machine: str) -> int:
        """The descriptor of a machine's namespace. Raises KeyError if there is no such machine."""
        return self._descriptors[machine]

    def path(self, machine: str) -> Path:
        """The file of a machine's namespace, for programs that want one."""
        return self._folder / machine

    def create(self, machine: str, sysctls: Mapping[str, str] = _EVERYWHERE) -> None:
        """Make a namespace for a machine, with its `lo` up."""
        if machine in self._descriptors:
            raise ValueError(f"{machine} exists already")
        descriptor = namespaces.create_network()
        self._descriptors[machine] = descriptor
        self.path(machine).touch()
        source = f"/proc/thread-self/fd/{descriptor}"
        namespaces.mount(source, str(self.path(machine)), None, namespaces.MS_BIND)
        with namespaces.inside(descriptor):
            write_sysctls(sysctls)
            namespaces.loopback_up()

    def remove(self, machine: str) -> None:
        """Let a machine go; the kernel tears it down when its last process and socket are gone."""
        os.close(self._descriptors.pop(machine))
        namespaces.detach(str(self.path(machine)))
        self.path(machine).unlink()

    def close(self) -> None:
        """Let every machine go."""
        for machine in self:
            self.remove(machine)

    def run(self, machine: str, command: Sequence[str], text: str = "") -> str:
        """Run a short command on a machine and return what it prints.

        Raises:
            RuntimeError: it failed; the message holds what it said on standard error.
        """
        with namespaces.inside(self[machine]):
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            complaint = done.stderr.strip() or done.stdout.strip()
            raise RuntimeError(f"{machine}: {' '.join(command)}: {complaint}")
        return done.stdout

    def configure(self, machine: str, lines: Iterable[str]) -> None:
        """Apply arguments of `ip`, a line each, on a machine. Raises RuntimeError as `run`."""
        self.run(machine, ["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))


def write_sysctls(values: Mapping[str, str]) -> None:
    """Set sysctls below net/ in the calling thread's namespace; an equal value is left alone.

    Raises:
        RuntimeError: the kernel lacks one; br_netfilter is a module that nothing loads by itself.
    """
    for name, value in values.items():
        path = _SYSCTLS / name
        try:
            path.write_text(value)
        except FileNotFoundError as error:
            hint = " (modprobe br_netfilter)" if name.startswith("bridge/") else ""
            raise RuntimeError(f"this kernel has no sysctl net/{name}{hint}") from error


def build(network: Network) -> None:
    """Make router, client and nodes, and connect them; pods come later, by CNI."""
    network.create(ROUTER, _ROUTER)
    network.create(CLIENT)
    for node in NODES:
        network.create(node.name, _NODE)
    network.configure(ROUTER, _router_lines(network))
    network.configure(CLIENT, _host_lines(topology.CLIENT_ADDRESSES, topology.ROUTER_OUTSIDE))
    for node in NODES:
        network.configure(node.name, _node_lines(node))


def _router_lines(network: Network) -> Iterator[str]:
    yield "link add lan type bridge"
    yield from _address_lines("lan", topology.ROUTER_INSIDE)
    for node in NODES:
        yield f"link add {node.name} type veth peer name eth0 netns {network.path(node.name)}"
        yield f"link set {node.name} master lan up"
    yield f"link add {CLIENT} type veth peer name eth0 netns {network.path(CLIENT)}"
    yield from _address_lines(CLIENT, topology.ROUTER_OUTSIDE)
    for node in NODES:
        yield from _route_lines(node.pod_cidrs, node)
    yield from _route_lines(topology.LOAD_BALANCER_CIDRS, NODES[0])


def _node_lines(node: Node) -> Iterator[str]:
    yield from _host_lines(node.addresses, topology.ROUTER_INSIDE)
    for other in NODES:
        if other is not node:
            yield from _route_lines(other.pod_cidrs, other)


def _host_lines(addresses: Iterable[str], gateways: Iterable[str]) -> Iterator[str]:
    yield from _address_lines("eth0", addresses)
    for gateway in gateways:
        yield f"route add default via {gateway}"


def _address_lines(link: str, addresses: Iterable[str]) -> Iterator[str]:
    yield f"link set {link} up"
    for address, length in zip(addresses, PREFIX_LENGTHS, strict=True):
        yield f"address add {address}/{length} dev {link}"


def _route_lines(prefixes: Iterable[str], via: Node) -> Iterator[str]:
    for prefix in prefixes:
        yield f"route replace {prefix} via {via.addresses[topology.prefix_index(prefix)]}"


def route_through(network: Network, prefix: str, node: Node) -> None:
    """Let the router send a prefix to this node, as a load balancer's announcement does."""
    network.configure(ROUTER, _route_lines([prefix], node))
