"""How does a connection come not to arrive? Each way is planted in a healthy cluster, and taken back.

All on node-a, whose pods and clients outside ask for Services there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from endpoints.addresses import bracketed
from endpoints.names import Protocol
from tests.kernel.facts.crowd import crowd
from tests.lab import namespaces, objects, topology
from tests.lab.daemons import PATIENCE_SECONDS
from tests.lab.lab import Lab
from tests.lab.manifests import Document
from tests.lab.network import write_sysctls
from tests.lab.objects import Endpoint, Port
from tests.lab.probes import Answer, Outcome, Target

NODE = topology.node_named("node-a")
CLIENT, POD, NEAR, FAR, ELSEWHERE = topology.CLIENT, "pod-a2", "pod-a1", "pod-b1", "pod-c1"
NODE_PORT = 30080
LISTENED = 8082
"""A port on which only pod-c1 listens."""
VIPS: Mapping[str, tuple[str, str]] = {
    "pay": ("10.96.7.7", "fd00:10:96::7"),
    "near": ("10.96.7.8", "fd00:10:96::8"),
    "zoned": ("10.96.7.9", "fd00:10:96::9"),
    "dns": ("10.96.0.10", "fd00:10:96::a"),
}
BALANCER = ("198.51.100.20", "2001:db8:198::20")
PORTS = {
    "pay": [Port(80, "http", node_port=NODE_PORT)],
    "near": [Port(80, "http")],
    "zoned": [Port(80, "http", target=LISTENED)],
    "dns": [Port(53, "dns", Protocol.UDP)],
}
GONE = ("10.244.2.99", "fd00:10:244:2::99")
Reach = Callable[[], Answer]
Plant = Callable[["World"], AbstractContextManager[Reach | None]]


@dataclass(frozen=True)
class World:
    """A lab with a headgate on node-a, seen in one family (0: IPv4, 1: IPv6)."""

    lab: Lab
    mode: str
    family: int

    def publish(
        self,
        name: str,
        *endpoints: Endpoint,
        ports: Sequence[Port] = (),
        spec: Mapping[str, object] | None = None,
    ) -> None:
        """Let a Service be so, and wait until the kernel knows."""
        service, *slices = published(name, *endpoints, ports=ports, spec=spec)
        self.lab.apply(service, *slices)
        self.lab.wait_synced()

    def healthy(self, name: str) -> None:
        """As `publish`: as it was at first."""
        self.publish(name, *serving(self.lab, name))

    def ip(self, machine: str, *lines: str) -> None:
        """Apply arguments of `ip` in the family that is looked at."""
        of = "-6 " if self.family else ""
        self.lab.exec(machine, ["sh", "-ec", "\n".join(f"ip {of}{line}" for line in lines)])

    def sysctls(self, values: Mapping[str, str]) -> None:
        """Set sysctls below net/ on the node."""
        with namespaces.inside(self.lab.network[NODE.name]):
            write_sysctls(values)


def published(
    name: str,
    *endpoints: Endpoint,
    ports: Sequence[Port] = (),
    spec: Mapping[str, object] | None = None,
) -> list[Document]:
    """The objects of a Service of shop."""
    ports = ports or PORTS[name]
    ingress = BALANCER if name == "pay" else ()
    return [
        objects.service(f"shop/{name}", VIPS[name], ports, spec=spec, ingress=ingress),
        *objects.slices(f"shop/{name}", ports, endpoints),
    ]


def serving(lab: Lab, name: str) -> list[Endpoint]:
    """The endpoints of a healthy Service: one may be chosen, so nothing is left to chance."""
    if name == "zoned":
        return _hinted(lab, right="eu-1a", wrong="eu-1b")
    return [Endpoint.of(lab.pods[NEAR if name == "near" else FAR])]


def _hinted(lab: Lab, *, right: str, wrong: str) -> list[Endpoint]:
    """Who listens is hinted for one zone, and who does not for the other one."""
    listens, silent = lab.pods[ELSEWHERE], lab.pods["pod-b2"]
    return [Endpoint.of(listens, zones=(right,)), Endpoint.of(silent, zones=(wrong,))]


def _cured(course: Callable[[World], Iterator[Reach | None]]) -> Plant:
    """What comes after the yield is done also if a test fails: the next one has the same cluster."""

    @contextmanager
    def planted(world: World) -> Iterator[Reach | None]:
        steps = course(world)
        try:
            yield next(steps)
        finally:
            next(steps, None)

    return planted


@_cured
def not_ready(world: World) -> Iterator[Reach | None]:
    world.publish("pay", Endpoint.of(world.lab.pods[FAR], ready=False, serving=False))
    yield None
    world.healthy("pay")


@_cured
def wrong_hints(world: World) -> Iterator[Reach | None]:
    world.publish("zoned", *_hinted(world.lab, right="eu-1b", wrong="eu-1a"))
    yield None
    world.healthy("zoned")


def with_spec(spec: Mapping[str, object]) -> Plant:
    @_cured
    def plant(world: World) -> Iterator[Reach | None]:
        world.publish("pay", *serving(world.lab, "pay"), spec=spec)
        yield None
        world.healthy("pay")

    return plant


def with_port(port: Port) -> Plant:
    @_cured
    def plant(world: World) -> Iterator[Reach | None]:
        world.publish("pay", *serving(world.lab, "pay"), ports=[port])
        yield None
        world.healthy("pay")

    return plant


@_cured
def flushed(world: World) -> Iterator[Reach | None]:
    world.lab.stop_headgate(NODE.name)
    script = {"nftables": "nft flush ruleset", "ipvs": "ipvsadm -C"}.get(
        world.mode, " && ".join(f"{of}-{{}} -t nat -F" for of in ("iptables", "ip6tables"))
    )
    variant = world.mode.removeprefix("iptables-")
    world.lab.exec(NODE.name, ["sh", "-c", script.replace("{}", variant)])
    yield None
    world.lab.start_headgate(NODE.name, mode=world.mode)
    world.lab.wait_synced()


@_cured
def foreign(world: World) -> Iterator[Reach | None]:
    """Somebody takes the Service to pods of their own: by nft, or where that has no NAT by iptables."""
    vip, by = VIPS["pay"][world.family], world.lab.pods[ELSEWHERE].addresses[world.family]
    to = f"[{by}]:8080" if world.family else f"{by}:8080"
    if world.mode == "ipvs":
        command = f"{'ip6tables' if world.family else 'iptables'}-legacy -t nat"
        rule = f"PREROUTING -d {vip} -p tcp --dport 80 -j DNAT --to-destination {to}"
        world.lab.exec(NODE.name, ["sh", "-c", f"{command} -I {rule}"])
        yield None
        return
    of = "ip6" if world.family else "ip"
    rule = f"{of} daddr {vip} tcp dport 80 dnat to {to}"
    chain = f"chain first {{ type nat hook prerouting priority -150; {rule}; }}"
    world.lab.exec(NODE.name, ["nft", f"table {of} mesh {{ {chain}; }}"])
    yield None
    world.lab.exec(NODE.name, ["nft", f"delete table {of} mesh"])


@_cured
def full(world: World) -> Iterator[Reach | None]:
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    world.lab.exec(NODE.name, ["conntrack", "-F"])  # what would end soon, and make room
    with namespaces.inside(world.lab.network[NODE.name]):
        crowd("192.0.2.1", 9, most + 1, until_full=True)
    yield None
    world.lab.exec(NODE.name, ["conntrack", "-F"])


@_cured
def reverse_path(world: World) -> Iterator[Reach | None]:
    """Answers to the client leave by another link than its packets come by."""
    inside = world.lab.network.path(NODE.name)
    router, node = topology.ROUTER, NODE.name
    world.ip(router, f"link add up1 type veth peer name up1 netns {inside}", "link set up1 up")
    world.ip(router, "address add 192.168.5.1/24 dev up1")
    world.ip(node, "link set up1 up", "address add 192.168.5.11/24 dev up1")
    world.ip(node, "route add 203.0.113.0/24 via 192.168.5.1")
    answer = world.lab.connect(CLIENT, NODE.addresses[0], NODE_PORT)
    assert answer.by == FAR, "two ways alone break nothing"
    world.sysctls({"ipv4/conf/eth0/rp_filter": "1"})
    yield None
    world.sysctls({"ipv4/conf/eth0/rp_filter": "0"})
    world.ip(router, "link del up1")


@_cured
def no_route(world: World) -> Iterator[Reach | None]:
    """As where each node has routes to pods alone, and one of them is lost."""
    other = topology.node_named("node-b")
    network, by = other.pod_cidrs[world.family], other.addresses[world.family]
    gateway = topology.ROUTER_INSIDE[world.family]
    world.ip(NODE.name, f"route del {network}", f"route del default via {gateway}")
    yield None
    world.ip(NODE.name, f"route add {network} via {by}", f"route add default via {gateway}")


@_cured
def lost_to_default(world: World) -> Iterator[Reach | None]:
    """As before, but what nobody knows goes to a router, which does not know pods either."""
    other = topology.node_named("node-b")
    network, by = other.pod_cidrs[world.family], other.addresses[world.family]
    for machine in (NODE.name, topology.ROUTER):
        world.ip(machine, f"route del {network}")
    yield None
    for machine in (NODE.name, topology.ROUTER):
        world.ip(machine, f"route add {network} via {by}")


@_cured
def bridged(world: World) -> Iterator[Reach | None]:
    name = f"bridge/bridge-nf-call-{'ip6tables' if world.family else 'iptables'}"
    world.sysctls({name: "0"})
    yield None
    world.sysctls({name: "1"})


def _wait_until_looked_through(lab: Lab) -> None:
    """Flows that are stale are forgotten when headgate begins, a while after its first sync."""
    daemon, deadline = lab.headgate(NODE.name), time.monotonic() + PATIENCE_SECONDS
    while not _LOOKED_THROUGH.search(lab.get(NODE.name, 10249, "/metrics")[1].decode()):
        if time.monotonic() > deadline:
            raise TimeoutError(daemon.complaint("did not look through conntrack"))
        daemon.wait_for_news(len(daemon.lines), _GLANCE_SECONDS)


_LOOKED_THROUGH = re.compile(
    r"^kubeproxy_conntrack_reconciler_sync_duration\S+_count\S* [1-9]", re.MULTILINE
)
_GLANCE_SECONDS = 0.05


LATE_ERRORS = 4
"""So many errors at most are of packets before."""


@_cured
def stale(world: World) -> Iterator[Reach | None]:
    """A resolver asks from one port all the time, and its endpoint went without a word."""
    _wait_until_looked_through(world.lab)
    vip, gone = VIPS["dns"][world.family], GONE[world.family]
    held = world.lab.hold(POD, Target(vip, 53, Protocol.UDP))
    pod = world.lab.pods[POD].addresses[world.family]
    ends = f"-p udp -s {pod} -d {vip} --sport {held.port} --dport 53"
    lie = f"conntrack -I {ends} -t 120 -u SEEN_REPLY --dst-nat {bracketed(gone)}:8080"
    world.lab.exec(NODE.name, ["sh", "-ec", f"conntrack -D {ends}; {lie}"])

    def ask() -> Answer:
        """ICMP errors may come late, for packets before: the gone pod's node looked for it."""
        answer = held.ask()
        for _ in range(LATE_ERRORS):
            if answer.kind is not Outcome.UNREACHABLE:
                break
            answer = held.ask()
        return answer

    yield ask
    held.close()
