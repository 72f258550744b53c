"""How does a pod get its network? As from a container runtime: by the real CNI plugins.

The bridge plugin with host-local addresses, in the protocol of the CNI specification 1.0.0: the
configuration on standard input, the command in the environment, the result on standard output.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.network import Network
from tests.lab.topology import Node, Pod

PLUGINS = Path("/usr/lib/cni")


class PodNetwork:
    """The bridge network `cni0` of every node."""

    def __init__(self, network: Network, state: Path) -> None:
        """`state` is a folder for the leases of host-local, which knows nothing of namespaces."""
        self._network = network
        self._state = state
        if not (PLUGINS / "bridge").exists():
            raise RuntimeError(f"{PLUGINS}/bridge is missing: make packages")

    def plug_in(self, name: str, node: Node) -> Pod:
        """Make a namespace for a pod and connect it to its node's bridge.

        Raises:
            RuntimeError: a plugin refused; the message is its own.
        """
        self._network.create(name)
        result = json.loads(self._call("ADD", name, node))
        found = [str(address["address"]).partition("/")[0] for address in result["ips"]]
        ipv4, ipv6 = sorted(found, key=lambda address: ":" in address)
        return Pod(name, node.name, node.zone, (ipv4, ipv6))

    def unplug(self, name: str, node: Node) -> None:
        """Give back a pod's addresses and links, then its namespace. Raises as `plug_in`."""
        self._call("DEL", name, node)
        self._network.remove(name)

    def _call(self, command: str, pod: str, node: Node) -> str:
        arguments = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": str(self._network.path(pod)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        words = ["env", *(f"{key}={value}" for key, value in arguments.items())]
        return self._network.run(
            node.name, [*words, str(PLUGINS / "bridge")], json.dumps(self._configuration(node))
        )

    def _configuration(self, node: Node) -> dict[str, object]:
        return {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._state / node.name),
                "ranges": [[{"subnet": cidr}] for cidr in node.pod_cidrs],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        }
