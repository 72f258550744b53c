"""Does every connection succeed while the configuration file changes, for the better or not?

Under traffic, while pods change and the API server cuts its watches: what can be applied to a running
headgate takes effect, what cannot ends it, and the next one serves in another mode.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import topology
from tests.lab.api import ApiServer
from tests.lab.daemons import Daemon, Line
from tests.lab.lab import Lab
from tests.lab.probes import Outcome
from tests.packets import turmoil
from tests.packets.telling import furnish
from tests.packets.turmoil import NODE, NODE_PORTS, SENDER, SERVING, VIPS, Turmoil, Verdicts

ON = topology.node_named(NODE)
ALL_PODS = ",".join(topology.CLUSTER_CIDRS)
NO_PODS = "172.16.0.0/12,fd00:172::/64"
ONE, OTHER = SERVING[-1:], SERVING[-2:-1]
"""Pods of other nodes, which see a pod's own address if that is known to be local."""


class File:
    """A KubeProxyConfiguration, moved into place as a whole."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._fields: dict[str, object] = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": mode,
            "clusterCIDR": ALL_PODS,
            "nodePortAddresses": ["primary"],
            "logging": {"verbosity": 2},
        }
        self.say()

    def say(self, **fields: object) -> None:
        """Say this, and all else as before."""
        self._fields |= fields
        self.write(json.dumps(self._fields))

    def write(self, text: str) -> None:
        """Let it hold this text."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.rename(self.path)


@pytest.fixture
def api(lab: Lab) -> ApiServer:
    served = lab.serve_api()
    furnish(lab)
    return served


def test_a_configuration_that_changes_fails_nobody(lab: Lab, api: ApiServer) -> None:
    replacing = Turmoil(lab, seed=8)
    file = File(lab.folder / "config.json", "nftables")
    daemon = lab.start_headgate(NODE, config=file.path)
    lab.wait_synced()
    with lab.load(*turmoil.flows()) as load:
        verdicts = Verdicts(load)
        replacing.settle(ONE)
        for step in (_who_is_local, _where_node_ports_answer, _how_much_is_said, _nonsense):
            step(lab, daemon, file)
            api.cut()
            assert verdicts.look(), verdicts.wrong
        with replacing.all_the_time():
            for mode in ("iptables", "nftables"):
                known = len(daemon.lines)
                file.say(mode=mode)
                ending = daemon.wait_for(_says("Ending: "), since=known).text
                assert "fields=mode" in ending
                assert lab.wait_for_end(NODE) == 1
                load.wait_for(50)  # with nobody there
                daemon = lab.start_headgate(NODE, config=file.path)
                lab.wait_synced()
                assert verdicts.look(), verdicts.wrong
        replacing.settle(OTHER)
        lab.wait_synced()
    assert verdicts.look(), verdicts.wrong
    assert verdicts.loses_few, verdicts.lost
    assert turmoil.reached(lab) == set(OTHER)
    assert lab.stop_headgate(NODE) == 0


def _who_is_local(lab: Lab, daemon: Daemon, file: File) -> None:
    """clusterCIDR: to others than local pods the address of the node is shown."""
    pod = lab.pods[SENDER].addresses
    lab.wait_synced()
    assert _seen(lab) == pod
    _applied(daemon, lambda: file.say(clusterCIDR=NO_PODS))
    assert _seen(lab) == ON.addresses
    _applied(daemon, lambda: file.say(clusterCIDR=ALL_PODS))
    assert _seen(lab) == pod


def _seen(lab: Lab) -> tuple[str | None, ...]:
    """As whom a pod of another node sees a pod that asks it by ClusterIP."""
    return tuple(lab.connect(SENDER, vip, 80).saw for vip in VIPS["web"])


def _where_node_ports_answer(lab: Lab, daemon: Daemon, file: File) -> None:
    """nodePortAddresses: on no other address than `primary` of the node, or on all."""
    assert _answers_elsewhere(lab) == {Outcome.REFUSED}
    _applied(daemon, lambda: file.say(nodePortAddresses=["0.0.0.0/0", "::/0"]))
    assert _answers_elsewhere(lab) == {Outcome.ANSWERED}
    _applied(daemon, lambda: file.say(nodePortAddresses=["primary"]))
    assert _answers_elsewhere(lab) == {Outcome.REFUSED}


def _answers_elsewhere(lab: Lab) -> set[Outcome]:
    port = NODE_PORTS["web"]
    return {lab.connect(topology.CLIENT, bridge, port).kind for bridge in ON.pod_gateways}


def _how_much_is_said(lab: Lab, daemon: Daemon, file: File) -> None:
    """logging.verbosity: syncs are told at 2."""
    known = len(daemon.lines)
    file.say(logging={"verbosity": 0})
    daemon.wait_for(_says("Configuration applied"), since=known)
    known = len(daemon.lines)
    lab.wait_synced()
    assert not any(line.is_synced for line in daemon.lines[known:])
    _applied(daemon, lambda: file.say(logging={"verbosity": 2}), syncs=False)
    known = len(daemon.lines)
    lab.wait_synced()
    assert any(line.is_synced for line in daemon.lines[known:])


def _nonsense(lab: Lab, daemon: Daemon, file: File) -> None:
    """A file that cannot be read or says what cannot be: one line each, and the old one stays."""
    for text in ("mode: [", '{"kind": "KubeProxyConfiguration", "mode": "userspace"}'):
        known = len(daemon.lines)
        file.write(text)
        error = daemon.wait_for(_says("The configuration stays as it was"), since=known)
        lab.wait_synced()
        later = [line for line in daemon.lines[known:] if line.text.startswith(("E", "W"))]
        assert [line.text for line in later] == [error.text]
    known = len(daemon.lines)
    file.say()
    daemon.wait_for(_says("The configuration is again what it was"), since=known)


def _applied(daemon: Daemon, change: Callable[[], object], *, syncs: bool = True) -> None:
    """Change the file; returns when that was applied, and synced if packets are concerned."""
    known = len(daemon.lines)
    change()
    applied = daemon.wait_for(_says("Configuration applied"), since=known)
    if syncs:
        daemon.wait_for(lambda line: line.is_synced and line.seconds > applied.seconds, since=known)


def _says(words: str) -> Callable[[Line], bool]:
    return lambda line: words in line.text
