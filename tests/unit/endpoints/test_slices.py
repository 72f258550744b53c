"""Which endpoints do the EndpointSlices of a Service name?"""

from __future__ import annotations

from itertools import permutations

import pytest

from endpoints.names import Family, Protocol
from endpoints.objects import EndpointConditions, EndpointPort, EndpointSlice, SliceEndpoint
from endpoints.plan import EndpointState
from endpoints.slices import Contribution, contribution, merge
from tests.unit.endpoints.build import HTTP, contributed, endpoint, endpoint_slice


def merged(*slices: Contribution, family: Family = Family.IPV4, name: str = "http") -> list[str]:
    """What the slices come to: `10.244.1.2:8080 ready on node-b`, sorted."""
    found = merge(slices, family, name, Protocol.TCP)
    return sorted(f"{e} {e.state} on {e.node}" for e, _ in found)


CONDITIONS = {
    "none at all": (None, EndpointState.READY),
    "all unset": (EndpointConditions(), EndpointState.READY),
    "ready": (EndpointConditions(ready=True), EndpointState.READY),
    "ready and terminating (publishNotReadyAddresses)": (
        EndpointConditions(ready=True, serving=True, terminating=True),
        EndpointState.READY,
    ),
    "serving, not terminating": (
        EndpointConditions(ready=False, serving=True, terminating=False),
        EndpointState.NOT_READY,
    ),
    "serving, terminating unset": (
        EndpointConditions(ready=False, serving=True),
        EndpointState.NOT_READY,
    ),
    "terminating and serving": (
        EndpointConditions(ready=False, serving=True, terminating=True),
        EndpointState.TERMINATING,
    ),
    "terminating, serving unset": (
        EndpointConditions(ready=False, terminating=True),
        EndpointState.TERMINATING,
    ),
    "terminating, not serving": (
        EndpointConditions(ready=False, serving=False, terminating=True),
        EndpointState.NOT_READY,
    ),
}


@pytest.mark.parametrize(("conditions", "state"), CONDITIONS.values(), ids=CONDITIONS)
def test_conditions(conditions: EndpointConditions | None, state: EndpointState) -> None:
    of = endpoint_slice(SliceEndpoint(addresses=["10.244.1.2"], conditions=conditions))
    ((found, _),) = merge([contributed(of)], Family.IPV4, "http", Protocol.TCP)
    assert found.state is state


def labelled(label: str) -> EndpointSlice:
    of = endpoint_slice(endpoint("10.244.1.2"))
    assert of.metadata.labels is not None
    of.metadata.labels[label] = ""
    return of


SAYS_NOTHING = {
    "no Service": endpoint_slice(endpoint("10.244.1.2"), of=None),
    "FQDN": endpoint_slice(endpoint("pay.example"), family="FQDN"),
    "another proxy's": labelled("service.kubernetes.io/service-proxy-name"),
    "a headless Service's": labelled("service.kubernetes.io/headless"),
}


@pytest.mark.parametrize("of", SAYS_NOTHING.values(), ids=SAYS_NOTHING)
def test_says_nothing_to_us(of: EndpointSlice) -> None:
    assert contribution(of, "node-a") is None


def test_an_endpoint_is_local_by_node_name() -> None:
    of = endpoint_slice(
        endpoint("10.244.1.2", "node-a"),
        endpoint("10.244.2.2", "node-b"),
        endpoint("10.9.9.9", None),
    )
    (port,) = contributed(of).ports
    assert [e.is_local for e in port.endpoints] == [True, False, False]


def test_only_the_first_address_counts_and_none_is_no_endpoint() -> None:
    of = endpoint_slice(
        SliceEndpoint(addresses=[]), SliceEndpoint(addresses=["10.244.1.2", "10.244.1.3"])
    )
    assert merged(contributed(of)) == ["10.244.1.2:8080 ready on None"]


def test_ports_without_number_are_left_out() -> None:
    ports = [EndpointPort(name="http"), EndpointPort(name="http", port=0), HTTP]
    of = contributed(endpoint_slice(endpoint("10.244.1.2"), ports=ports))
    assert [port.endpoints[0].port for port in of.ports] == [8080]


