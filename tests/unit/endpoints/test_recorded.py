"""Do objects that are written from memory mean what the objects meant that it came from?"""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from endpoints.events import Replace
from endpoints.exposure import expose
from endpoints.names import Protocol
from endpoints.node import DetectLocalMode, NodeSettings
from endpoints.objects import (
    ZONE_LABEL,
    EndpointSlice,
    Kind,
    Node,
    NodeAddress,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    Service,
    ServicePort,
    name_of,
)
from endpoints.recorded import node_of, service_of, slice_of
from endpoints.slices import contribution
from endpoints.state import ClusterState, view
from tests.unit.endpoints.build import service
from tests.unit.endpoints.test_laws import services
from tests.unit.endpoints.test_laws import slices as endpoint_slices

NODE = "node-a"
LABELS = st.none() | st.dictionaries(
    st.sampled_from([ZONE_LABEL, "key", "secret"]), st.text(max_size=3)
)
CIDRS = st.lists(st.sampled_from(["10.244.1.0/24", "fd00:1::/64"]), max_size=2, unique=True)
SPECS = st.none() | st.builds(NodeSpec, st.sampled_from([None, "10.244.1.0/24"]), st.none() | CIDRS)
ADDRESSES = st.builds(
    NodeAddress,
    st.sampled_from(["InternalIP", "ExternalIP"]),
    st.sampled_from(["192.168.0.1", "fd00::1"]),
)
STATUSES = st.none() | st.builds(NodeStatus, st.none() | st.lists(ADDRESSES, max_size=3))


@given(services)
def test_a_service_is_exposed_as_before(before: Service) -> None:
    exposure = expose(before)
    if exposure is None or not exposure.ports:
        return
    assert expose(service_of(exposure)) == exposure


@given(endpoint_slices)
def test_a_slice_contributes_as_before(before: EndpointSlice) -> None:
    said = contribution(before, NODE)
    if said is None:
        return
    ports = tuple(port for port in said.ports if port.endpoints)
    again = contribution(slice_of(said), NODE)
    assert again is not None
    assert again.ports == ports
    assert not ports or again.hints == said.hints
    assert (again.name, again.service, again.family) == (said.name, said.service, said.family)


@given(
    st.lists(services, unique_by=name_of, max_size=4),
    st.lists(endpoint_slices, unique_by=name_of, max_size=6),
)
def test_a_cluster_that_is_read_back_has_the_same_plans(
    of_services: list[Service], slices: list[EndpointSlice]
) -> None:
    before = ClusterState(NodeSettings(NODE))
    before.fold(Replace(Kind.SERVICE, tuple(of_services)))
    before.fold(Replace(Kind.ENDPOINT_SLICE, tuple(slices)))
    after = ClusterState(NodeSettings(NODE))
    after.fold(Replace(Kind.SERVICE, before.recorded_services()))
    after.fold(Replace(Kind.ENDPOINT_SLICE, before.recorded_slices()))
    for name in {name_of(obj) for obj in of_services}:
        assert after.plans(name) == before.plans(name)


def test_what_is_written_is_an_object_of_kubernetes() -> None:
    ports = [ServicePort(port=80, name="http", protocol=Protocol.TCP, node_port=30080)]
    exposure = expose(
        service("pay", type="NodePort", cluster_ips=("10.96.7.7",), ports=ports, external="Local")
    )
    assert exposure is not None
    written = msgspec.to_builtins(service_of(exposure))
    assert written["spec"]["clusterIPs"] == ["10.96.7.7"]
    assert written["spec"]["externalTrafficPolicy"] == "Local"
    assert written["spec"]["ports"][0]["nodePort"] == 30080
    assert msgspec.convert(written, Service).spec.type == "NodePort"


@given(st.builds(Node, st.builds(ObjectMeta, name=st.just(NODE), labels=LABELS), SPECS, STATUSES))
def test_a_node_is_seen_as_before_and_says_no_more(before: Node) -> None:
    settings = NodeSettings(NODE, DetectLocalMode.NODE_CIDR)
    after = node_of(before)
    assert view(settings, after, frozenset()) == view(settings, before, frozenset())
    assert set(after.metadata.labels or {}) <= {ZONE_LABEL}
