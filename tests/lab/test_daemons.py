"""Does the lab know what a node's headgate has done, and does headgate end with the lab?"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.lab import objects
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port
from tests.lab.probes import Outcome
from tests.lab.topology import NODES

VIPS = ("10.96.0.80", "fd00:10:96::80")
WEB = "shop/web"
PORTS = (Port(80, "http"),)

WORKER = """
import signal
from tests.lab import sandbox
sandbox.enter_private()
from tests.lab.lab import Lab
lab = Lab()
daemon = lab.start_headgate("node-a")
lab.wait_synced()
print(daemon.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def running(lab: Lab) -> Iterator[Lab]:
    """A lab with a headgate on each node and a Service without endpoints."""
    web = objects.service(WEB, VIPS, PORTS)
    lab.apply(*objects.nodes(), web)
    lab.start_headgates()
    yield lab
    for node in NODES:
        lab.stop_headgate(node.name)
    lab.delete(web, *objects.nodes())
    for node in NODES:
        lab.exec(node.name, ["nft", "flush", "ruleset"])


def test_after_wait_synced_every_node_does_what_was_applied(running: Lab) -> None:
    """Each time at once, in both families: a wait that returned early would be seen here."""
    slices = objects.slices(WEB, PORTS, [])
    for number in range(30):
        pod = [*running.pods.values()][number % 6]
        slices = objects.slices(WEB, PORTS, [Endpoint.of(pod)])
        running.apply(*slices)
        running.wait_synced()
        for source in ("pod-a1", "pod-b1", "node-c"):
            for vip in VIPS:
                assert running.connect(source, vip, 80).by == pod.name
    running.delete(*slices)
    running.wait_synced()
    assert running.connect("pod-a1", VIPS[0], 80).kind is Outcome.REFUSED


def test_each_saved_file_is_one_line(running: Lab) -> None:
    daemon = running.headgate("node-a")
    before = len(daemon.lines)
    slices = objects.slices(WEB, PORTS, map(Endpoint.of, running.pods.values()))
    running.apply(*slices)
    line = daemon.wait_for(lambda line: line.is_synced, before)
    # Two Services: this one, and the one by which wait_synced knows.
    assert "mode=nftables services=2 changed=1 " in line.text
    running.delete(*slices)
    daemon.wait_for(lambda line: line.is_synced, before + 1)
    assert [line.is_synced for line in daemon.lines[before:]] == [True, True]


def test_a_line_that_never_comes_is_told_with_the_log(running: Lab) -> None:
    with pytest.raises(TimeoutError, match=r'node-b did not say .*\n.*"Starting" version='):
        running.headgate("node-b").wait_for(lambda line: "no such" in line.text, timeout=0.1)


def test_rules_stay_when_headgate_is_told_to_end(lab: Lab) -> None:
    web = objects.service(WEB, VIPS, PORTS)
    slices = objects.slices(WEB, PORTS, [Endpoint.of(lab.pods["pod-b2"])])
    lab.apply(*objects.nodes(), web, *slices)
    lab.start_headgate("node-a")
    lab.wait_synced("node-a")
    assert lab.stop_headgate("node-a") == 0
    assert lab.connect("pod-a1", VIPS[0], 80).by == "pod-b2"
    lab.delete(web, *slices, *objects.nodes())


def test_waiting_for_a_headgate_that_ended_fails_at_once(lab: Lab) -> None:
    daemon = lab.start_headgate("node-c")
    lab.wait_synced("node-c")
    os.kill(daemon.pid, signal.SIGKILL)
    lab.exec("node-c", ["nft", "flush", "ruleset"])
    with pytest.raises(TimeoutError, match="headgate on node-c ended"):
        lab.wait_synced("node-c")
    assert lab.stop_headgate("node-c") == -signal.SIGKILL


def test_headgate_ends_when_the_process_of_the_lab_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        headgate = os.pidfd_open(int(worker.stdout.readline()))
        worker.kill()
        assert select.select([headgate], [], [], 20)[0]
        os.close(headgate)
