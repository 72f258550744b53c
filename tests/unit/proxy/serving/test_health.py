"""Is the node healthy when it is, and does it say why when it is not?"""

from __future__ import annotations

import msgspec
import pytest

from endpoints.node import NodeView
from endpoints.objects import Node, Taint
from modes.base import ApplyReport, Foreign
from proxy.observer import Repair, Synced
from proxy.serving.health import Health, Look
from tests.unit.endpoints.build import node
from tests.unit.proxy.build import PAY

NOON = 1_795_168_800.0
FLUSHED = Foreign("table ip headgate deleted", "nft", 4711)


class Rig:
    """A Health, and the two clocks that it reads."""

    def __init__(self, own: Node | None = None, *, needs_node: bool = True) -> None:
        self.now = 0.0
        self.health = Health(
            lambda: self.now, lambda: NOON + self.now, sync_seconds=30, needs_node=needs_node
        )
        if own:
            self.health.node(own)

    def synced(self, *, full: bool = True, report: ApplyReport | None = None) -> None:
        view = NodeView("node-a")
        self.health.synced(Synced(0.1, report or ApplyReport(), full, services=1, node=view))

    def reasons(self) -> tuple[str, str]:
        """Of /healthz and of /livez."""
        healthz, livez = self.health.healthz(), self.health.livez()
        assert healthz.ok is (healthz.body.reason == "")
        assert livez.ok is (livez.body.reason == "")
        return healthz.body.reason, livez.body.reason


@pytest.fixture
def rig() -> Rig:
    """A node that has been synced at noon."""
    made = Rig(node())
    made.synced()
    return made


FINE = ("", "")


def test_before_the_first_sync_it_is_alive_and_not_ready() -> None:
    rig = Rig(node())
    for seconds in (0, 1000):
        rig.now = seconds
        rig.health.queued(1, 1)
        assert rig.reasons() == ("the first sync is not done yet", "")
        assert not rig.health.is_healthy()
    rig.health.failed("No buffer space available")
    rig.health.busy()
    rig.now = 5000
    reason = "the first sync is not done yet: No buffer space available"
    assert rig.reasons() == (reason, "")
    rig.synced()
    rig.health.idle()
    assert rig.reasons() == FINE
    assert rig.health.is_healthy()


def test_a_change_may_wait_for_two_sync_periods(rig: Rig) -> None:
    rig.now = 100
    rig.health.queued(0, 1)
    rig.now = 159
    rig.health.queued(1, 0)  # a later change does not start the time again
    assert rig.reasons() == FINE
    rig.now = 160
    late = "the kernel has not taken a change for 60 s"
    assert rig.reasons() == (late, late)
    assert not rig.health.is_healthy()
    rig.synced(full=False)
    assert rig.reasons() == FINE
    rig.now = 1000
    assert rig.reasons() == FINE


def test_a_sync_that_failed_may_be_repeated_for_as_long(rig: Rig) -> None:
    for seconds in (10, 40, 69):
        rig.now = seconds
        rig.health.failed(f"fault {seconds}")
        assert rig.reasons() == FINE
    rig.now = 70
    late = "the kernel has not taken a change for 60 s: fault 69"
    assert rig.reasons() == (late, late)
    rig.synced()
    assert rig.reasons() == FINE
    rig.health.queued(1, 0)
    rig.now = 130
    assert rig.reasons()[0] == "the kernel has not taken a change for 60 s"


def test_the_sync_period_may_change(rig: Rig) -> None:
    rig.health.queued(1, 0)
    rig.now = 20
    assert rig.reasons() == FINE
    rig.health.set_sync_seconds(10)
    assert rig.reasons()[0] == "the kernel has not taken a change for 20 s"


def test_a_sync_that_hangs_is_noticed(rig: Rig) -> None:
    rig.now = 100
    assert rig.health.busy_seconds() == 0
    rig.health.busy()
    rig.now = 159
    assert (rig.reasons(), rig.health.busy_seconds()) == (FINE, 59)
    rig.now = 160
    assert rig.reasons() == ("a sync has not ended for 60 s",) * 2
    rig.health.idle()
    assert (rig.reasons(), rig.health.busy_seconds()) == (FINE, 0)


def test_rules_that_others_changed_may_stay_so_for_five_seconds(rig: Rig) -> None:
    rig.now = 10
    rig.health.drifted(FLUSHED)
    rig.now = 14.9
    rig.health.drifted(Foreign("something else"))
    assert rig.reasons() == FINE
    rig.now = 15
    wrong = "rules are not what they should be, for 5 s: table ip headgate deleted"
    # A restart would not help against who changes them.
    assert rig.reasons() == (wrong, "")
    assert not rig.health.is_healthy()
    rig.synced(full=False)
    assert rig.reasons() == (wrong, "")


