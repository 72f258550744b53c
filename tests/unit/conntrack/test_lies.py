"""Which flows are forgotten after a change, and which stay? A table."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from conntrack.flows import Flow
from endpoints.plan import EndpointState
from modes.base import Plans
from tests.unit.conntrack.flowing import (
    NODE,
    OTHER_VIP,
    SCTP,
    STRANGER,
    TCP,
    UDP,
    VIP,
    A,
    B,
    FakeKernel,
    conntrack,
    delta,
    endpoint,
    flow,
    plan,
    services,
)
from tests.unit.endpoints.build import NODE_A


class Row(NamedTuple):
    """Plans before and after, and what becomes of flows."""

    before: Plans
    after: Plans
    lies: tuple[Flow, ...] = ()
    true: tuple[Flow, ...] = ()
    dumps: int = 1


ROWS = {
    "an endpoint is gone": Row(
        (plan(VIP, by=[A, B]),),
        (plan(VIP, by=[B]),),
        lies=(flow(VIP, A),),
        true=(flow(VIP, B), flow(VIP, STRANGER), flow(OTHER_VIP, A), flow("10.96.7.7:54", A)),
    ),
    "an endpoint is replaced": Row(
        (plan(VIP, by=[A]),), (plan(VIP, by=[B]),), lies=(flow(VIP, A),), true=(flow(VIP, B),)
    ),
    "the last endpoint is gone": Row(
        (plan(VIP, by=[A]),), (plan(VIP),), lies=(flow(VIP, A),), true=(flow(VIP),)
    ),
    "an endpoint is ready no more": Row(
        (plan(VIP, by=[A, B]),),
        (plan(VIP, by=[B], unused=[endpoint(A, EndpointState.NOT_READY)]),),
        lies=(flow(VIP, A),),
    ),
    "an endpoint terminates, and serves on": Row(
        (plan(VIP, by=[A, B]),),
        (plan(VIP, by=[B], unused=[endpoint(A, EndpointState.TERMINATING)]),),
        true=(flow(VIP, A),),
        dumps=0,
    ),
    "topology takes an endpoint off the list": Row(
        (plan(VIP, by=[A, B]),),
        (plan(VIP, by=[B], unused=[endpoint(A)]),),
        true=(flow(VIP, A),),
        dumps=0,
    ),
    "policy Local knows others than the Cluster list": Row(
        (plan(VIP, by=[A, B]),),
        (plan(VIP, local=[A], unused=[endpoint(B)]),),
        true=(flow(VIP, A), flow(VIP, B)),
        dumps=0,
    ),
    "an endpoint more": Row(
        (plan(VIP, by=[A]),), (plan(VIP, by=[A, B]),), true=(flow(VIP, A), flow(VIP)), dumps=0
    ),
    "the first endpoint": Row(
        (plan(VIP),),
        (plan(VIP, by=[A]),),
        lies=(flow(VIP),),
        true=(flow(VIP, A), flow(VIP, STRANGER), flow(OTHER_VIP)),
    ),
    "a new Service without endpoints": Row((), (plan(VIP),), true=(flow(VIP),), dumps=0),
    "a new Service": Row(
        (), (plan(VIP, by=[A]),), lies=(flow(VIP),), true=(flow(VIP, STRANGER), flow(VIP, A))
    ),
    "a Service is deleted": Row(
        (plan(VIP, by=[A]),), (), lies=(flow(VIP, A),), true=(flow(VIP), flow(VIP, STRANGER))
    ),
    "the port changes": Row(
        (plan(VIP, by=[A]),),
        (plan("10.96.7.7:54", by=[A]),),
        lies=(flow(VIP, A), flow("10.96.7.7:54")),
        true=(flow("10.96.7.7:54", A), flow(VIP)),
        dumps=2,
    ),
    "the target port changes": Row(
        (plan(VIP, by=[A]),),
        (plan(VIP, by=["10.244.1.2:5454"]),),
        lies=(flow(VIP, A),),
        true=(flow(VIP, "10.244.1.2:5454"),),
    ),
    "an address is taken away": Row(
        (plan(VIP, "198.51.100.1:53", by=[A]),),
        (plan(VIP, by=[A]),),
        lies=(flow("198.51.100.1:53", A),),
        true=(flow(VIP, A),),
    ),
    "an address is added": Row(
        (plan(VIP, by=[A]),),
        (plan(VIP, "198.51.100.1:53", by=[A]),),
        lies=(flow("198.51.100.1:53"),),
        true=(flow(VIP), flow(VIP, A)),
    ),
    "a NodePort loses an endpoint": Row(
        (plan("node:30053", by=[A, B]),),
        (plan("node:30053", by=[B]),),
        lies=(flow(f"{NODE}:30053", A),),
        true=(
            flow("192.168.0.12:30053", A),  # the NodePort of another node, answered by somebody
            flow("10.244.1.1:30053", A),  # an address of this node that serves no NodePorts
            flow("127.0.0.1:30053", A),
            flow(f"{NODE}:30054", A),
        ),
    ),
    "a NodePort appears": Row(
        (),
        (plan("node:30053", by=[A]),),
        lies=(flow(f"{NODE}:30053"),),
        true=(flow("192.168.0.12:30053"), flow(f"{NODE}:30053", STRANGER)),
    ),
    "the NodePort changes": Row(
        (plan("node:30053", by=[A]),),
        (plan("node:30054", by=[A]),),
        lies=(flow(f"{NODE}:30053", A), flow(f"{NODE}:30054")),
        true=(flow(f"{NODE}:30053"),),
        dumps=2,
    ),
    "a NodePort where VXLAN is": Row(
        (plan("node:8472", by=[A]),),
        (plan("node:8472", by=[B]),),
        lies=(flow(f"{NODE}:8472", A),),
        true=(flow("192.168.0.12:8472"), flow(f"{NODE}:8472")),
    ),
    "SCTP likewise": Row(
        (plan("10.96.7.7:3868", by=[A], protocol=SCTP),),
        (plan("10.96.7.7:3868", by=[B], protocol=SCTP),),
        lies=(flow("10.96.7.7:3868", A, SCTP),),
        true=(flow("10.96.7.7:3868", A, UDP), flow("10.96.7.7:3869", A, SCTP)),
    ),
    "TCP is left to finish": Row(
        (plan("10.96.7.7:80", by=[A], protocol=TCP),),
        (plan("10.96.7.7:80", by=[B], protocol=TCP),),
        true=(flow("10.96.7.7:80", A, TCP),),
        dumps=0,
    ),
    "IPv6": Row(
        (plan("[fd00:10:96::7]:53", by=["[fd00:10:244:1::2]:53"]),),
        (plan("[fd00:10:96::7]:53", by=["[fd00:10:244:1::3]:53"]),),
        lies=(flow("[fd00:10:96::7]:53", "[fd00:10:244:1::2]:53"),),
        true=(flow("[fd00:10:96::7]:53", "[fd00:10:244:1::3]:53"), flow(VIP, A)),
    ),
    "other zones are others'": Row(
        (plan(VIP, by=[A]),), (plan(VIP, by=[B]),), true=(flow(VIP, A, zone=1),)
    ),
    "an endpoint in the host network, at the frontend's own address": Row(
        (plan(f"{NODE}:53", by=[f"{NODE}:53"]),),
        (plan(f"{NODE}:53", by=[A]),),
        lies=(flow(f"{NODE}:53"),),
    ),
    "the same two, and it stays": Row(
        (plan(f"{NODE}:53"),),
        (plan(f"{NODE}:53", by=[f"{NODE}:53"]),),
        true=(flow(f"{NODE}:53"),),
    ),
}


@pytest.fixture(params=["a change", "everything anew"])
def way(request: pytest.FixtureRequest) -> str:
    """How conntrack is told."""
    return str(request.param)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("knows_filters", [True, False], ids=["5.8", "before"])
def test_exactly_the_lies_are_forgotten(row: Row, way: str, *, knows_filters: bool) -> None:
    kernel = FakeKernel(knows_filters=knows_filters)
    told = conntrack(kernel)
    told.replaced(services(row.before), NODE_A, ())
    # Conntrack meets the flows when their frontends are what they were.
    kernel.table = [*row.lies, *row.true]
    before = kernel.dumps
    if way == "a change":
        cleaned = told.applied(delta(row.after), NODE_A, ())
    else:
        cleaned = told.replaced(services(row.after), NODE_A, ())
    assert kernel.table == list(row.true)
    assert sum(cleaned.deleted.values()) == len(row.lies)
    assert cleaned.dumps == kernel.dumps - before
    assert cleaned.dumps == (row.dumps if knows_filters else min(row.dumps, 1))
