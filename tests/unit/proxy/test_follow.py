"""Does the main loop sync, retry, tend and end as it must? Over a mode in memory."""

from __future__ import annotations

import queue

import pytest

from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import KernelFault
from proxy.app import warn_of_localhost
from proxy.config import NodePorts
from proxy.log import KlogFormatter
from proxy.loop import Configured, chores, follow
from proxy.schedule import Schedule
from proxy.sources import files as saved
from proxy.sources.base import Between, ConfigChanged, Died, Message, Stop, Together
from proxy.sync import Sync
from tests.unit.proxy.build import BOTH, PAY, MemoryMode, endpoints, node, service, together

SHOP = together(service(), endpoints("10.244.1.2"), node())


class Loop:
    """The main loop over a mode in memory."""

    def __init__(self, *messages: Message) -> None:
        self.mode = MemoryMode()
        self.queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        state = ClusterState(NodeSettings("node-a"), frozenset({"192.168.0.11"}))
        self.now = 0.0
        self.period = 30.0
        self.sync = Sync(state, self.mode, Kind, self.clock)
        for message in messages:
            self.queue.put(message)

    def clock(self) -> float:
        """Time flies: every look at the clock is a minute later, so no retry is waited for."""
        self.now += 60
        return self.now

    def run(self, *, once: bool, configured: Configured | None = None) -> int:
        schedule = Schedule(self.queue, self.clock)
        todo = chores(self.sync, schedule, self.queue, lambda: self.period)
        return follow(schedule, self.sync, todo, configured=configured, once=once)


def listed(text: str = SHOP) -> Together:
    files = saved.Files()
    files.put("a.yaml", saved.contents(text.encode(), "a.yaml"))
    return Together(files.replacements())


def test_once_ends_after_the_first_sync() -> None:
    loop = Loop(listed(), Stop("never read"))
    loop.queue.get()
    loop.queue.put(listed())
    assert loop.queue.get() == Stop("never read")
    assert loop.run(once=True) == 0
    assert loop.mode.table.keys() == {PAY}


def test_once_with_a_refused_service_fails() -> None:
    loop = Loop(listed(together(SHOP, service("cart", "10.96.7.8"))))
    loop.mode.refuses = {PAY: "too many endpoints"}
    assert loop.run(once=True) == 1
    assert loop.mode.table.keys() == BOTH - {PAY}


def test_once_with_a_fault_fails() -> None:
    loop = Loop(listed())
    loop.mode.faults = [KernelFault("table is busy")]
    assert loop.run(once=True) == 1


def test_what_failed_is_tried_until_it_works() -> None:
    loop = Loop(listed())
    loop.mode.faults = [KernelFault("table is busy"), OSError("no buffer space")]
    stopping = loop.mode.replace

    def replace(services: object) -> object:
        report = stopping(services)  # type: ignore[arg-type]
        loop.queue.put(Stop("done"))
        return report

    loop.mode.replace = replace  # type: ignore[assignment,method-assign]
    assert loop.run(once=False) == 0
    assert loop.mode.calls == [*["start", "replace shop/pay"] * 3, "tend", "glance"]


def test_the_mode_is_called_for_as_long_as_it_wants() -> None:
    loop = Loop(listed())
    loop.mode.tending = [5.0, 0.0, 50.0]
    tend = loop.mode.tend

    def tended() -> float | None:
        if not loop.mode.tending:
            loop.queue.put(Stop("done"))
        return tend()

    loop.mode.tend = tended  # type: ignore[method-assign]
    assert loop.run(once=False) == 0
    assert loop.mode.calls == ["start", "replace shop/pay", "tend", "glance", *["tend"] * 3]


def test_once_calls_the_mode_once_before_the_end() -> None:
    loop = Loop(listed())
    loop.mode.tending = [5.0, 5.0]
    assert loop.run(once=True) == 0
    assert loop.mode.calls == ["start", "replace shop/pay", "tend", "glance"]


def test_a_stop_is_not_kept_waiting_by_news() -> None:
    loop = Loop(listed(), Stop("SIGTERM"))
    assert loop.run(once=False) == 0
    assert loop.mode.calls == []


def test_a_thread_that_died_ends_the_program(caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(Died("api", RuntimeError("on purpose")))
    assert loop.run(once=False) == 1
    assert "A thread died" in caplog.text
    assert "on purpose" in caplog.text


def test_localhost_by_name_is_not_for_the_ipvs_mode(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(KlogFormatter())
    by_name = NodePorts(("primary", "localhost"))
    for mode, said in (("ipvs", NodePorts(("all",))), ("iptables", by_name), ("nftables", by_name)):
        warn_of_localhost(mode, said)
    assert caplog.text == ""
    warn_of_localhost("ipvs", by_name)
    reason = "localhost is left out: the IPVS mode serves no loopback address"
    assert f'flag=--nodeport-addresses reason="{reason}"' in caplog.text


class Files:
    """Takes configurations, and ends the program for some."""

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends
        self.taken: list[ConfigChanged] = []

    def take(self, news: ConfigChanged) -> bool:
        self.taken.append(news)
        return self._ends


@pytest.mark.parametrize(("ends", "status"), [(True, 1), (False, 0)])
def test_a_changed_configuration_may_end_the_program(ends: bool, status: int) -> None:
    news = ConfigChanged(None, "is no YAML")
    loop, files = Loop(news, Stop("done")), Files(ends=ends)
    assert loop.run(once=False, configured=files) == status
    assert files.taken == [news]


def test_all_rules_are_compared_as_often_as_is_wanted_by_now() -> None:
    """They are read beside the loop, which comes back to them when it hears of the end."""
    loop = Loop()
    loop.clock = lambda: loop.now  # type: ignore[method-assign]
    sync = Sync(ClusterState(NodeSettings("node-a")), loop.mode, Kind, loop.clock)
    schedule = Schedule(loop.queue, loop.clock)
    todo = chores(sync, schedule, loop.queue, lambda: loop.period)
    sync.run([listed()])
    loop.mode.calls.clear()
    for period in (30.0, 5.0):
        loop.period = period
        assert todo["compare"].run() is None
        assert loop.mode.calls == ["read ahead"]
        (back,) = schedule.wait().batch
        assert isinstance(back, Between)
        back.act()
        assert loop.mode.calls == ["read ahead", "verify from ahead"]
        loop.mode.calls.clear()
        loop.now += period
        assert schedule.wait().chores == {"compare"}
