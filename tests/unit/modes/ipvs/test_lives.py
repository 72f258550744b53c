"""What becomes of virtual servers that others make, flush or forget, and of held connections?"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from endpoints.events import Upsert
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import Loopback, NodeSettings, NodeView
from endpoints.objects import EndpointPort, ServicePort
from endpoints.state import ClusterState
from modes.base import Delta, IpvsSettings, ModeSettings, Plans
from modes.ipvs.adopt import KUBE_PROXY
from modes.ipvs.draining import entry
from modes.ipvs.ipsets import PLAIN, Kind, SetName
from modes.ipvs.mode import IpvsMode
from modes.ipvs.program import registered
from modes.ipvs.servers import FoundReal, FoundServer, RealServer, ServerKey, VirtualServer
from tests.unit.endpoints import build
from tests.unit.modes.ipvs.fake import Kernel, NoRules, no_rules

PAY = ObjectName("shop", "pay")
VIP = "10.96.7.7"
AT_VIP = ServerKey(Family.IPV4, Protocol.TCP, VIP, 80)
STRANGER = FoundServer(VirtualServer("wlc"), {RealServer("10.9.9.9", 80): FoundReal(5)})
SETTINGS = NodeSettings(
    "node-a",
    cluster_cidrs=("10.244.0.0/16",),
    node_port_addresses=("all",),
    loopback=Loopback.NEVER,
    holds_addresses=True,
)


class Time:
    """Stands still until it is told otherwise."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def meant(
    *pods: str, target: int = 8080, external: str = "Cluster", port: str = "http"
) -> tuple[NodeView, dict[ObjectName, Plans]]:
    """shop/pay with these endpoints, all on this node, and a load balancer address."""
    state = ClusterState(SETTINGS, frozenset({"127.0.0.1", "192.168.0.11"}))
    service = build.service(
        "pay",
        type="LoadBalancer",
        cluster_ips=[VIP],
        ports=[ServicePort(port=80, name=port, protocol=Protocol.TCP)],
        balancers=["198.51.100.20"],
        external=external,
    )
    endpoints = build.endpoint_slice(
        *(build.endpoint(pod, "node-a") for pod in pods),
        name="pay-1",
        of="pay",
        ports=[EndpointPort(name=port, protocol=Protocol.TCP, port=target)],
        family="IPv4",
    )
    for one in (service, endpoints):
        state.fold(Upsert(one))
    return state.node, {name: state.plans(name) for name in state.services()}


def mode_on(kernel: Kernel, time: Time | None = None) -> IpvsMode:
    """A headgate that has just been started."""
    wanted = ModeSettings(ipvs=IpvsSettings(drain_seconds=900))
    mode = IpvsMode(wanted, lambda *_, **__: None, time or Time(), kernel.machine)
    mode._rules = no_rules()
    return mode


def running(kernel: Kernel, *pods: str, time: Time | None = None) -> IpvsMode:
    """One that serves these."""
    mode = mode_on(kernel, time)
    node, plans = meant(*pods)
    mode.start(node)
    assert not mode.replace(plans).failed
    return mode


def now(plans: dict[ObjectName, Plans]) -> Delta[ObjectName, Plans]:
    return Delta(plans)


def weights(kernel: Kernel, keys: Iterable[ServerKey]) -> list[dict[str, int]]:
    return [{str(r): at.weight for r, at in kernel.servers[key].reals.items()} for key in keys]


def marked(kernel: Kernel) -> list[ServerKey]:
    return [key for key in kernel.servers if key.mark]


def test_the_api_server_and_dns_come_first() -> None:
    kernel, state = Kernel(), ClusterState(SETTINGS, frozenset({"127.0.0.1", "192.168.0.11"}))
    for name, namespace, address, port in (
        ("first", "app", "10.96.0.2", 80),
        ("kubernetes", "default", "10.96.0.1", 443),
        ("kube-dns", "kube-system", "10.96.0.10", 53),
        ("last", "zoo", "10.96.0.3", 80),
    ):
        ports = [ServicePort(port=port, name="main", protocol=Protocol.TCP)]
        service = build.service(name, cluster_ips=[address], ports=ports)
        served = [EndpointPort(name="main", protocol=Protocol.TCP, port=8080)]
        pod = build.endpoint("10.244.1.2", "node-a")
        endpoints = build.endpoint_slice(
            pod, name=f"{name}-1", of=name, ports=served, family="IPv4"
        )
        for one in (service, endpoints):
            metadata = msgspec.structs.replace(one.metadata, namespace=namespace)
            state.fold(Upsert(msgspec.structs.replace(one, metadata=metadata)))
    mode = mode_on(kernel)
    mode.start(state.node)
    mode.replace({name: state.plans(name) for name in state.services()})
    log = [of for of in kernel.log if of]
    assert set(log[:2]) == {"10.96.0.1", "10.96.0.10"}
    assert log[2:4] == ["bound 10.96.0.1", "bound 10.96.0.10"]
    assert set(log[4:]) == {"10.96.0.2", "10.96.0.3", "bound 10.96.0.2", "bound 10.96.0.3"}


