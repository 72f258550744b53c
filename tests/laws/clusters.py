"""Which clusters can there be? Random ones, of everything that a Service may say. Pure.

Seen from node-a, with the addresses of `tests.laws.places`. Names, addresses and ports are few, so
that Services claim the same things, share endpoints, and are reached where NodePorts are, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import msgspec
from hypothesis import strategies as st

from endpoints.events import Event, Upsert
from endpoints.names import Family, ObjectName, Protocol
from endpoints.node import DetectLocalMode, NodeSettings, NodeView
from endpoints.objects import (
    EndpointPort,
    EndpointSlice,
    KubernetesObject,
    Service,
    ServicePort,
    SliceEndpoint,
    name_of,
)
from endpoints.state import ClusterState
from modes.base import Delta, Plans
from tests.laws.places import (
    CLUSTER_CIDRS,
    ENDPOINTS,
    HERE,
    LOCAL_ADDRESSES,
    NODE_ADDRESSES,
    POD_CIDRS,
    Place,
)
from tests.unit.endpoints import build

CLUSTER_IPS = [(f"10.96.0.{n}", f"fd00:10:96::{n}") for n in range(1, 6)]
BALANCERS = ["198.51.100.1", "198.51.100.2", "2001:db8:198::1", "2001:db8:198::2"]
EXTERNAL_IPS = ["192.0.2.1", "192.0.2.2", "2001:db8:192::1", "2001:db8:192::2"]
RANGES = [
    "10.0.0.0/8",
    "10.244.1.0/24",
    "192.168.0.0/16",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "0.0.0.0/0",
    "2001:db8:203::/64",
    "fd00::/8",
]
SERVICE_NAMES = ("amy", "bob", "cid", "dan", "eve")
SERVICE_PORTS = (80, 81, 8080)
NODE_PORTS = (30080, 30081, 30082)
TARGET_PORTS = (8080, 8081)

Objects = tuple[KubernetesObject, ...]
Clustered = dict[ObjectName, Plans]


class Cluster(msgspec.Struct, frozen=True):
    """Everything that there is, as the API would list it."""

    settings: NodeSettings
    objects: Objects

    def events(self, random: Random | None = None) -> list[Event]:
        """News of all of it, in this order or a random one."""
        listed = list(self.objects)
        if random:
            random.shuffle(listed)
        return [Upsert(each) for each in listed]


def empty_state(settings: NodeSettings) -> ClusterState:
    """node-a knows nothing yet but its own addresses."""
    return ClusterState(settings, LOCAL_ADDRESSES)


def folded(settings: NodeSettings, events: Iterable[Event]) -> ClusterState:
    """What node-a knows after these events."""
    state = empty_state(settings)
    for event in events:
        state.fold(event)
    return state


def plans_in(state: ClusterState) -> Clustered:
    """All plans."""
    return {name: state.plans(name) for name in state.services()}


def compiled(cluster: Cluster) -> tuple[NodeView, Clustered]:
    """What the cluster means for node-a."""
    state = folded(cluster.settings, cluster.events())
    return state.node, plans_in(state)


def change(before: Clustered, after: Clustered) -> Delta[ObjectName, Plans]:
    """What differs between two sets of plans."""
    upserts = {name: plans for name, plans in after.items() if before.get(name) != plans}
    return Delta(upserts, frozenset(before.keys() - after.keys()))


policies = st.sampled_from([None, "Cluster", "Local"])
protocols = st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP])
ports = st.builds(
    ServicePort,
    port=st.sampled_from(SERVICE_PORTS),
    name=st.sampled_from(["http", "admin"]),
    protocol=protocols,
    node_port=st.sampled_from([None, *NODE_PORTS]),
)


def _families(pair: tuple[str, str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([pair, pair, pair[:1], pair[1:]])


services = st.builds(
    build.service,
    st.sampled_from(SERVICE_NAMES),
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
    cluster_ips=st.sampled_from(CLUSTER_IPS).flatmap(_families),
    ports=st.lists(ports, min_size=1, max_size=2, unique_by=lambda port: port.name),
    # An external IP may be an address of the node, or the cluster IP of another Service.
    external_ips=st.lists(
        st.sampled_from([*EXTERNAL_IPS, NODE_ADDRESSES[0], CLUSTER_IPS[0][0]]), max_size=2
    ),
    balancers=st.lists(st.sampled_from(BALANCERS), max_size=2),
    ranges=st.lists(st.sampled_from(RANGES), max_size=2) | st.just([]),
    internal=policies,
    external=policies,
    affinity_seconds=st.sampled_from([None, None, 0, 3600]),
    created=st.sampled_from([None, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
)


def _endpoint(at: Place, family: Family) -> st.SearchStrategy[SliceEndpoint]:
    return st.builds(
        build.endpoint,
        st.just(at.addresses[family]),
        st.sampled_from([at.node, at.node, at.node, None]),
        st.sampled_from(["ready", "ready", "ready", "unset", "terminating", "not ready"]),
        zones=st.sampled_from([(), (), ("eu-1a",), ("eu-1b",), ("eu-1a", "eu-1b")]),
        nodes=st.sampled_from([(), (), ("node-a",), ("node-b",)]),
    )


def _slices(family: Family) -> st.SearchStrategy[EndpointSlice]:
    endpoints = st.sampled_from(ENDPOINTS).flatmap(lambda at: _endpoint(at, family))
    slice_ports = st.builds(
        EndpointPort,
        name=st.sampled_from(["http", "admin"]),
        protocol=protocols,
        port=st.sampled_from(TARGET_PORTS),
    )
    return st.builds(
        lambda listed, part, of, at: build.endpoint_slice(
            *listed, name=f"{of}-{part}-{family.lower()}", of=of, ports=at, family=family.value
        ),
        st.lists(endpoints, max_size=5),
        st.sampled_from([1, 2]),
        st.sampled_from(SERVICE_NAMES),
        st.lists(slice_ports, min_size=1, max_size=4),
    )


def _serving(service: Service) -> st.SearchStrategy[EndpointSlice]:
    """A slice that fits the Service: its ports are there, and most endpoints are of use."""
    fitting = [
        EndpointPort(name=p.name, protocol=p.protocol, port=TARGET_PORTS[i % 2])
        for i, p in enumerate(service.spec.ports or ())
    ]
    name = service.metadata.name
    families = [
        f
        for f in Family
        if any((":" in ip) is (f is Family.IPV6) for ip in service.spec.cluster_ips or ())
    ]

    def of(family: Family) -> st.SearchStrategy[EndpointSlice]:
        endpoints = st.sampled_from(ENDPOINTS).flatmap(lambda at: _endpoint(at, family))
        return st.lists(endpoints, min_size=1, max_size=5).map(
            lambda listed: build.endpoint_slice(
                *listed,
                name=f"{name}-{family.lower()}",
                of=name,
                ports=fitting,
                family=family.value,
            )
        )

    return st.sampled_from(families).flatmap(of)


detectors = st.sampled_from(
    [
        {"cluster_cidrs": CLUSTER_CIDRS},
        {"cluster_cidrs": CLUSTER_CIDRS},
        {"cluster_cidrs": CLUSTER_CIDRS[:1]},
        {},
        {"detect_local_mode": DetectLocalMode.NODE_CIDR},
        {"detect_local_mode": DetectLocalMode.BRIDGE_INTERFACE, "pod_bridge_interface": "cali1"},
        {
            "detect_local_mode": DetectLocalMode.INTERFACE_NAME_PREFIX,
            "pod_interface_name_prefix": "cali",
        },
    ]
)
selectors = st.sampled_from(
    [
        ("primary",),
        ("primary",),
        ("all",),
        ("all", "localhost"),
        ("primary", "localhost"),
        ("10.244.1.0/24",),
    ]
)
node_settings = st.builds(
    lambda detector, at, everything: msgspec.convert(
        {"name": HERE, "node_port_addresses": at, "masquerade_all": everything, **detector},
        NodeSettings,
    ),
    detectors,
    selectors,
    st.sampled_from([False, False, True]),
)
own_node = build.node(HERE, zone="eu-1a", internal=NODE_ADDRESSES, pod_cidrs=POD_CIDRS)


@st.composite
def objects(draw: st.DrawFn) -> Objects:
    """Services with slices that fit most of them, and some that fit none."""
    listed = draw(st.lists(services, min_size=1, max_size=5, unique_by=name_of))
    slices = [draw(_serving(service)) for service in listed if draw(st.integers(0, 5))]
    others = st.lists(_slices(Family.IPV4) | _slices(Family.IPV6), max_size=3, unique_by=name_of)
    return (own_node, *listed, *slices, *draw(others))


clusters = st.builds(Cluster, node_settings, objects())
