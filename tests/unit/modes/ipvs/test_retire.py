"""Does IPVS keep its connections when another mode serves, and leave nothing in the end?

Every step is watched by the kernel of fake.py, and after every step a headgate may be killed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import cast

import pytest

from endpoints.names import Family, Protocol
from endpoints.node import NodeView
from modes.base import IpvsSettings, KernelFault, ModeSettings
from modes.ipvs import retire
from modes.ipvs.adopt import KUBE_PROXY, OURS
from modes.ipvs.draining import LOOK_SECONDS, entry
from modes.ipvs.ipsets import PLAIN, Entry, Kind, SetName, spec
from modes.ipvs.mode import IpvsMode
from modes.ipvs.program import bound, registered
from modes.ipvs.quiesce import KINDS, refused
from modes.ipvs.retiring import RetiringRules
from modes.ipvs.rules import Rules as IptablesRules
from modes.ipvs.servers import FoundReal, FoundServer, RealServer, ServerKey, VirtualServer
from tests.unit.modes.ipvs.fake import Kernel, Killed, NoRules
from tests.unit.modes.ipvs.test_lives import (
    AT_VIP,
    STRANGER,
    VIP,
    Time,
    marked,
    meant,
    mode_on,
    running,
    weights,
)

ONE, TWO = RealServer("10.244.1.2", 8080), RealServer("10.244.1.3", 8080)
BALANCER = "198.51.100.20"
AT_BALANCER = ServerKey(Family.IPV4, Protocol.TCP, BALANCER, 80)
DRAIN_SECONDS = 900


class Rules:
    """iptables: whose rules there were, and what becomes of them."""

    def __init__(self, whose: str = OURS) -> None:
        self.was = whose
        self.done: list[str] = []
        self.faults: list[KernelFault] = []

    def whose(self) -> str:
        return OURS if "written" in self.done else self.was

    def write(self, families: Collection[Family]) -> None:
        assert set(families) == {Family.IPV4}
        if self.faults:
            raise self.faults.pop()
        self.done.append("written")

    def remove(self) -> None:
        self.done.append("removed")

    def give_way(self, *_: object, stay: bool) -> None:
        assert not stay
        self.done.append("all others removed")


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    made = Rules()
    monkeypatch.setattr(retire, "is_loaded", lambda: True)
    monkeypatch.setattr(retire, "give_way", made.give_way)
    return made


def retiring(
    kernel: Kernel, rules: Rules, time: Time, drain_seconds: int = DRAIN_SECONDS
) -> IpvsMode:
    """A headgate that was started with another mode."""
    settings = ModeSettings(ipvs=IpvsSettings(drain_seconds=drain_seconds))
    mode = IpvsMode(settings, lambda *_, **__: None, time, kernel.machine)
    mode._retirement._rules = cast("RetiringRules", rules)
    return mode


def by_whose_clock(kernel: Kernel, seconds: float) -> None:
    """Let the kernel count down the deadlines."""
    elements = kernel.sets[SetName(Kind.DRAINING, Family.IPV4)]
    for one, extra in tuple(elements.items()):
        left = extra.timeout_seconds - int(seconds)
        elements.pop(one)
        if left > 0:
            elements[one] = type(extra)(timeout_seconds=left)


def until_gone(mode: IpvsMode, successor: str = "nftables") -> int:
    """How many looks it takes."""
    for number in itertools.count(1):
        if mode.retire(successor) is None:
            return number
    raise AssertionError


def nothing_is_left(kernel: Kernel) -> bool:
    return not any((kernel.servers, kernel.link, kernel.sets))


def test_what_is_idle_goes_at_once(rules: Rules) -> None:
    kernel, time = Kernel(), Time()
    running(kernel, "10.244.1.2", "10.244.1.3")
    mode = retiring(kernel, rules, time)
    assert mode.retire("nftables") == retire.SOON_SECONDS
    assert not kernel.servers
    assert kernel.link == {VIP, BALANCER}  # a tick more, for what still comes by old flows
    assert mode.retire("nftables") is None
    assert not kernel.link
    assert not kernel.sets
    assert rules.done == ["written", "all others removed", "removed"]
    assert mode.retire("nftables") is None


def test_rules_that_the_iptables_mode_shares_are_its_own_affair(rules: Rules) -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    until_gone(retiring(kernel, rules, Time()), "iptables")
    assert rules.done == ["written", "removed"]


def test_who_has_connections_takes_no_new_ones_until_they_ended(rules: Rules) -> None:
    kernel, time = Kernel(), Time()
    running(kernel, "10.244.1.2", "10.244.1.3")
    kernel.busy = {ONE}
    mode = retiring(kernel, rules, time)
    assert mode.retire("nftables") == LOOK_SECONDS
    assert weights(kernel, [AT_VIP, AT_BALANCER]) == [{str(ONE): 0}] * 2
    assert kernel.held(refused(AT_VIP))
    assert kernel.link == {VIP, BALANCER}
    assert mode.retire("nftables") == LOOK_SECONDS
    kernel.busy = set()
    assert until_gone(mode) == 2
    assert nothing_is_left(kernel)


def test_new_connections_to_the_node_itself_are_let_to_it(
    rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer may have the node's own address: see quiesce.py."""
    monkeypatch.setattr(retire, "local_addresses", lambda: frozenset({"192.168.0.11"}))
    key = ServerKey(Family.IPV4, Protocol.TCP, "192.168.0.11", 80)

    class NeverClosed(Kernel):
        def watch(self) -> None:
            super().watch()
            if key in self.servers:
                assert any(weights(self, [key])[0].values())

    kernel = NeverClosed()
    running(kernel, "10.244.1.2", "10.244.1.3")
    itself = RealServer("192.168.0.11", 80)
    kernel.sets[registered(key).set][registered(key).element] = PLAIN
    mode = retiring(kernel, rules, Time())
    for draining in ({}, {itself: FoundReal(0)}):
        reals = {ONE: FoundReal(1), TWO: FoundReal(1), **draining}
        kernel.sets[SetName(Kind.DRAINING, Family.IPV4)] |= {
            entry(key, real).element: PLAIN for real in draining
        }
        kernel.servers[key] = FoundServer(VirtualServer("sh", 1, 300), reals)
        kernel.busy = {ONE, itself}
        for _ in range(2):
            assert mode.retire("nftables") == LOOK_SECONDS
            assert weights(kernel, [key]) == [{str(ONE): 0, str(itself): 1}]
            assert kernel.servers[key].server == VirtualServer()
            assert not kernel.held(refused(key))
            assert not kernel.held(entry(key, itself))
    kernel.busy = {itself}  # which goes on without IPVS
    assert until_gone(mode) == 2
    assert nothing_is_left(kernel)


