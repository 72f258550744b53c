"""Does news reach the kernel: once, in one piece, and again after a refusal?"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping

import pytest

from endpoints.events import Delete, Event, Problem, Replace
from endpoints.names import Family, ObjectName
from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import ApplyReport, EnvironmentFault, KernelFault, Plans
from proxy.log import KlogFormatter
from proxy.observer import Observer, Synced
from proxy.sources.base import LocalAddresses, Message, Together
from proxy.sources.files import Files, contents
from proxy.sync import Outcome, Sync
from tests.unit.proxy.build import BOTH, CART, PAY, MemoryMode, endpoints, node, service, together

SHOP = together(
    service("pay"),
    endpoints("10.244.1.2"),
    service("cart", "10.96.7.8"),
    endpoints("10.244.1.3", of="cart"),
    node(),
)


Told = tuple[float, ApplyReport | None]
FAILED: Told = (0.0, None)


class Listing(Observer):
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.plans: dict[ObjectName, Plans] = {}
        self.flows: list[Mapping[Family, int]] = []

    def synced(self, synced: Synced) -> None:
        self.told.append((synced.seconds, synced.report))

    def failed(self, reason: str) -> None:
        assert reason
        self.told.append(FAILED)

    def planning_all(self) -> None:
        self.plans = {}

    def planned(self, service: ObjectName, plans: Plans) -> None:
        self.plans[service] = plans

    def cleaned(self, deleted: Mapping[Family, int], seconds: Mapping[Family, float]) -> None:
        assert deleted.keys() == seconds.keys()
        self.flows.append(deleted)


class Rig:
    """A Sync over a mode in memory, fed with manifests."""

    def __init__(self) -> None:
        self.mode = MemoryMode()
        self.files = Files()
        settings = NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",))
        state = ClusterState(settings, frozenset({"192.168.0.11", "127.0.0.1"}))
        ticks = itertools.count()
        self.observer = Listing()
        self.sync = Sync(state, self.mode, Kind, lambda: next(ticks) / 1000, self.observer)

    def say(self, *texts: str, retry: bool = False) -> Outcome | None:
        """Save files a.yaml, b.yaml..., and sync."""
        return self.sync.run([self.saved(*texts)], retry=retry)

    def saved(self, *texts: str) -> Together:
        events: list[Event] = []
        for name, text in zip("abc", texts, strict=False):
            found = contents(text.encode(), f"{name}.yaml")
            assert not found.problems
            events += self.files.put(f"{name}.yaml", found)[0]
        return Together(tuple(events))

    def observed(self) -> list[Told]:
        observed, self.observer.told = self.observer.told, []
        return observed

    def list_all(self, text: str = SHOP) -> Outcome | None:
        self.saved(text)
        return self.sync.run([Together(self.files.replacements())])

    def calls(self) -> list[str]:
        calls, self.mode.calls = self.mode.calls, []
        return calls


@pytest.fixture
def rig() -> Rig:
    return Rig()


def addresses_of(rig: Rig, name: ObjectName = PAY) -> list[str]:
    return [endpoint.address for plan in rig.mode.table[name] for endpoint in plan.cluster]


def test_nothing_is_programmed_before_everything_is_listed(rig: Rig) -> None:
    rig.saved(SHOP)
    services, slices, nodes = rig.files.replacements()
    assert rig.sync.run([services]) is None
    assert rig.sync.run([slices]) is None
    assert rig.sync.run([LocalAddresses(frozenset({"192.168.0.11"}))]) is None
    assert rig.calls() == []
    assert rig.sync.run([nodes]) == Outcome()
    assert rig.calls() == ["start", "replace shop/cart shop/pay"]
    assert addresses_of(rig) == ["10.244.1.2"]


def test_an_empty_cluster_is_programmed_too(rig: Rig) -> None:
    rig.mode.table = {PAY: ()}
    assert rig.list_all("") == Outcome()
    assert rig.calls() == ["start", "replace -shop/pay"]
    assert rig.mode.table == {}


def test_a_change_costs_what_it_changes(rig: Rig) -> None:
    rig.list_all()
    rig.calls()
    rig.say(SHOP.replace("10.244.1.2", "10.244.1.9"))
    assert rig.calls() == ["apply shop/pay"]
    assert addresses_of(rig) == ["10.244.1.9"]


def test_a_batch_is_one_transaction(rig: Rig) -> None:
    rig.list_all()
    rig.calls()
    first = rig.saved(SHOP.replace("10.244.1.2", "10.244.1.9"))
    second = rig.saved(SHOP.replace("10.244.1.2", "10.244.1.8").replace("1.3]", "1.7]"))
    rig.sync.run([first, second])
    assert rig.calls() == ["apply shop/cart shop/pay"]
    assert addresses_of(rig) == ["10.244.1.8"]
    assert addresses_of(rig, CART) == ["10.244.1.7"]


def test_a_service_that_goes_is_deleted(rig: Rig) -> None:
    rig.list_all()
    rig.calls()
    assert rig.sync.run([Delete(Kind.SERVICE, PAY)]) == Outcome()
    assert rig.calls() == ["apply -shop/pay"]
    assert rig.mode.table.keys() == {CART}


def test_news_that_says_nothing_new_reaches_no_kernel(rig: Rig) -> None:
    rig.list_all()
    rig.calls()
    assert rig.sync.run(list(rig.files.replacements())) is None
    assert rig.sync.run([]) is None
    assert rig.calls() == []


def test_a_node_that_changes_is_looked_at_anew(rig: Rig) -> None:
    rig.list_all()
    rig.calls()
    rig.say(SHOP.replace("eu-1a", "eu-1b"))
    assert rig.calls() == ["start", "replace shop/cart shop/pay"]
    assert rig.mode.node is not None
    assert rig.mode.node.zone == "eu-1b"
    rig.sync.run([LocalAddresses(frozenset({"192.168.0.11", "10.0.0.1"}))])
    assert rig.calls() == ["start", "replace shop/cart shop/pay"]
    assert "10.0.0.1" in rig.mode.node.addresses


@pytest.mark.parametrize("fault", [KernelFault("table is busy"), OSError("no buffer space")])
def test_after_a_refusal_of_the_whole_the_kernel_is_read_anew(
    rig: Rig, fault: KernelFault | OSError
) -> None:
    rig.list_all()
    rig.calls()
    rig.mode.faults = [fault]
    outcome = rig.say(SHOP.replace("10.244.1.2", "10.244.1.9"))
    assert outcome == Outcome(fault=str(fault))
    assert rig.calls() == ["apply shop/pay"]
    # What the kernel holds is not known: nothing is written until a retry has looked.
    assert rig.say(SHOP.replace("10.244.1.2", "10.244.1.8")) is None
    assert rig.calls() == []
    assert rig.sync.run([], retry=True) == Outcome()
    assert rig.calls() == ["start", "replace shop/cart shop/pay"]
    assert addresses_of(rig) == ["10.244.1.8"]


def test_the_first_sync_may_fail_and_be_retried(rig: Rig) -> None:
    rig.mode.faults = [KernelFault("table is busy"), KernelFault("still busy")]
    assert rig.list_all() == Outcome(fault="table is busy")
    assert rig.sync.run([], retry=True) == Outcome(fault="still busy")
    served = [rig.sync.is_served]
    assert rig.sync.run([], retry=True) == Outcome()
    assert [*served, rig.sync.is_served] == [False, True]
    assert rig.mode.table.keys() == BOTH


def test_a_machine_that_cannot_do_it_ends_the_program_at_the_start_only(rig: Rig) -> None:
    rig.mode.faults = [EnvironmentFault("no nf_tables")]
    with pytest.raises(EnvironmentFault):
        rig.list_all()
    rig.sync.run([])
    assert rig.mode.table.keys() == BOTH
    rig.mode.faults = [EnvironmentFault("no nf_tables")]
    assert rig.say(SHOP.replace("eu-1a", "eu-1b")) == Outcome(fault="no nf_tables")
    assert rig.sync.run([], retry=True) == Outcome()


def test_time_does_nothing_while_it_is_not_known_what_the_kernel_holds(rig: Rig) -> None:
    assert rig.sync.tend() is None
    rig.list_all()
    rig.calls()
    rig.mode.tending = [5.0, 7.0]
    assert rig.sync.tend() == 5
    rig.mode.faults = [KernelFault("table is busy")]
    rig.say(SHOP.replace("10.244.1.2", "10.244.1.9"))
    assert rig.sync.tend() is None
    rig.sync.run([], retry=True)
    assert rig.sync.tend() == 7
    assert rig.calls() == [
        "tend",
        "apply shop/pay",
        "start",
        "replace shop/cart shop/pay",
        "tend",
    ]


def test_a_refused_service_costs_no_other_and_is_tried_again(rig: Rig) -> None:
    rig.mode.refuses = {PAY: "too many endpoints"}
    assert rig.list_all() == Outcome(refused={PAY: "too many endpoints"})
    assert rig.mode.table.keys() == {CART}
    rig.calls()
    # Another Service's change does not try it: that would cost a look at the whole kernel.
    rig.say(SHOP.replace("10.244.1.3", "10.244.1.9"))
    assert rig.calls() == ["apply shop/cart"]
    rig.mode.refuses = {}
    assert rig.sync.run([], retry=True) == Outcome()
    assert rig.calls() == ["apply shop/pay"]
    assert rig.sync.run([], retry=True) is None


def test_a_refused_service_that_goes_is_forgotten(rig: Rig) -> None:
    rig.mode.refuses = {PAY: "too many endpoints"}
    rig.list_all()
    assert rig.sync.run([Delete(Kind.SERVICE, PAY)]) == Outcome()
    assert rig.sync.run([], retry=True) is None


def test_who_counts_is_told_of_each_attempt(rig: Rig) -> None:
    rig.mode.refuses = {PAY: "too many endpoints"}
    rig.list_all()
    [(seconds, report)] = rig.observed()
    assert seconds == pytest.approx(0.001)
    assert report == ApplyReport(added=1, failed={PAY: "too many endpoints"})
    assert rig.sync.run([]) is None
    assert rig.observed() == []
    rig.mode.faults = [KernelFault("table is busy")]
    rig.say(SHOP.replace("10.244.1.3", "10.244.1.9"))
    assert rig.observed() == [FAILED]
    rig.mode.waits = 0.5
    rig.sync.run([], retry=True)
    [(_, report)] = rig.observed()
    assert report == ApplyReport(added=1, waited_seconds=0.5, failed=rig.mode.refuses)


class TestLog:
    """What an operator reads of it."""

    @pytest.fixture
    def lines(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.INFO - 2, logger="headgate")
        caplog.handler.setFormatter(KlogFormatter())
        return caplog

    @staticmethod
    def said(caplog: pytest.LogCaptureFixture) -> list[str]:
        found = [line[0] + line.split("] ", 1)[1] for line in caplog.text.splitlines()]
        caplog.clear()
        return found

    def test_one_line_a_sync(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.list_all()
        self.said(lines)
        rig.say(SHOP.replace("10.244.1.2", "10.244.1.9"))
        assert self.said(lines) == [
            'I"Synced" mode=memory services=2 changed=1 elements=+1-0 took=1.0ms'
        ]

    def test_a_wait_for_the_lock(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.list_all()
        self.said(lines)
        rig.mode.waits = 9.8765
        rig.say(SHOP.replace("10.244.1.2", "10.244.1.9"))
        assert self.said(lines) == [
            'I"Synced" mode=memory services=2 changed=1 elements=+1-0 took=1.0ms lock_wait=9876ms'
        ]

    def test_a_problem_names_object_field_value_and_reason(
        self, rig: Rig, lines: pytest.LogCaptureFixture
    ) -> None:
        messages: list[Message] = [
            Problem("Service shop/x", "spec.ports[0].port", "70000", "must be 1-65535"),
            Problem("a.yaml:3", "", "", "duplicate key kind"),
        ]
        rig.sync.run(messages)
        assert self.said(lines) == [
            'W"Skipped" object="Service shop/x" field=spec.ports[0].port value=70000 reason="must be 1-65535"',
            'W"Skipped" object=a.yaml:3 reason="duplicate key kind"',
        ]

    def test_problems_are_counted(self, rig: Rig) -> None:
        rig.sync.run([Problem("a.yaml:3", "", "", "duplicate key kind")])
        assert rig.list_all() == Outcome(problems=1)

    def test_who_loses_an_address_is_told(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.list_all(together(service("pay"), service("cart")))
        [line] = [line for line in self.said(lines) if "Skipped" in line]
        assert line.startswith('W"Skipped" object="Service shop/pay" field=spec.clusterIPs')

    def test_each_reason_of_a_refusal_is_told_once(
        self, rig: Rig, lines: pytest.LogCaptureFixture
    ) -> None:
        def told() -> list[str]:
            return [line for line in self.said(lines) if line.startswith("W")]

        rig.mode.refuses = {PAY: "too many endpoints"}
        rig.list_all()
        assert told() == ['W"Not programmed" service=shop/pay reason="too many endpoints"']
        rig.sync.run([], retry=True)
        assert told() == []
        rig.mode.refuses = {PAY: "no memory"}
        rig.sync.run([], retry=True)
        assert told() == ['W"Not programmed" service=shop/pay reason="no memory"']

    def test_a_refusal_of_the_whole(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.mode.faults = [KernelFault("table is busy")]
        rig.list_all()
        assert self.said(lines)[-1] == 'E"Sync failed" mode=memory reason="table is busy"'

    def test_a_node_that_is_not_there(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.list_all(SHOP.replace("name: node-a", "name: node-b"))
        assert self.said(lines)[0] == (
            'W"Node not found" node=node-a reason="no such Node: its zone, podCIDRs and InternalIP are not known"'
        )
        rig.list_all()
        assert not [line for line in self.said(lines) if line.startswith("W")]

    def test_what_start_found(self, rig: Rig, lines: pytest.LogCaptureFixture) -> None:
        rig.list_all()
        assert self.said(lines)[0] == (
            'I"Making the rules anew" mode=memory elements=0 reason="as it was"'
        )
        rig.say(SHOP.replace("eu-1a", "eu-1b"))
        assert self.said(lines)[0] == (
            'I"Compared the rules with the kernel\'s" mode=memory elements=2 reason="as it was"'
        )

    def test_what_the_machine_does_not_allow(
        self, rig: Rig, lines: pytest.LogCaptureFixture
    ) -> None:
        rig.mode.warnings = ("NodePorts on localhost need a sysctl: Read-only file system",)
        assert rig.list_all() == Outcome()
        assert self.said(lines)[1] == (
            'W"Degraded" mode=memory reason="NodePorts on localhost need a sysctl: Read-only file system"'
        )

    def test_a_configuration_that_cannot_be_meant(
        self, rig: Rig, lines: pytest.LogCaptureFixture
    ) -> None:
        settings = NodeSettings("node-a", node_port_addresses=("198.18.0.0/15",))
        state = ClusterState(settings, frozenset({"192.168.0.11", "127.0.0.1"}))
        rig.sync = Sync(state, rig.mode, Kind, lambda: 0.0)
        rig.list_all()
        assert self.said(lines)[:2] == [
            'W"Check the configuration" flag=--cluster-cidr reason="no address is known for a pod\'s: nothing to a cluster IP is masqueraded, and policy Local serves pods like clients outside (detectLocalMode ClusterCIDR)"',
            'W"Check the configuration" flag=--nodeport-addresses reason="NodePorts answer on no IPv4 address of this node"',
        ]
        rig.say(SHOP.replace("eu-1a", "eu-1b"))
        assert not [line for line in self.said(lines) if line.startswith("W")]


def test_a_replace_of_another_kind_does_not_count_as_a_list() -> None:
    rig = Rig()
    empty: tuple[()] = ()
    assert rig.sync.run([Replace(Kind.SERVICE, empty)] * 3) is None
    assert (
        rig.sync.run([Replace(Kind.NODE, empty), Replace(Kind.ENDPOINT_SLICE, empty)]) is not None
    )
