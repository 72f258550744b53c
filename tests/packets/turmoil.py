"""What can change all the time while every connection must succeed?

Two Services that are always there: `web` is served on the pods' port 8080, `news` on 8081, so that
an answer tells whether it came from a pod of the other Service. Which pods they have changes with
every turn, and so do Services around them that nobody uses.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from endpoints.names import Protocol
from tests.lab import topology
from tests.lab.lab import Lab
from tests.lab.load import Connected, Load
from tests.lab.manifests import Document
from tests.lab.objects import Endpoint, Port, service, slices
from tests.lab.probes import Outcome, Target
from tests.scenarios.places import PODS

NODE = "node-a"
SENDER = "pod-a1"
"""A pod that is no endpoint: its connections are all of one kind."""
SERVING = tuple(name for name in PODS if name != SENDER)
PORTS = {"web": 8080, "news": 8081}
VIPS = {"web": ("10.96.0.1", "fd00:10:96::1"), "news": ("10.96.0.2", "fd00:10:96::2")}
NODE_PORTS = {"web": 30001, "news": 30002}
PAUSE_SECONDS = 0.05
"""Between two turns of who turns all the time."""
_NOISE_VIPS = tuple((f"10.96.1.{n}", f"fd00:10:96::1:{n}") for n in range(1, 9))


class Turmoil:
    """Changes of a lab's objects. The order is the same in every run of a test."""

    def __init__(self, lab: Lab, *, seed: int, pods: Sequence[str] = SERVING) -> None:
        """Save both Services with all these pods."""
        self._lab = lab
        self._pods = pods
        self._random = random.Random(seed)
        self._noise: dict[int, tuple[Document, ...]] = {}
        self.turns = 0
        for name in PORTS:
            lab.apply(*_service(name, self.turns), *_slices(name, pods))

    def turn(self) -> None:
        """Give both Services other pods, replace one of them, and change the neighbourhood."""
        self.turns += 1
        for name in PORTS:
            some = self._sample(1)
            self._lab.apply(*_slices(name, some))
        self._lab.apply(*_service(self._random.choice(list(PORTS)), self.turns))
        number = self._random.randrange(len(_NOISE_VIPS))
        if number in self._noise:
            self._lab.delete(*self._noise.pop(number))
        else:
            self._noise[number] = tuple(self._neighbour(number))
            self._lab.apply(*self._noise[number])

    def _neighbour(self, number: int) -> Iterator[Document]:
        """A Service with as many pods as chance gives it, maybe none."""
        ports = [Port(80, target=self._random.choice(list(PORTS.values())))]
        name = f"noise/n{number}"
        yield service(name, _NOISE_VIPS[number], ports)
        some = self._sample(0)
        yield from slices(name, ports, map(_endpoint, some))

    def _sample(self, fewest: int) -> list[str]:
        return self._random.sample(self._pods, self._random.randint(fewest, len(self._pods)))

    @contextmanager
    def all_the_time(self, pause_seconds: float = PAUSE_SECONDS) -> Iterator[None]:
        """Turn in the background, whatever happens to those who are to follow.

        Raises what a turn raised, when it ends.
        """
        ended = threading.Event()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                while not ended.wait(pause_seconds):
                    self.turn()
            except BaseException as error:  # noqa: BLE001 -- raised again below
                errors.append(error)

        thread = threading.Thread(target=run, name="turmoil", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        for error in errors:
            raise error

    def settle(self, pods: Sequence[str]) -> None:
        """Give both Services these pods."""
        for name in PORTS:
            self._lab.apply(*_slices(name, pods))


def _service(name: str, turn: int) -> Iterator[Document]:
    """The Service, with a port more every other turn."""
    ports = _ports(name)
    extra = [Port(1000 + turn, "extra", target=ports[0].target)] if turn % 2 else []
    yield service(f"shop/{name}", VIPS[name], [*ports, *extra])


def _ports(name: str) -> list[Port]:
    target, node_port = PORTS[name], NODE_PORTS[name]
    return [
        Port(80, "tcp", Protocol.TCP, node_port, target),
        Port(80, "udp", Protocol.UDP, node_port, target),
    ]


def _slices(name: str, pods: Sequence[str]) -> tuple[Document, ...]:
    return slices(f"shop/{name}", _ports(name), map(_endpoint, pods))


def _endpoint(pod: str) -> Endpoint:
    place = PODS[pod]
    return Endpoint(place.pair, place.node, place.zone)


def flows(through: str = NODE, sender: str = SENDER) -> list[tuple[str, Target]]:
    """From a pod to the ClusterIPs, from outside to the NodePorts; each family and protocol.

    `sender` is a pod of the node `through`.
    """
    node = topology.node_named(through)
    found = []
    for name in PORTS:
        for family in (0, 1):
            for protocol in (Protocol.TCP, Protocol.UDP):
                found.append((sender, Target(VIPS[name][family], 80, protocol)))
                node_port = NODE_PORTS[name]
                found.append((topology.CLIENT, Target(node.addresses[family], node_port, protocol)))
    return found


class Verdicts:
    """Looks at each connection of a load once."""

    def __init__(self, load: Load, *, forgets_datagrams: bool = False) -> None:
        """Nothing was looked at yet.

        `forgets_datagrams`: the IPVS mode. There the kernel deletes a flow of UDP in the moment in
        which its endpoint is removed (expire_nodest_conn, since Linux 5.9), and an answer that was
        on its way is lost with it. In other modes headgate does so, a moment later: only an answer
        that takes longer than that is lost, as on a machine that is busy with tests.
        """
        self._forgets_datagrams = forgets_datagrams
        self._load = load
        self._seen = 0
        self.lost = 0
        """Datagrams whose answer did not come."""
        self.wrong: list[str] = []
        """Connections that failed, or that a pod of the other Service answered."""
        self.reached: set[str] = set()
        """Pods that answered."""

    @property
    def count(self) -> int:
        """The connections so far."""
        return len(self._load.connections)

    @property
    def loses_few(self) -> bool:
        """Whether no more datagrams are lost than must be: next to none in most modes."""
        return self.lost <= self.count / (100 if self._forgets_datagrams else 2000)

    def look(self) -> bool:
        """Look at what is new; whether all is well until now."""
        known = self.count
        for one in self._load.connections[self._seen : known]:
            pod, _, port = str(one.answer.by).partition(":")
            if _is_lost_datagram(one):
                self.lost += 1
                continue
            self.reached.add(pod)
            if one.answer.kind is not Outcome.ANSWERED or (port == "8081") != _is_news(one):
                self.wrong.append(str(one))
        self._seen = known
        return not self.wrong


def _is_lost_datagram(one: Connected) -> bool:
    return one.target.protocol is Protocol.UDP and one.answer.kind is Outcome.TIMEOUT


def _is_news(one: Connected) -> bool:
    return one.target.address in VIPS["news"] or one.target.port == NODE_PORTS["news"]


def reached(lab: Lab, through: str = NODE, sender: str = SENDER) -> set[str]:
    """The pods that answer through a node now. Raises AssertionError if not all is well."""
    lab.exec(through, ["conntrack", "-F"])  # a source port that is used again must find no old flow
    with lab.load(*flows(through, sender)) as load:
        load.wait_for(200)
    verdicts = Verdicts(load)
    assert verdicts.look(), verdicts.wrong
    assert verdicts.lost == 0  # nothing changes
    return verdicts.reached