def test_services_without_endpoints_are_not_refused_any_more(rules: Rules) -> None:
    """Who serves now does so, or has found endpoints; IPVS has no virtual server there."""
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    without = refused(ServerKey(Family.IPV4, Protocol.TCP, "192.168.0.11", 8080))
    kernel.sets[without.set][without.element] = PLAIN
    kernel.busy = {ONE}
    assert retiring(kernel, rules, Time()).retire("nftables") == LOOK_SECONDS
    assert not kernel.held(without)
    assert kernel.held(refused(AT_VIP))


def test_a_deadline_ends_what_does_not_end_by_itself(rules: Rules) -> None:
    """Also for a headgate that was started anew, which finds it in the kernel."""
    kernel, time = Kernel(), Time()
    running(kernel, "10.244.1.2")
    kernel.busy = {ONE}
    for seconds in (0, 400, 400):
        by_whose_clock(kernel, seconds)
        mode = retiring(kernel, rules, time)
        assert mode.retire("nftables") == LOOK_SECONDS
    left = kernel.sets[SetName(Kind.DRAINING, Family.IPV4)][entry(AT_VIP, ONE).element]
    assert left.timeout_seconds == DRAIN_SECONDS - 800
    kernel.watches = False  # the set has forgotten it by now, as it should
    by_whose_clock(kernel, 101)
    assert until_gone(retiring(kernel, rules, time)) == 2
    assert not kernel.servers


def test_without_time_to_drain_everything_goes_at_once(rules: Rules) -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    kernel.busy = {ONE}
    assert until_gone(retiring(kernel, rules, Time(), drain_seconds=0)) == 2
    assert not kernel.servers


def test_strangers_are_left_alone(rules: Rules) -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    elsewhere = ServerKey(Family.IPV4, Protocol.TCP, "203.0.113.9", 80)
    at_ours = ServerKey(Family.IPV4, Protocol.TCP, VIP, 81)
    kernel.servers |= {elsewhere: STRANGER, at_ours: STRANGER}
    kernel.foreign = {elsewhere, at_ours}
    kernel.watches = False  # nobody has put the stranger's address into a set
    kernel.link.add("203.0.113.9")
    until_gone(retiring(kernel, rules, Time()))
    assert kernel.servers == {elsewhere: STRANGER, at_ours: STRANGER}
    assert kernel.link == {"203.0.113.9"}


def test_addresses_stay_while_a_mark_has_connections(rules: Rules) -> None:
    """The virtual server of a mark does not say where its packets went."""
    kernel = Kernel()
    mode = mode_on(kernel)
    node, plans = meant("10.244.1.2", external="Local")
    mode.start(node)
    mode.replace(plans)
    [mark] = marked(kernel)
    kernel.busy = {ONE}
    mode = retiring(kernel, rules, Time())
    for _ in range(3):
        assert mode.retire("iptables") == LOOK_SECONDS
    for key in (AT_VIP, AT_BALANCER):
        del kernel.servers[key]
        kernel.watches = False
    assert mode.retire("iptables") == LOOK_SECONDS
    assert weights(kernel, [mark]) == [{str(ONE): 0}]
    assert kernel.link == {VIP, BALANCER}
    kernel.busy = set()
    until_gone(mode, "iptables")
    assert nothing_is_left(kernel)


