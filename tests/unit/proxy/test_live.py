"""Is a changed configuration applied, refused, or a reason to end? Over a mode in memory."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator

import msgspec
import pytest

from conntrack.settings import ConntrackSettings
from endpoints.node import NodeSettings
from endpoints.objects import Kind
from endpoints.state import ClusterState
from proxy import live
from proxy.config import Config, NodePorts, on_mode
from proxy.live import Live
from proxy.log import KlogFormatter
from proxy.schedule import Schedule
from proxy.sources.base import ConfigChanged, Message, Together
from proxy.sources.files import Files, contents
from proxy.sync import Sync
from tests.unit.proxy.build import MemoryMode, endpoints, node, service, together

BEFORE = Config("nftables", NodeSettings("node-a", cluster_cidrs=("10.244.0.0/16",)))


def changed(**fields: object) -> Config:
    return msgspec.structs.replace(BEFORE, **fields)


def of_node(**fields: object) -> Config:
    return changed(node=msgspec.structs.replace(BEFORE.node, **fields))


class Rig:
    """A run that has programmed a Service."""

    def __init__(self) -> None:
        self.mode = MemoryMode()
        settings = on_mode(BEFORE.node, BEFORE.node_ports, "nftables")
        state = ClusterState(settings, frozenset({"192.168.0.11"}))
        self.sync = Sync(state, self.mode, Kind, lambda: 0.0)
        files = Files()
        files.put("a", contents(together(service(), endpoints("10.244.1.2"), node()).encode(), "a"))
        self.sync.run([Together(files.replacements())])
        self.mode.calls.clear()
        messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.schedule = Schedule(messages, lambda: 0.0)
        self.told: list[tuple[str, Config]] = []
        self.live = Live(
            BEFORE,
            "nftables",
            self.sync,
            self.schedule,
            lambda result, config: self.told.append((result, config)),
        )

    def take(self, config: Config | None, error: str = "") -> bool:
        return self.live.take(ConfigChanged(config, error))


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Iterator[Rig]:
    root, ours = logging.getLogger(), logging.getLogger("headgate")
    before = root.handlers, root.level, ours.level
    caplog.handler.setFormatter(KlogFormatter())
    yield Rig()
    root.handlers, level, of_ours = before
    root.setLevel(level)
    ours.setLevel(of_ours)


def test_what_packets_meet_is_for_the_next_sync(rig: Rig) -> None:
    new = of_node(cluster_cidrs=("10.245.0.0/16",))
    assert not rig.take(new)
    assert rig.mode.calls == []
    rig.sync.run([])
    assert rig.mode.calls == ["start", "replace shop/pay"]
    assert rig.mode.node is not None
    assert rig.mode.node.local_traffic.cidrs == ("10.245.0.0/16",)
    assert rig.told == [("applied", new)]
    assert rig.live.config == new


def test_what_packets_do_not_meet_costs_no_sync(rig: Rig) -> None:
    assert not rig.take(changed(verbosity=4, min_sync_seconds=5.0))
    rig.sync.run([])
    assert rig.mode.calls == []
    assert logging.getLogger("headgate").level == logging.INFO - 4
    assert rig.schedule._pace.seconds == 5


def test_node_ports_are_those_of_the_mode(rig: Rig) -> None:
    assert not rig.take(changed(node_ports=NodePorts(("192.168.0.0/24",))))
    rig.sync.run([])
    assert rig.mode.node is not None
    assert rig.mode.node.node_ports_v4.addresses == ("192.168.0.11",)


def test_sysctls_are_set_when_they_change(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ConntrackSettings] = []
    monkeypatch.setattr(live, "set_sysctls", asked.append)
    assert not rig.take(changed(verbosity=1))
    assert asked == []
    wanted = ConntrackSettings(min=7)
    assert not rig.take(changed(conntrack=wanted))
    assert asked == [wanted]


def test_a_broken_file_changes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert not rig.take(None, "config.conf: clusterCIDR: x: is no CIDR")
    rig.sync.run([])
    assert rig.mode.calls == []
    assert rig.live.config == BEFORE
    assert rig.told == [("refused", BEFORE)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert 'reason="config.conf: clusterCIDR: x: is no CIDR"' in caplog.text


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (changed(mode="iptables"), "mode"),
        (of_node(name="node-b"), "hostnameOverride"),
        (changed(kubeconfig="/other"), "clientConnection.kubeconfig"),
        (changed(health=None, verbosity=3), "healthzBindAddress"),
    ],
)
def test_what_needs_a_new_process_ends_this_one(
    rig: Rig, caplog: pytest.LogCaptureFixture, new: Config, field: str
) -> None:
    assert rig.take(new)
    assert f"fields={field}" in caplog.text
    assert rig.told == [("restart", BEFORE)]
    assert rig.live.config == BEFORE


def test_new_warnings_are_told_and_old_ones_not_again(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not rig.take(changed(warnings=("portRange: 1-2: ignored",), notes=("no gates",)))
    again = ("portRange: 1-2: ignored", "new")
    assert not rig.take(changed(warnings=again, notes=("no gates",)))
    said = capsys.readouterr().err
    assert said.count("portRange") == 1
    assert said.count('"Configuration" note="no gates"') == 1
    assert "reason=new" in said