def test_a_stranger_that_came_while_we_ran_gets_no_real_server_of_ours() -> None:
    kernel = Kernel()
    node, plans = meant("10.244.1.2")
    mode = mode_on(kernel)
    mode.start(node)
    mode.replace({})
    kernel.servers[AT_VIP] = STRANGER
    kernel.foreign = {AT_VIP}
    for _ in range(2):
        assert "somebody else" in mode.apply(now(plans)).failed[PAY]
        assert kernel.servers[AT_VIP] == STRANGER
    del kernel.servers[AT_VIP]
    kernel.foreign = set()
    assert not mode.apply(now(plans)).failed
    assert weights(kernel, [AT_VIP]) == [{"10.244.1.2:8080": 1}]


def test_an_address_that_was_refused_is_bound_when_it_can_be() -> None:
    """As those of IPv6 are where net.ipv6.conf.all.disable_ipv6 was on."""
    kernel = Kernel()
    node, plans = meant("10.244.1.2")
    mode = mode_on(kernel)
    mode.start(node)
    kernel.unbindable = {VIP}
    assert "EACCES" in mode.replace(plans).failed[PAY]
    for _ in range(2):
        assert "EACCES" in mode.apply(now(plans)).failed[PAY]
    assert kernel.link == {"198.51.100.20"}
    kernel.unbindable = set()
    assert not mode.apply(now(plans)).failed
    assert kernel.link == {VIP, "198.51.100.20"}


def test_a_mark_that_lingers_is_nobody_elses() -> None:
    """The one whose it was comes back to its connections, or another gets a mark of its own."""
    kernel = Kernel()
    mode = mode_on(kernel)
    node, plans = meant("10.244.1.2", external="Local")
    mode.start(node)
    mode.replace(plans)
    kernel.busy = {RealServer("10.244.1.2", 8080)}
    _, gone = meant(external="Local")
    mode.apply(now(gone))
    [lingering] = marked(kernel)
    mode = mode_on(kernel)
    node, other = meant("10.244.1.9", external="Local", port="web")
    mode.start(node)
    mode.replace(other)
    first, second = sorted(marked(kernel))
    assert first == lingering
    assert weights(kernel, [first, second]) == [{"10.244.1.2:8080": 0}, {"10.244.1.9:8080": 1}]


def test_a_port_that_resumes_leaves_the_deadline_of_another() -> None:
    """The element has no place for the real server's port."""
    kernel = Kernel()
    mode = running(kernel, "10.244.1.2")
    old, new = RealServer("10.244.1.2", 8080), RealServer("10.244.1.2", 9090)
    kernel.busy = {old, new}
    for target in (9090, 8080):
        _, plans = meant("10.244.1.2", target=target)
        mode.apply(now(plans))
    assert weights(kernel, [AT_VIP]) == [{"10.244.1.2:8080": 1, "10.244.1.2:9090": 0}]
    assert kernel.held(entry(AT_VIP, new))


def test_who_bypassed_policy_local_is_not_cut_when_it_goes() -> None:
    """Nor when the port gets another name, and its virtual server another mark."""
    kernel, time = Kernel(), Time()
    mode = mode_on(kernel, time)
    node, plans = meant("10.244.1.2", external="Local")
    mode.start(node)
    mode.replace(plans)
    kernel.busy = {RealServer("10.244.1.2", 8080)}
    _, renamed = meant("10.244.1.2", external="Local", port="web")
    mode.apply(now(renamed))
    first, second = sorted(marked(kernel))
    assert weights(kernel, [first, second]) == [{"10.244.1.2:8080": 0}, {"10.244.1.2:8080": 1}]
    _, everywhere = meant("10.244.1.2", port="web")
    mode.apply(now(everywhere))
    mode = mode_on(kernel, time)
    mode.start(node)
    mode.replace(everywhere)
    mode.tend()
    assert weights(kernel, [first, second]) == [{"10.244.1.2:8080": 0}] * 2
    time.now += 901
    mode.tend()
    assert not marked(kernel)


def test_sets_that_somebody_flushed_are_filled_again() -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2", "10.244.1.3")
    stranger = ServerKey(Family.IPV4, Protocol.TCP, VIP, 81)
    kernel.servers[stranger] = STRANGER
    kernel.foreign = {stranger}
    for elements in kernel.sets.values():
        elements.clear()
    mode = running_again(kernel, "10.244.1.2")
    assert not mode.verify()
    assert weights(kernel, [AT_VIP]) == [{"10.244.1.2:8080": 1, "10.244.1.3:8080": 0}]
    assert kernel.servers[stranger] == STRANGER


def running_again(kernel: Kernel, *pods: str) -> IpvsMode:
    """The same after a kill; what is found is not watched until it is mended."""
    kernel.watches = False
    mode = running(kernel, *pods)
    kernel.watches = True
    return mode


def test_what_kube_proxy_made_after_us_is_taken_over_too() -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    other = ServerKey(Family.IPV4, Protocol.TCP, "10.96.0.30", 80)
    stranger = ServerKey(Family.IPV4, Protocol.TCP, "10.96.0.31", 80)
    kernel.servers |= {other: STRANGER, stranger: STRANGER}
    kernel.foreign = {stranger}
    kernel.sets[SetName(Kind.CLUSTER_IP, Family.IPV4)][registered(other).element] = PLAIN
    rules = NoRules.whose
    try:
        NoRules.whose = KUBE_PROXY
        running_again(kernel, "10.244.1.2")
    finally:
        NoRules.whose = rules
    assert other not in kernel.servers
    assert kernel.servers[stranger] == STRANGER