def test_a_port_without_name_is_the_unnamed_one_and_without_protocol_tcp() -> None:
    of = endpoint_slice(endpoint("10.244.1.2"), ports=[EndpointPort(port=8080)])
    assert merged(contributed(of), name="") == ["10.244.1.2:8080 ready on node-b"]


def test_ports_are_found_by_name_and_protocol() -> None:
    ports = [
        EndpointPort(name="http", port=8080, protocol=Protocol.UDP),
        EndpointPort(name="admin", port=9090),
        EndpointPort(name="http", port=8081),
    ]
    of = endpoint_slice(endpoint("10.244.1.2"), ports=ports)
    assert merged(contributed(of)) == ["10.244.1.2:8081 ready on node-b"]


def test_slices_of_another_family_do_not_count() -> None:
    v4 = contributed(endpoint_slice(endpoint("10.244.1.2")))
    v6 = contributed(endpoint_slice(endpoint("fd00:10:244:1::2"), family="IPv6", name="pay-2"))
    assert merged(v4, v6, family=Family.IPV6) == ["[fd00:10:244:1::2]:8080 ready on node-b"]


def test_slices_may_name_different_numbers_for_the_same_port() -> None:
    old = contributed(endpoint_slice(endpoint("10.244.1.2")))
    other = [EndpointPort(name="http", port=8081)]
    new = contributed(endpoint_slice(endpoint("10.244.1.3"), name="pay-2", ports=other))
    assert merged(old, new) == [
        "10.244.1.2:8080 ready on node-b",
        "10.244.1.3:8081 ready on node-b",
    ]


DUPLICATES = {
    "local wins, even not ready": (
        [endpoint("10.9.9.9", "node-b"), endpoint("10.9.9.9", "node-a", "not ready")],
        "10.9.9.9:8080 not ready on node-a",
    ),
    "ready before terminating": (
        [endpoint("10.9.9.9", "node-b", "terminating"), endpoint("10.9.9.9", "node-c")],
        "10.9.9.9:8080 ready on node-c",
    ),
    "terminating before not ready": (
        [
            endpoint("10.9.9.9", "node-b", "not ready"),
            endpoint("10.9.9.9", "node-c", "terminating"),
        ],
        "10.9.9.9:8080 terminating on node-c",
    ),
    "else the slice that is first by name": (
        [
            endpoint("10.9.9.9", "node-c"),
            endpoint("10.9.9.9", "node-b"),
            endpoint("10.9.9.9", "node-d"),
        ],
        "10.9.9.9:8080 ready on node-c",
    ),
}


@pytest.mark.parametrize(("endpoints", "winner"), DUPLICATES.values(), ids=DUPLICATES)
def test_of_duplicates_one_stays_in_whatever_order_slices_come(
    endpoints: list[SliceEndpoint], winner: str
) -> None:
    slices = [
        contributed(endpoint_slice(e, name=f"pay-{index}")) for index, e in enumerate(endpoints)
    ]
    for order in permutations(slices):
        assert merged(*order) == [winner]


def test_duplicates_in_one_slice_add_no_weight() -> None:
    of = endpoint_slice(endpoint("10.244.1.2"), endpoint("10.244.1.2"))
    assert merged(contributed(of)) == ["10.244.1.2:8080 ready on node-b"]


def test_hints_stay_with_their_endpoint() -> None:
    of = endpoint_slice(
        SliceEndpoint(addresses=[]),
        endpoint("10.244.1.2"),
        endpoint("10.244.1.3", zones=["eu-1a"], nodes=["node-a", "node-b"]),
    )
    found = merge([contributed(of)], Family.IPV4, "http", Protocol.TCP)
    assert {e.address: (hints.zones, hints.nodes) for e, hints in found} == {
        "10.244.1.2": ((), ()),
        "10.244.1.3": (("eu-1a",), ("node-a", "node-b")),
    }
