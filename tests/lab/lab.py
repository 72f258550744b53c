"""What can a test do with the virtual cluster? Everything that it needs is a method of `Lab`.

One lab for each test module, as many at a time as there are processes: names live in the private
/run of the process, and everything is gone when the process is.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from endpoints.names import Protocol
from tests.lab import modes, namespaces, network, objects, probes, topology
from tests.lab.api import ApiServer
from tests.lab.cni import PodNetwork
from tests.lab.daemons import PATIENCE_SECONDS, Daemon
from tests.lab.load import Load
from tests.lab.manifests import Document, Manifests
from tests.lab.probes import DROP_SECONDS, Answer, Connection, Outcome, Target
from tests.lab.servers import PORTS, Servers
from tests.lab.topology import FIRST_PODS, ROUTER, Pod

_NUMBERS = itertools.count(1)

# A Service of the lab's own: its port counts the calls of wait_synced. See there.
_FENCE = "headgate-lab/fence"
_FENCE_ADDRESSES = ("10.96.255.250", "fd00:10:96::fffa")
_FENCE_FIRST_PORT = 1000
_GLANCE_SECONDS = 0.1
_HEALTHZ_PORT = 10256


class Lab:
    """Three nodes, six pods, a router and a client outside; a context manager."""

    def __init__(self) -> None:
        """Build it. Raises NotSandboxedError outside of a sandbox."""
        self.folder = Path(f"/run/lab-{next(_NUMBERS)}")
        self._cleanup = contextlib.ExitStack()
        self._pods: dict[str, Pod] = {}
        self._daemons: dict[str, Daemon] = {}
        self._api: ApiServer | None = None
        self._fences = itertools.count(_FENCE_FIRST_PORT)
        with contextlib.ExitStack() as building:
            self.network = network.Network(self.folder / "netns")
            building.callback(shutil.rmtree, self.folder)
            building.callback(self.network.close)
            self._servers = Servers()
            building.callback(self._servers.close)
            self._pod_network = PodNetwork(self.network, self.folder / "cni")
            self.manifests = Manifests(self.folder / "manifests")
            network.build(self.network)
            for pod, node in FIRST_PODS:
                self.add_pod(node, pod)
            self._cleanup = building.pop_all()

    def __enter__(self) -> Self:
        """The lab."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tear it down."""
        self.close()

    def close(self) -> None:
        """End every process of the lab and remove its namespaces."""
        with self._cleanup:
            for node in tuple(self._daemons):
                self.stop_headgate(node)

    @property
    def pods(self) -> Mapping[str, Pod]:
        """The pods that exist now, by name."""
        return dict(self._pods)

    def add_pod(self, node: str, name: str, ports: Iterable[int] = PORTS) -> Pod:
        """Plug a new pod into a node's network and let it answer."""
        pod = self._pod_network.plug_in(name, topology.node_named(node))
        self._pods[name] = pod
        self._servers.serve(name, self.network[name], ports)
        return pod

    def stop_serving(self, machine: str) -> None:
        """Close a machine's sockets: whoever waits is answered, whoever comes later is refused."""
        self._servers.stop(machine)

    def remove_pod(self, name: str) -> None:
        """Stop a pod's servers, then give back its addresses and remove it."""
        self._servers.stop(name)
        self._pod_network.unplug(name, topology.node_named(self._pods.pop(name).node))

    def serve(
        self, machine: str, ports: Iterable[int] = PORTS, *, called: str | None = None
    ) -> None:
        """Let a machine answer on more ports; a node answers in its host network, as `node-a`.

        With `called` it gives that name on these ports; `stop_serving` knows them by it, too.
        """
        self._servers.serve(called or machine, self.network[machine], ports)

    def connect(
        self,
        source: str,
        address: str,
        port: int,
        protocol: Protocol = Protocol.TCP,
        *,
        timeout: float = DROP_SECONDS,
    ) -> Answer:
        """Connect once from a pod, a node or the client, and say what happened."""
        return self.connect_all(source, [Target(address, port, protocol)], timeout=timeout)[0]

    def connect_many(
        self,
        source: str,
        address: str,
        port: int,
        protocol: Protocol = Protocol.TCP,
        *,
        count: int,
        timeout: float = DROP_SECONDS,
    ) -> list[Answer]:
        """Connect many times, each time from another port of the source."""
        targets = [Target(address, port, protocol)] * count
        return self.connect_all(source, targets, timeout=timeout)

    def connect_all(
        self, source: str, targets: Sequence[Target], *, timeout: float = DROP_SECONDS
    ) -> list[Answer]:
        """Connect to each of these, many at a time; the answers are in the order of the targets."""
        return probes.connect(self.network[source], targets, timeout, self._servers.settle)

    def hold(self, source: str, target: Target) -> Connection:
        """Open a connection that stays open until the caller closes it.

        Raises:
            ConnectionError: it was not answered; the message says what happened.
        """
        with namespaces.inside(self.network[source]):
            connection = Connection(target.open(), self._servers.settle)
        first = connection.hear()
        if first.kind is not Outcome.ANSWERED:
            connection.close()
            raise ConnectionError(f"{source} to {target.address} port {target.port}: {first}")
        return connection

    def load(self, *flows: tuple[str, Target]) -> Load:
        """Connections without pause from sources to targets, in the background: see `Load`."""
        networks = [(source, self.network[source], target) for source, target in flows]
        return Load(networks, self._servers.settle)

    def exec(self, machine: str, command: Sequence[str], text: str = "") -> str:
        """Run a program on a machine with this input, and return what it prints.

        Raises:
            RuntimeError: it failed; the message holds what it said.
        """
        return self.network.run(machine, command, text)

    def get(self, machine: str, port: int, path: str) -> tuple[int, bytes]:
        """Ask a machine's own HTTP server, on 127.0.0.1; the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        with contextlib.closing(connection), namespaces.inside(self.network[machine]):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def route_load_balancer(self, node: str) -> None:
        """Let the router send load balancer addresses to this node; at first it is node-a."""
        for prefix in topology.LOAD_BALANCER_CIDRS:
            network.route_through(self.network, prefix, topology.node_named(node))

    def serve_api(self) -> ApiServer:
        """Let there be an API server: what is saved from now on is on it, and headgates ask it."""
        self._api = ApiServer(self.network[ROUTER])
        self._cleanup.callback(self._api.close)
        return self._api

    def apply(self, *documents: Document) -> None:
        """Save objects where every headgate reads them: see tests/lab/objects.py."""
        (self._api or self.manifests).apply(documents)

    def delete(self, *documents: Document) -> None:
        """Take saved objects away."""
        (self._api or self.manifests).delete(documents)

    def start_headgate(
        self,
        node: str,
        *arguments: str,
        mode: str = "nftables",
        manifests: Path | None = None,
        config: Path | None = None,
    ) -> Daemon:
        """Start `headgate run` on a node; what it holds is known when `wait_synced` returns.

        Args:
            node: where; one runs there at most.
            arguments: more of its command line.
            mode: a back end of tests/lab/modes.py, or what stands for its --mode.
            manifests: its --manifests, by default the folder of `apply`; where there is an API
                server, the headgate asks that.
            config: its --config, which then says everything but where objects come from.
        """
        if node in self._daemons:
            raise ValueError(f"a headgate runs on {node} already")
        source = f"--manifests={manifests or self.manifests.folder}"
        if self._api is not None and manifests is None:
            source = f"--master={self._api.url}"
        command = [source, f"--hostname-override={node}"]
        if config is not None:
            command += [f"--config={config}"]
        else:
            command += [*modes.arguments(mode), "-v=2"]
            command += [f"--cluster-cidr={','.join(topology.CLUSTER_CIDRS)}"]
        self._daemons[node] = Daemon(node, self.network[node], [*command, *arguments])
        return self._daemons[node]

    def start_headgates(self, *arguments: str, mode: str = "nftables") -> None:
        """Start one on every node and wait until each holds what was applied."""
        for node in topology.NODES:
            self.start_headgate(node.name, *arguments, mode=mode)
        self.wait_synced()

    def headgate(self, node: str) -> Daemon:
        """The headgate of a node. Raises KeyError if none was started."""
        return self._daemons[node]

    def wait_for_end(self, node: str) -> int:
        """Wait until a node's headgate ends by itself, and return its exit status."""
        return self._daemons.pop(node).wait_for_end()

    def stop_headgate(self, node: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End a node's headgate and return its exit status; its rules stay."""
        return self._daemons.pop(node).stop(number)

    def wait_synced(self, *nodes: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Return when the kernels of these nodes, or all, hold what was applied before the call.

        Objects of one kind are taken in the order in which they are saved. So a Service of the
        lab's own and its EndpointSlices get another port now, by another name, and when a node's
        packets reach that port, the kernel holds everything that was saved before. After each line
        of the log there is another try.

        Raises:
            TimeoutError: a headgate ended, or took too long; the message holds its log.
        """
        port = next(self._fences)
        if port == _FENCE_FIRST_PORT:
            self.serve(ROUTER, [objects.TARGET_PORT])
        ports = [objects.Port(port, f"fence-{port}")]
        there = objects.Endpoint(topology.ROUTER_INSIDE)
        fence = objects.service(_FENCE, _FENCE_ADDRESSES, ports)
        self.apply(fence, *objects.slices(_FENCE, ports, [there]))
        targets = [Target(address, port) for address in _FENCE_ADDRESSES]
        deadline = time.monotonic() + timeout
        for node in nodes or tuple(self._daemons):
            self._wait_until_reached(self._daemons[node], targets, deadline)

    def wait_healthy(self, node: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Return when a node's headgate says that it is healthy. Raises TimeoutError."""
        daemon, deadline = self._daemons[node], time.monotonic() + timeout
        while self.get(node, _HEALTHZ_PORT, "/healthz")[0] != http.HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise TimeoutError(daemon.complaint("is not healthy"))
            daemon.wait_for_news(len(daemon.lines), _GLANCE_SECONDS)

    def _wait_until_reached(
        self, daemon: Daemon, targets: Sequence[Target], deadline: float
    ) -> None:
        daemon.wait_for(lambda line: line.is_synced, timeout=deadline - time.monotonic())
        while True:
            known = len(daemon.lines)
            if all(one.by == ROUTER for one in self.connect_all(daemon.node, targets)):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(daemon.complaint("did not program what was applied"))
            daemon.wait_for_news(known, _GLANCE_SECONDS)
