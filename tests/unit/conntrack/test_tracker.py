"""What is remembered from change to change, and what is the kernel asked for?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import pytest

from conntrack.flows import Filter
from conntrack.tracker import Cleaned, Conntrack
from endpoints.names import Family, ObjectName
from endpoints.node import NodePortAddresses
from endpoints.plan import EndpointState, ServicePlan
from modes.base import Delta, KernelFault, Missing, NotPermitted, Plans
from tests.unit.conntrack.flowing import (
    NODE,
    OTHER_VIP,
    SCTP,
    STRANGER,
    TCP,
    UDP,
    VIP,
    A,
    AtOnce,
    B,
    C,
    FakeKernel,
    changed,
    conntrack,
    delta,
    endpoint,
    flow,
    name,
    plan,
    services,
)
from tests.unit.endpoints.build import NODE_A


def test_the_first_time_what_is_true_stays_and_strangers_at_our_frontends_do_not() -> None:
    stays = [flow(VIP, A), flow(VIP, B), flow(OTHER_VIP, A), flow(f"{NODE}:30053", A)]
    stays += [flow("192.168.0.12:30053", C), flow(VIP, C, TCP), flow(VIP, C, zone=3)]
    lies = [flow(VIP, C), flow(VIP), flow(f"{NODE}:30053", C), flow(f"{NODE}:30053")]
    kernel = FakeKernel(*stays, *lies)
    plans = (plan(VIP, "node:30053", by=[A], unused=[endpoint(B, EndpointState.TERMINATING)]),)
    cleaned = conntrack(kernel).replaced(services(plans), NODE_A, ())
    assert kernel.table == stays
    assert cleaned.deleted == {Family.IPV4: len(lies)}


def test_the_first_time_a_service_without_endpoints_has_no_true_flow_but_untranslated_ones() -> (
    None
):
    kernel = FakeKernel(flow(VIP, A), flow(VIP))
    conntrack(kernel).replaced(services((plan(VIP),)), NODE_A, ())
    assert [one.reply.source for one in kernel.table] == [flow(VIP).reply.source]


def test_the_same_again_asks_for_nothing() -> None:
    kernel = FakeKernel(flow(VIP, STRANGER))
    told = conntrack(kernel)
    plans = (plan(VIP, "node:30053", by=[A]),)
    told.replaced(services(plans), NODE_A, ())
    asked = len(kernel.asked)
    assert told.replaced(services(plans), NODE_A, ()) == Cleaned()
    assert told.applied(delta(plans), NODE_A, ()) == Cleaned()
    assert len(kernel.asked) == asked


def test_nothing_is_opened_where_nobody_speaks_udp() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(services((plan("10.96.7.7:80", by=[A], protocol=TCP),)), NODE_A, ())
    told.applied(delta(()), NODE_A, ())
    assert kernel.opened == 0


def test_services_are_walked_once() -> None:
    class Once(Mapping[ObjectName, Plans]):
        looked = 0

        def __getitem__(self, _: ObjectName) -> Plans:
            self.looked += 1
            return (plan(VIP, by=[A]),)

        def __iter__(self) -> Iterator[ObjectName]:
            return iter([name("a"), name("b"), name("c")])

        def __len__(self) -> int:
            return 3

    once = Once()
    conntrack(FakeKernel()).replaced(once, NODE_A, ())
    assert once.looked == 3


def test_a_refused_service_keeps_its_past() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(services((plan(VIP, by=[A]),)), NODE_A, ())
    kernel.table = [flow(VIP, A)]
    assert told.applied(delta((plan(VIP, by=[B]),)), NODE_A, {name()}) == Cleaned()
    assert told.replaced(services((plan(VIP, by=[B]),)), NODE_A, {name()}) == Cleaned()
    assert told.applied(delta(()), NODE_A, {name()}) == Cleaned()
    assert len(kernel.table) == 1
    told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    assert kernel.table == []


@pytest.mark.parametrize("known", [False, True])
def test_a_service_that_is_refused_from_the_start_has_an_unknown_past(*, known: bool) -> None:
    kernel = FakeKernel(flow(VIP, C))
    told = conntrack(kernel)
    plans = (plan(VIP, by=[A]),)
    told.replaced(services(plans), NODE_A, () if known else {name()})
    kernel.table = [flow(VIP, C)]
    told.applied(delta(plans), NODE_A, ())
    assert len(kernel.table) == known
    kernel.table = [flow(VIP, C)]
    told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    assert len(kernel.table) == 1  # by now it is known that C never served


def test_a_frontend_that_wanders_to_another_service() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    first, second = plan(VIP, by=[A, B]), plan(VIP, by=[B, C])
    told.replaced({name("a"): (first,)}, NODE_A, ())
    kernel.table = [flow(VIP, A), flow(VIP, B)]
    told.applied(Delta({name("b"): (second,)}, frozenset({name("a")})), NODE_A, ())
    assert kernel.table == [one for one in kernel.table if one.reply.source.address == "10.244.2.3"]
    assert len(kernel.table) == 1
    # The Service that had it may be told anew later: it is another's now.
    kernel.table = [flow(VIP, B), flow(VIP, C)]
    told.applied(Delta({}, frozenset({name("a")})), NODE_A, ())
    assert len(kernel.table) == 2


def test_a_frontend_that_is_taken_while_its_service_is_refused() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced({name("a"): (plan(VIP, by=[A]),)}, NODE_A, ())
    moved = {name("a"): (plan(OTHER_VIP, by=[A]),), name("b"): (plan(VIP, by=[B]),)}
    told.applied(Delta(moved), NODE_A, {name("a")})
    # What the refused one had is another's; its leaving takes nothing from that.
    told.applied(Delta({name("a"): moved[name("a")]}), NODE_A, ())
    kernel.table = [flow(VIP, B), flow(VIP, C)]
    told.applied(Delta({name("b"): (plan(VIP, by=[C]),)}), NODE_A, ())
    assert [one.reply.source.address for one in kernel.table] == ["10.244.3.4"]


def test_a_frontend_that_is_taken_and_left_while_its_service_is_refused() -> None:
    kernel = FakeKernel(flow(VIP, B))
    told = conntrack(kernel)
    told.replaced({name("a"): (plan(VIP, by=[A, B]),)}, NODE_A, ())
    told.applied(
        Delta({name("b"): (plan(VIP, by=[B]),)}, frozenset({name("a")})), NODE_A, {name("a")}
    )
    told.applied(Delta({}, frozenset({name("b")})), NODE_A, {name("a")})
    assert kernel.table == []
    told.applied(Delta({}, frozenset({name("a")})), NODE_A, ())
    assert told.replaced({}, NODE_A, ()) == Cleaned()


def test_an_address_of_a_service_is_not_the_node_port_of_another() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    explicit = plan(f"{NODE}:30053", by=[A], name="a")
    told.replaced({name("a"): (explicit,), name("b"): (plan("node:30053", by=[A]),)}, NODE_A, ())
    kernel.table = [flow(f"{NODE}:30053", A)]
    told.applied(Delta({name("b"): (plan("node:30053", by=[B]),)}), NODE_A, ())
    assert len(kernel.table) == 1
    # The address goes; what is left there is the NodePort.
    told.applied(Delta({}, frozenset({name("a")})), NODE_A, ())
    assert kernel.table == []


def test_node_ports_that_move_with_the_node() -> None:
    everywhere = msgspec.structs.replace(NODE_A, node_ports_v4=NodePortAddresses(match_all=True))
    kernel = FakeKernel()
    told = conntrack(kernel)
    plans = services((plan("node:30053", VIP, by=[A]),))
    told.replaced(plans, NODE_A, ())
    kernel.table = [
        flow("10.244.1.1:30053"),
        flow(f"{NODE}:30053"),
        flow("127.0.0.1:30053"),
        flow(VIP),
    ]
    told.replaced(plans, everywhere, ())
    assert kernel.table == [
        one for one in kernel.table if one.original.destination.address != "10.244.1.1"
    ]
    assert len(kernel.table) == 3
    kernel.table = [flow("10.244.1.1:30053", A), flow(f"{NODE}:30053", A)]
    told.replaced(plans, NODE_A, ())
    assert [one.original.destination.address for one in kernel.table] == [NODE]


def test_few_frontends_are_asked_for_one_by_one_and_many_at_once() -> None:
    def many(count: int, by: str) -> dict[ObjectName, Plans]:
        return {name(f"s{n}"): (plan(f"10.96.0.{n}:{n}", by=[by]),) for n in range(1, count + 1)}

    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(many(20, A), NODE_A, ())
    kernel.asked.clear()
    told.applied(Delta(many(8, B)), NODE_A, ())
    assert kernel.asked == [Filter(Family.IPV4, UDP, f"10.96.0.{n}", n) for n in range(1, 9)]
    kernel.asked.clear()
    told.applied(Delta(many(9, C)), NODE_A, ())
    assert kernel.asked == [Filter(Family.IPV4, UDP)]


def test_a_node_port_on_many_addresses_is_asked_for_by_its_port() -> None:
    addresses = frozenset(f"192.168.0.{n}" for n in range(1, 10))
    node = msgspec.structs.replace(
        NODE_A, addresses=addresses, node_ports_v4=NodePortAddresses(match_all=True)
    )
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(services((plan("node:30053", by=[A]),)), node, ())
    kernel.asked.clear()
    kernel.table = [flow("192.168.0.8:30053", A), flow("192.168.9.9:30053", A)]
    told.applied(delta((plan("node:30053", by=[B]),)), node, ())
    assert kernel.asked == [Filter(Family.IPV4, UDP, None, 30053)]
    assert len(kernel.table) == 1


def test_a_kernel_that_refuses_filters_is_asked_for_all() -> None:
    class Refusing(FakeKernel):
        def dump(self, of: Filter) -> Iterator[bytes]:
            if of.protocol is not None:
                raise Missing("no filters")
            return super().dump(of)

    kernel = Refusing(flow(VIP, C), flow(VIP, A), flow(OTHER_VIP, C))
    told = conntrack(kernel)
    told.replaced(services((plan(VIP, by=[A]),)), NODE_A, ())
    assert kernel.asked == [Filter(Family.IPV4)]
    assert len(kernel.table) == 2
    told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    assert kernel.asked == [Filter(Family.IPV4)] * 2
    assert len(kernel.table) == 1


def test_what_a_fault_left_undone_is_done_by_the_next_call() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    told.replaced(services((plan(VIP, by=[A, B]),)), NODE_A, ())
    kernel.table = [flow(VIP, A), flow(VIP, B), flow(VIP, C)]
    kernel.fault = KernelFault("busy")
    with pytest.raises(KernelFault, match="busy"):
        told.applied(delta((plan(VIP, by=[C]),)), NODE_A, ())
    with pytest.raises(KernelFault, match="busy"):
        told.applied(delta((plan(VIP),)), NODE_A, ())
    assert kernel.opened == 2  # a connection that failed is not used again
    kernel.fault = None
    # B came back meanwhile: its flows tell the truth again.
    told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    assert [one.reply.source.address for one in kernel.table] == ["10.244.2.3"]
    assert told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ()) == Cleaned()


def test_what_this_machine_cannot_do_is_not_tried_again_and_again() -> None:
    kernel = FakeKernel()
    kernel.fault = NotPermitted("no privilege")
    told = conntrack(kernel)
    with pytest.raises(NotPermitted):
        told.replaced(services((plan(VIP, by=[A]),)), NODE_A, ())
    asked = len(kernel.asked)
    assert told.applied(delta((plan(VIP, by=[A, B]),)), NODE_A, ()) == Cleaned()
    assert len(kernel.asked) == asked
    kernel.fault, kernel.table = None, [flow(VIP, A)]
    told.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    assert kernel.table == []


def test_time_is_told_by_family() -> None:
    kernel = FakeKernel()
    told = conntrack(kernel)
    v6 = plan("[fd00:10:96::7]:53", by=["[fd00:10:244:1::2]:53"])
    cleaned = told.replaced(services((plan(VIP, by=[A]), v6)), NODE_A, ())
    assert cleaned.seconds == {Family.IPV4: 1.0, Family.IPV6: 1.0}
    assert cleaned.deleted == {Family.IPV4: 0, Family.IPV6: 0}
    cleaned = told.applied(delta((plan(VIP, by=[B]), v6)), NODE_A, ())
    assert cleaned.seconds == {Family.IPV4: 1.0}


def test_a_protocol_may_be_left_out() -> None:
    """Where IPVS lets connections of SCTP drain, to forget their flows would break them."""
    kernel = FakeKernel()
    told = AtOnce(Conntrack(lambda: 0.0, frozenset({UDP}), kernel.open))
    before: ServicePlan = plan("10.96.7.7:3868", by=[A], protocol=SCTP)
    told.replaced(services((before,)), NODE_A, ())
    kernel.table = [flow("10.96.7.7:3868", A, SCTP)]
    told.applied(delta((changed(before, cluster=()),)), NODE_A, ())
    assert kernel.asked == []


def test_after_a_repair_the_flows_of_the_time_without_rules_are_lies() -> None:
    """They began while nothing was translated, or was translated by somebody else's rules."""
    kernel = FakeKernel()
    told = conntrack(kernel)
    plans = services((plan(VIP, by=[A, B]),))
    told.replaced(plans, NODE_A, ())
    kernel.table = [flow(VIP, A), flow(VIP), flow(VIP, STRANGER), flow(OTHER_VIP, STRANGER)]
    kept = [kernel.table[0], kernel.table[3]]
    assert told.replaced(plans, NODE_A, ()) == Cleaned()
    told.replaced(plans, NODE_A, (), doubtful=True)
    assert kernel.table == kept


def test_what_was_made_true_again_in_between_stays() -> None:
    kernel = FakeKernel()
    tracker = Conntrack(lambda: 0.0, open_kernel=kernel.open)
    tracker.replaced(services((plan(VIP, by=[A, B]),)), NODE_A, ())
    tracker.forget()
    kernel.table = [flow(VIP, A)]
    listed = kernel.dump

    def dump(of: Filter) -> Iterator[bytes]:
        """The endpoint is back before the list has come to its end."""
        yield from listed(of)
        tracker.applied(delta((plan(VIP, by=[A, B]),)), NODE_A, ())

    kernel.dump = dump  # type: ignore[method-assign]
    assert tracker.applied(delta((plan(VIP, by=[B]),)), NODE_A, ())
    tracker.forget()
    assert len(kernel.table) == 1
