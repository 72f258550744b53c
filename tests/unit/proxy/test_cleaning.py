"""Are flows forgotten a moment after the change, by a thread that keeps nobody waiting?"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Collection, Iterator, Mapping

import pytest

from conntrack.tracker import Cleaned
from endpoints.names import Family, ObjectName
from endpoints.node import NodeView
from modes.base import Delta, EnvironmentFault, KernelFault, Plans
from proxy import cleaning
from proxy.cleaning import Cleaning
from proxy.observer import Observer
from proxy.sources.base import Died, Message
from tests.unit.endpoints.build import NODE_A

PATIENCE_SECONDS = 30
NEWS: Delta[ObjectName, Plans] = Delta({})


class Flows:
    """Knows whether anything is doubtful, and remembers who asked."""

    def __init__(self) -> None:
        self.doubtful = True
        self.faults: list[Exception] = []
        self.told: list[str] = []
        self.forgotten: queue.SimpleQueue[str] = queue.SimpleQueue()

    def replaced(
        self,
        services: Mapping[ObjectName, Plans],  # noqa: ARG002 (as of Flows)
        node: NodeView,  # noqa: ARG002
        refused: Collection[ObjectName],  # noqa: ARG002
        *,
        doubtful: bool = False,
    ) -> bool:
        self.told.append(f"replaced, doubtful: {doubtful}")
        return self.doubtful

    def applied(
        self,
        delta: Delta[ObjectName, Plans],  # noqa: ARG002
        node: NodeView,  # noqa: ARG002
        refused: Collection[ObjectName],  # noqa: ARG002
    ) -> bool:
        self.told.append("applied")
        return self.doubtful

    def forget(self) -> Cleaned:
        self.forgotten.put(threading.current_thread().name)
        if self.faults:
            raise self.faults.pop(0)
        return Cleaned({Family.IPV4: 2, Family.IPV6: 0}, {Family.IPV4: 0.1, Family.IPV6: 0.1})


class Counting(Observer):
    """Remembers what was deleted."""

    def __init__(self) -> None:
        self.deleted: queue.SimpleQueue[Mapping[Family, int]] = queue.SimpleQueue()

    def cleaned(self, deleted: Mapping[Family, int], seconds: Mapping[Family, float]) -> None:
        assert deleted.keys() == seconds.keys()
        self.deleted.put(deleted)


class Rig:
    """A thread that forgets, over flows that are made up."""

    def __init__(self) -> None:
        self.flows, self.counting = Flows(), Counting()
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.cleaning = Cleaning(self.flows, self.counting)
        self.cleaning.start(self.messages)

    def asked(self) -> int:
        """How often it was asked to forget so far."""
        return self.flows.forgotten.qsize()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(cleaning, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(cleaning, "RETRY_SECONDS", 0.0)
    built = Rig()
    yield built
    built.cleaning.stop()


def test_a_thread_of_its_own_forgets_and_tells(rig: Rig) -> None:
    rig.cleaning.applied(NEWS, NODE_A, ())
    assert rig.flows.forgotten.get(timeout=PATIENCE_SECONDS) == "conntrack"
    assert rig.counting.deleted.get(timeout=PATIENCE_SECONDS)[Family.IPV4] == 2
    assert rig.flows.told == ["applied"]


def test_a_change_that_makes_no_flow_doubtful_wakes_nobody(rig: Rig) -> None:
    rig.flows.doubtful = False
    rig.cleaning.replaced({}, NODE_A, (), doubtful=True)
    rig.cleaning.applied(NEWS, NODE_A, ())
    assert not rig.cleaning._wanted.is_set()
    assert rig.flows.told == ["replaced, doubtful: True", "applied"]


def test_changes_of_one_moment_are_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "GRACE_SECONDS", float(PATIENCE_SECONDS))
    rig = Rig()
    for _ in range(100):
        rig.cleaning.applied(NEWS, NODE_A, ())
    rig.cleaning.stop()
    assert rig.asked() == 1


def test_what_is_doubtful_at_the_end_is_forgotten_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cleaning, "GRACE_SECONDS", float(PATIENCE_SECONDS))
    rig = Rig()
    rig.cleaning.replaced({}, NODE_A, (), doubtful=True)
    rig.cleaning.stop()
    assert rig.counting.deleted.get_nowait()[Family.IPV4] == 2


def test_a_fault_is_told_once_and_tried_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.flows.faults = [KernelFault("busy"), KernelFault("busy")]
    rig.cleaning.applied(NEWS, NODE_A, ())
    assert rig.counting.deleted.get(timeout=PATIENCE_SECONDS)
    assert rig.asked() == 3
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1


def test_a_machine_that_cannot_is_not_asked_again(rig: Rig) -> None:
    rig.flows.faults = [EnvironmentFault("no conntrack")]
    rig.cleaning.applied(NEWS, NODE_A, ())
    assert rig.flows.forgotten.get(timeout=PATIENCE_SECONDS)
    rig.cleaning.applied(NEWS, NODE_A, ())
    assert rig.counting.deleted.get(timeout=PATIENCE_SECONDS)
    assert rig.asked() == 1  # the one that succeeded


def test_a_thread_that_dies_is_told(rig: Rig) -> None:
    rig.flows.faults = [RuntimeError("on purpose")]
    rig.cleaning.applied(NEWS, NODE_A, ())
    message = rig.messages.get(timeout=PATIENCE_SECONDS)
    assert isinstance(message, Died)
    assert message.thread == "conntrack"