def of_kube_proxy(kernel: Kernel) -> None:
    """Its sets, its address, and a virtual server of which one real server drains."""
    kernel.servers[AT_VIP] = FoundServer(VirtualServer(), {ONE: FoundReal(1), TWO: FoundReal(0)})
    for kind in (Kind.CLUSTER_IP, Kind.IPVS_IPS):
        name = SetName(kind, Family.IPV4)
        kernel.sets[name] = {}
        kernel.specs[name] = spec(name)
    where = Entry(SetName(Kind.CLUSTER_IP, Family.IPV4), registered(AT_VIP).element)
    for one in (where, bound(VIP)):
        kernel.sets[one.set][one.element] = PLAIN
    kernel.link.add(VIP)


def test_kube_proxys_servers_drain_as_ours(rules: Rules) -> None:
    kernel = Kernel()
    kernel.watches = False
    of_kube_proxy(kernel)
    rules.was = KUBE_PROXY
    kernel.busy = {ONE, TWO}
    mode = retiring(kernel, rules, Time())
    assert mode.retire("nftables") == LOOK_SECONDS
    kernel.watches = True
    kernel.stepped()
    assert {name.kind for name in kernel.sets} >= set(KINDS)
    assert weights(kernel, [AT_VIP]) == [{str(ONE): 0, str(TWO): 0}]
    mode = retiring(kernel, rules, Time())
    assert mode.retire("nftables") == LOOK_SECONDS
    assert len(kernel.servers[AT_VIP].reals) == 2
    kernel.busy = set()
    until_gone(mode)
    assert nothing_is_left(kernel)


def test_rules_that_are_refused_keep_the_servers_as_they_are(rules: Rules) -> None:
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    rules.faults = [KernelFault("somebody holds the lock")]
    mode = retiring(kernel, rules, Time())
    with pytest.raises(KernelFault):
        mode.retire("nftables")
    assert weights(kernel, [AT_VIP]) == [{str(ONE): 1}]
    until_gone(mode)
    assert rules.done == ["written", "all others removed", "removed"]


@pytest.mark.parametrize("was", [OURS, KUBE_PROXY])
def test_it_may_be_killed_after_every_step(rules: Rules, was: str) -> None:
    """Whoever comes next finds what is left and goes on; nobody who has connections is cut."""
    for number in itertools.count(1):
        kernel = Kernel()
        if was == OURS:
            running(kernel, "10.244.1.2", "10.244.1.3")
        else:
            kernel.watches = False
            of_kube_proxy(kernel)
        rules.was, rules.done = was, []
        kernel.busy = {ONE}
        kernel.steps, kernel.stops_after = 0, number
        try:
            retiring(kernel, rules, Time()).retire("nftables")
        except Killed:
            was_killed = True
        else:
            was_killed = False
        kernel.stops_after = None
        mode = retiring(kernel, rules, Time())
        assert mode.retire("nftables") == LOOK_SECONDS
        assert weights(kernel, [AT_VIP]) == [{str(ONE): 0}]
        kernel.busy = set()
        kernel.steps, kernel.stops_after = 0, number
        try:
            until_gone(mode)
        except Killed:
            kernel.stops_after = None
            until_gone(retiring(kernel, rules, Time()))
        assert nothing_is_left(kernel)
        if not was_killed:
            break
    assert number > 8


def test_ipvs_that_comes_back_takes_its_servers_again(rules: Rules) -> None:
    kernel, time = Kernel(), Time()
    running(kernel, "10.244.1.2")
    kernel.busy = {ONE}
    mode = retiring(kernel, rules, time)
    assert mode.retire("ipvs") is None  # it serves
    assert not rules.done
    mode.retire("nftables")
    assert weights(kernel, [AT_VIP]) == [{str(ONE): 0}]
    running(kernel, "10.244.1.2", time=time)
    assert weights(kernel, [AT_VIP]) == [{str(ONE): 1}]
    assert not kernel.held(refused(AT_VIP))


def test_what_gave_way_is_let_in_again_before_rules_ask_for_it(rules: Rules) -> None:
    """Until then those of the iptables mode translate; after it, nobody would."""
    kernel = Kernel()
    running(kernel, "10.244.1.2")
    kernel.busy = {ONE}
    retiring(kernel, rules, Time()).retire("iptables")
    assert kernel.held(refused(AT_VIP))
    written: list[bool] = []

    class OfIptables(NoRules):
        are_of_another_mode = True

        def write(self, node: NodeView) -> int:
            written.append(kernel.held(refused(AT_VIP)))
            return super().write(node)

    mode = mode_on(kernel)
    mode._rules = cast("IptablesRules", OfIptables())
    node, plans = meant("10.244.1.2")
    mode.start(node)
    assert not mode.replace(plans).failed
    assert written == [False]


def test_nothing_is_opened_where_the_kernel_has_not_loaded_ipvs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retire, "is_loaded", lambda: False)
    mode = IpvsMode(ModeSettings(), lambda *_, **__: None)
    assert mode.retire("nftables") is None
    assert mode._opened is None
