"""Is drift repaired at once, named, and not fought over without end? Over a mode in memory."""

from __future__ import annotations

import logging
import threading

import pytest

from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from modes.base import Drift, Foreign, Glance, KernelFault
from proxy.drift import (
    COMPARE_REST,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PEACE,
    Fights,
    Listening,
)
from proxy.log import KlogFormatter
from proxy.observer import Observer, Repair
from proxy.sources.base import Died, ForeignChange, Message, Together
from proxy.sources.files import Files, contents
from proxy.sync import Sync
from tests.unit.proxy.build import MemoryMode, endpoints, node, service, together

FLUSHED = Foreign("table ip headgate deleted", "nft", 3122)
SOMEBODY = Foreign("nat changed")
LOST = Drift(missing=("table ip headgate: is not there", "a", "b", "c"), extra=("x",))


class Told(Observer):
    """Remembers what is said of drift."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def drifted(self, foreign: Foreign) -> None:
        self.said.append(f"drifted: {foreign.author}")

    def settled(self) -> None:
        self.said.append("settled")

    def repaired(self, repair: Repair) -> None:
        self.said.append(f"repaired: {repair.cause.what}, {repair.seconds:.0f} s")

    def fought(self, foreign: Foreign, pause_seconds: float) -> None:
        self.said.append(f"fought: {foreign.author}, {pause_seconds:.0f} s")


class Rig:
    """A Sync that has programmed a Service, and a clock that stands still."""

    def __init__(self) -> None:
        self.mode = MemoryMode()
        self.now = 1000.0
        self.told = Told()
        state = ClusterState(NodeSettings("node-a"), frozenset({"192.168.0.11"}))
        self.sync = Sync(state, self.mode, Kind, lambda: self.now, self.told)
        self.files = Files()
        self.files.put(
            "a", contents(together(service(), endpoints("10.244.1.2"), node()).encode(), "a")
        )
        self.sync.run([Together(self.files.replacements())])
        self.calls()

    def calls(self) -> list[str]:
        calls, self.mode.calls = self.mode.calls, []
        return calls

    def said(self) -> list[str]:
        said, self.told.said = self.told.said, []
        return said

    def hear(self, *foreign: Foreign) -> None:
        self.sync.run([ForeignChange(foreign)])

    def lose(self, lost: Drift = LOST) -> None:
        """The kernel loses rules, and nobody has noticed yet."""
        self.mode.drift = lost
        replace = self.mode.replace

        def repairing(services: object) -> object:
            report = replace(services)  # type: ignore[arg-type]
            self.mode.drift = Drift()
            self.mode.replace = replace  # type: ignore[method-assign]
            return report

        self.mode.replace = repairing  # type: ignore[method-assign,assignment]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.handler.setFormatter(KlogFormatter())
    caplog.set_level(1, "headgate")
    return caplog


def test_drift_is_repaired_at_once_and_named(rig: Rig, lines: pytest.LogCaptureFixture) -> None:
    rig.lose()
    rig.hear(SOMEBODY, FLUSHED)
    assert rig.calls() == ["verify", "start", "replace shop/pay"]
    assert rig.said() == ["drifted: nft", "settled", "repaired: table ip headgate deleted, 0 s"]
    (line,) = [line for line in lines.text.splitlines() if "Drift repaired" in line]
    assert line.startswith("W")
    assert (
        'mode=memory author=nft pid=3122 what="table ip headgate deleted"'
        ' lost="table ip headgate: is not there; a; b; and 1 more" extra=x took=0ms'
    ) in line
    assert rig.sync.suspicion_in() is None


def test_a_long_story_is_cut_short_in_the_log(rig: Rig, lines: pytest.LogCaptureFixture) -> None:
    rig.lose()
    rig.hear(Foreign("x" * 10_000, "nft", 3122))
    (line,) = [line for line in lines.text.splitlines() if "Drift repaired" in line]
    assert len(line) < 1000


def test_what_others_do_to_their_own_rules_costs_one_look(
    rig: Rig, lines: pytest.LogCaptureFixture
) -> None:
    rig.hear(FLUSHED)
    assert rig.calls() == ["verify"]
    assert rig.said() == ["settled"]
    assert not [r for r in lines.records if r.levelno >= logging.WARNING]


def test_a_kernel_that_cannot_be_read_counts_as_changed(rig: Rig) -> None:
    def verify(**_: bool) -> Drift:
        raise KernelFault("nothing is said")

    rig.mode.verify = verify  # type: ignore[method-assign]
    rig.hear(FLUSHED)
    assert rig.calls() == ["start", "replace shop/pay"]


def test_a_repair_that_fails_is_told_when_a_later_one_succeeds(rig: Rig) -> None:
    rig.lose()
    rig.mode.faults = [KernelFault("busy")]
    rig.hear(FLUSHED)
    assert rig.said() == ["drifted: nft"]
    rig.now += 3
    rig.sync.run([])
    assert rig.said() == []
    rig.sync.run([], retry=True)
    assert rig.said() == ["settled", "repaired: table ip headgate deleted, 3 s"]


def test_news_of_the_cluster_is_no_drift(rig: Rig, lines: pytest.LogCaptureFixture) -> None:
    rig.files.put("a", contents(together(service(), endpoints("10.244.1.3"), node()).encode(), "a"))
    rig.sync.run([Together(rig.files.replacements()), ForeignChange((SOMEBODY,))])
    assert rig.calls() == ["verify", "apply shop/pay"]
    assert "Drift repaired" not in lines.text


def test_a_glance_raises_a_suspicion(rig: Rig) -> None:
    rig.mode.glances = [Glance((SOMEBODY,), 0.5)]
    assert rig.sync.glance() == 0.5
    assert rig.sync.suspicion_in() == 0
    rig.lose()
    rig.sync.run([])
    assert rig.said()[-1] == "repaired: nat changed, 0 s"


def test_comparing_finds_what_nobody_told(rig: Rig) -> None:
    assert rig.sync.compare() == 0
    assert rig.sync.suspicion_in() is None
    rig.lose()
    rig.sync.compare()
    rig.sync.run([])
    assert rig.said()[-1] == "repaired: found by comparing everything, 0 s"


def test_comparing_rests_for_as_long_as_it_was_dear(rig: Rig) -> None:
    def verify(**_: bool) -> Drift:
        rig.now += 0.5
        return Drift()

    rig.mode.verify = verify  # type: ignore[method-assign]
    assert rig.sync.compare() == COMPARE_REST * 0.5


def test_others_that_are_busy_do_not_make_us_busy(rig: Rig) -> None:
    def verify(**_: bool) -> Drift:
        rig.mode.calls.append("verify")
        rig.now += 0.5
        return Drift()

    rig.mode.verify = verify  # type: ignore[method-assign]
    for _ in range(100):
        rig.hear(SOMEBODY)
    assert rig.calls() == ["verify"]
    assert rig.sync.suspicion_in() == 5
    rig.now += 5
    rig.sync.run([])
    assert rig.calls() == ["verify"]


def test_a_fight_is_backed_off_from_and_told(rig: Rig, lines: pytest.LogCaptureFixture) -> None:
    for _ in range(PEACE):
        rig.lose()
        rig.hear(FLUSHED)
    assert "fights" not in lines.text
    rig.said()
    rig.calls()
    rig.lose()
    rig.hear(FLUSHED)
    assert rig.said()[-1] == "fought: nft, 1 s"
    assert "E" in lines.text
    assert '"Another program fights over the rules: find it and stop it"' in lines.text
    rig.calls()
    rig.lose()
    rig.hear(FLUSHED)
    assert rig.calls() == []
    assert rig.said() == ["drifted: nft"]
    assert rig.sync.suspicion_in() == FIRST_PAUSE_SECONDS
    rig.now += FIRST_PAUSE_SECONDS
    rig.sync.run([])
    assert rig.calls() == ["verify", "start", "replace shop/pay"]
    assert rig.said()[-1] == "fought: nft, 2 s"


def test_nothing_is_suspected_before_the_first_sync() -> None:
    mode, told = MemoryMode(), Told()
    state = ClusterState(NodeSettings("node-a"))
    sync = Sync(state, mode, Kind, lambda: 0.0, told)
    sync.run([ForeignChange((FLUSHED,))])
    assert (sync.glance(), sync.compare(), sync.suspicion_in()) == (None, 0.0, None)
    assert mode.calls == []


class TestFights:
    """The pauses alone."""

    def test_they_grow_up_to_a_limit_and_end_with_the_fight(self) -> None:
        fights = Fights()
        now, pauses = 0.0, []
        for _ in range(PEACE + 8):
            pauses.append(fights.repaired(now))
            now += pauses[-1]
        assert pauses == [0] * PEACE + [1, 2, 4, 8, 16, 30, 30, 30]
        assert pauses[-1] == LONGEST_PAUSE_SECONDS
        assert fights.repaired(now + 3600) == 0

    def test_five_reloads_of_a_firewall_in_an_hour_are_no_fight(self) -> None:
        fights = Fights()
        assert [fights.repaired(720.0 * n) for n in range(50)] == [0] * 50


class Watch:
    """A ForeignWatch that is told what to hear."""

    def __init__(self, *news: tuple[Foreign, ...] | Exception) -> None:
        self._news = list(news)
        self._closed = threading.Event()

    def wait(self) -> tuple[Foreign, ...]:
        if not self._news:
            self._closed.wait()
            return ()
        news = self._news.pop(0)
        if isinstance(news, Exception):
            raise news
        return news

    def close(self) -> None:
        self._closed.set()


class Queue:
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.came = threading.Event()

    def put(self, item: Message, /) -> None:
        self.messages.append(item)
        self.came.set()


def test_what_is_heard_is_queued_until_the_end() -> None:
    sink = Queue()
    listening = Listening(Watch((FLUSHED,)), sink)
    assert sink.came.wait(10)
    listening.stop()
    assert sink.messages == [ForeignChange((FLUSHED,))]


def test_a_thread_that_dies_is_told() -> None:
    sink = Queue()
    listening = Listening(Watch(OSError("gone")), sink)
    assert sink.came.wait(10)
    listening.stop()
    (message,) = sink.messages
    assert isinstance(message, Died)
