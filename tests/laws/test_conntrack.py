"""Of any flows, under any change of any cluster: are exactly the lies forgotten?

The oracle says what a lie is as an operator would, frontend by frontend, from the plans before and
after; it knows nothing of memories, filters or doubts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from conntrack.flows import End, Flow, Way
from endpoints.addresses import family
from endpoints.names import Protocol
from endpoints.node import NodeView
from endpoints.nodeports import is_loopback
from endpoints.plan import EndpointState, ServicePlan
from modes.base import Delta
from tests.laws import places
from tests.laws.clusters import (
    BALANCERS,
    CLUSTER_IPS,
    EXTERNAL_IPS,
    SERVICE_PORTS,
    TARGET_PORTS,
    Cluster,
    Clustered,
    change,
    clusters,
    compiled,
)
from tests.laws.effort import effort
from tests.unit.conntrack.flowing import FakeKernel, conntrack

Reality = tuple[NodeView, Clustered]

DESTINATIONS = sorted(
    {
        *(ip for pair in CLUSTER_IPS for ip in pair),
        *BALANCERS,
        *EXTERNAL_IPS,
        *places.LOCAL_ADDRESSES,
    }
)
STRANGERS = ("192.0.2.99", "2001:db8:192::99")
PROTOCOLS = (Protocol.UDP, Protocol.UDP, Protocol.SCTP, Protocol.TCP)


def frontend_of(reality: Reality, flow: Flow) -> ServicePlan | None:
    """The plan that a packet of the flow meets, by its address before its NodePort."""
    node, services = reality
    address, port = flow.original.destination
    here = [
        (plan, frontend)
        for plans in services.values()
        for plan in plans
        for frontend in plan.frontends
        if (plan.family, plan.name.protocol, frontend.port) == (flow.family, flow.protocol, port)
    ]
    for plan, frontend in here:
        if frontend.address == address:
            return plan
    chosen = node.node_ports(flow.family)
    everywhere = chosen.match_all and address in node.addresses and not is_loopback(address)
    if not everywhere and address not in chosen.addresses:
        return None
    return next((plan for plan, frontend in here if frontend.address is None), None)


def serving(plan: ServicePlan | None) -> set[End]:
    """Everybody who is ready, or terminates and serves."""
    if plan is None:
        return set()
    unused = [each.endpoint for each in plan.unused]
    return {
        End(each.address, each.port)
        for each in (*plan.cluster, *plan.local, *unused)
        if each.state is not EndpointState.NOT_READY
    }


def is_lie(flow: Flow, before: Reality | None, after: Reality) -> bool:
    """Whether the flow's first packet would have another fate today; `before` None: unknown."""
    if flow.protocol is Protocol.TCP or flow.zone:
        return False
    meets = frontend_of(after, flow)
    now, answering = serving(meets), flow.reply.source
    is_translated = answering != flow.original.destination
    if answering in now:
        return False
    if before is None:
        return meets is not None and (is_translated or bool(now))
    was = serving(frontend_of(before, flow))
    if answering in was:
        return True
    return not is_translated and not was and bool(now)


def flow(
    random: Random, destinations: Sequence[End], answering: Sequence[End], number: int
) -> Flow:
    """To a place where a Service is or might be, answered by an endpoint, a stranger or nobody."""
    there = random.choice(destinations)
    of = family(there.address)
    client = End(places.CLIENT.addresses[of], random.randint(1024, 65535))
    fitting = [end for end in answering if family(end.address) is of]
    return Flow(
        of,
        random.choice(PROTOCOLS),
        Way(client, there),
        Way(random.choice([*fitting, there]), client),
        zone=random.choice((0,) * 9 + (5,)),
        id=number,
    )


def table_of(random: Random, realities: Iterable[Reality]) -> list[Flow]:
    """Flows, most of them to what is a frontend at some time, and from who serves at some time."""
    plans = [p for _, services in realities for plans in services.values() for p in plans]
    ports = {f.port for plan in plans for f in plan.frontends}
    fronts = [End(f.address, f.port) for p in plans for f in p.frontends if f.address]
    node_ports = [End(a, port) for a in places.LOCAL_ADDRESSES for port in ports]
    nowhere = [End(a, random.choice(SERVICE_PORTS)) for a in DESTINATIONS]
    endpoints = [end for plan in plans for end in serving(plan)]
    strangers = [End(a, random.choice(TARGET_PORTS)) for a in STRANGERS]
    return [
        flow(
            random,
            random.choice([fronts or nowhere, node_ports, nowhere]),
            endpoints + strangers,
            number,
        )
        for number in range(80)
    ]


def steps(history: Iterable[Cluster]) -> list[Reality]:
    """What node-a makes of one cluster after the other; every other time its own view stays."""
    realities = [compiled(cluster) for cluster in history]
    return [
        realities[0],
        *((realities[0][0], services) for _, services in realities[1:2]),
        *realities[2:],
    ]


def true(table: Sequence[Flow], before: Reality | None, after: Reality) -> list[Flow]:
    """What must stay."""
    return [flow for flow in table if not is_lie(flow, before, after)]


@effort(60)
@given(st.lists(clusters, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_exactly_the_lies_are_forgotten(history: list[Cluster], random: Random) -> None:
    kernel = FakeKernel(knows_filters=random.random() < 0.7)
    told = conntrack(kernel)
    realities = steps(history)
    node, services = realities[0]
    told.replaced(services, node, ())
    for before, after in pairwise(realities):
        kernel.table = table_of(random, (before, after))
        expected = true(kernel.table, before, after)
        if before[0] == after[0] and random.random() < 0.7:
            told.applied(change(before[1], after[1]), after[0], ())
        else:
            told.replaced(after[1], after[0], ())
        assert kernel.table == expected


@effort(60)
@given(clusters, st.randoms(use_true_random=False))
def test_a_start_forgets_nothing_that_is_true(cluster: Cluster, random: Random) -> None:
    now = compiled(cluster)
    table = table_of(random, [now])
    kernel = FakeKernel(*table)
    conntrack(kernel).replaced(now[1], now[0], ())
    assert kernel.table == true(table, None, now)
    # A restart, and one more: nothing is left to be forgotten.
    conntrack(kernel).replaced(now[1], now[0], ())
    assert kernel.table == true(table, None, now)


@effort(60)
@given(clusters, clusters, st.randoms(use_true_random=False))
def test_a_refused_change_forgets_nothing_until_it_is_taken(
    earlier: Cluster, later: Cluster, random: Random
) -> None:
    before = compiled(earlier)
    after = (before[0], compiled(later)[1])
    table = table_of(random, (before, after))
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(before[1], before[0], ())
    kernel.table = list(table)
    delta = change(before[1], after[1])
    told.applied(delta, before[0], {*delta.upserts, *delta.deletes})
    assert kernel.table == table
    told.applied(Delta(delta.upserts, delta.deletes), before[0], ())
    assert kernel.table == true(table, before, after)