def test_repaired(rig: Rig) -> None:
    rig.health.drifted(FLUSHED)
    rig.now = 20
    rig.health.repaired(Repair(FLUSHED, 0.1, ApplyReport()))
    assert rig.reasons() == FINE
    rig.health.drifted(FLUSHED)
    rig.now = 24
    assert rig.reasons() == FINE


def test_settled(rig: Rig) -> None:
    rig.health.drifted(FLUSHED)
    rig.now = 20
    rig.health.settled()
    assert rig.reasons() == FINE


def test_a_full_sync_mends_what_others_changed(rig: Rig) -> None:
    rig.health.drifted(FLUSHED)
    rig.now = 20
    rig.synced()
    assert rig.reasons() == FINE


def test_a_service_that_is_refused_harms_nobody_else(rig: Rig) -> None:
    rig.health.queued(1, 0)
    rig.health.refused(PAY, "too long")
    rig.synced(report=ApplyReport(failed={PAY: "too long"}))
    rig.now = 1000
    assert rig.reasons() == FINE


def tainted(*keys: str) -> Node:
    made = node()
    assert made.spec is not None
    made.spec.taints = [Taint(key=key) for key in keys]
    return made


def deleted() -> Node:
    made = node()
    made.metadata.deletion_timestamp = "2026-11-20T10:00:00Z"
    return made


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (None, "the Node is not there"),
        (deleted(), "Node node-a is being deleted"),
        (
            tainted("node.kubernetes.io/unreachable", "ToBeDeletedByClusterAutoscaler"),
            "Node node-a has the taint ToBeDeletedByClusterAutoscaler",
        ),
        (tainted("DeletionCandidateOfClusterAutoscaler"), ""),
        (Node(metadata=node().metadata), ""),
    ],
)
def test_a_node_that_leaves_is_told_to_balancers_only(
    rig: Rig, own: Node | None, reason: str
) -> None:
    rig.health.node(own)
    assert rig.reasons() == (reason, "")
    assert rig.health.healthz().body.node_eligible is not bool(reason)
    assert rig.health.healthz().body.healthy is True
    assert rig.health.is_healthy()
    rig.health.node(node())
    assert rig.reasons() == FINE


def test_without_an_api_server_there_need_not_be_a_node() -> None:
    rig = Rig(needs_node=False)
    rig.synced()
    assert rig.reasons() == FINE
    rig.health.node(deleted())
    assert rig.reasons()[0] == "Node node-a is being deleted"
    rig.health.node(None)
    assert rig.reasons() == FINE


def body(look: Look) -> str:
    return msgspec.json.encode(look.body).decode()


def test_the_bodies_are_those_of_kube_proxy(rig: Rig) -> None:
    rig.now = 0.25
    at = "2026-11-20T10:00:00.25Z"
    status = (
        '{"IPv4":{"lastUpdated":"2026-11-20T10:00:00Z","healthy":true},'
        '"IPv6":{"lastUpdated":"2026-11-20T10:00:00Z","healthy":true}}'
    )
    assert body(rig.health.healthz()) == (
        f'{{"lastUpdated":"{at}","currentTime":"{at}","nodeEligible":true,"healthy":true,"status":{status}}}'
    )
    assert body(rig.health.livez()) == (
        f'{{"lastUpdated":"{at}","currentTime":"{at}","healthy":true,"status":{status}}}'
    )


def test_the_bodies_of_a_node_that_is_unhealthy(rig: Rig) -> None:
    rig.health.queued(1, 0)
    rig.now = 60.5
    noon = "2026-11-20T10:00:00Z"
    status = (
        f'{{"IPv4":{{"lastUpdated":"{noon}","healthy":false}},'
        f'"IPv6":{{"lastUpdated":"{noon}","healthy":false}}}}'
    )
    assert body(rig.health.livez()) == (
        f'{{"lastUpdated":"{noon}","currentTime":"2026-11-20T10:01:00.5Z","healthy":false,'
        f'"status":{status},"reason":"the kernel has not taken a change for 60 s"}}'
    )


def test_the_body_before_the_first_sync() -> None:
    assert body(Rig(None).health.healthz()) == (
        '{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-11-20T10:00:00Z",'
        '"nodeEligible":false,"healthy":false,"reason":"the first sync is not done yet"}'
    )
