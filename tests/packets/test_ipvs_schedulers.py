"""Does the kernel choose by the scheduler that was asked for, of the node and of the Service?

Connections are held open where schedulers are told apart: most of them look at how many there are.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import namespaces
from tests.lab.lab import Lab
from tests.lab.objects import Endpoint, Port, nodes, service, slices
from tests.lab.probes import Connection, Outcome, Target
from tests.packets import ipvs
from tests.packets.ipvs import Held

NODE, SENDER = "node-a", "client"
NODE_SCHEDULER = "lc"
BACK_ENDS = ("pod-a1", "pod-b1", "pod-c1")
PORTS = [Port(80)]
OURS, KUBE_ROUTERS = "headgate.dev/ipvs-scheduler", "kube-router.io/service.scheduler"
FLAGS = "headgate.dev/ipvs-scheduler-flags"

ANNOTATIONS: dict[str, dict[str, str]] = {
    "plain": {},
    "rr": {OURS: "rr"},
    "wrr": {OURS: "wrr"},
    "wlc": {OURS: "wlc"},
    "sed": {OURS: "sed"},
    "nq": {OURS: "nq"},
    "dh": {OURS: "dh"},
    "mh": {OURS: "mh"},
    "mh-fallback": {OURS: "mh", FLAGS: "mh-fallback"},
    "sh": {OURS: "sh"},
    "sh-port": {OURS: "sh", FLAGS: "sh-port"},
    "sh-both": {OURS: "sh", FLAGS: "sh-fallback,sh-port"},
    "kube-router": {KUBE_ROUTERS: "sh"},
    "both": {KUBE_ROUTERS: "sh", OURS: "nq"},
    "unknown": {OURS: "nosuch"},
    "malformed": {OURS: "no such"},
}
"""Of each Service, by its name."""
OPTIONS = {
    "plain": "-s lc",
    "rr": "-s rr",
    "wrr": "-s wrr",
    "wlc": "-s wlc",
    "sed": "-s sed",
    "nq": "-s nq",
    "dh": "-s dh",
    "mh": "-s mh -b mh-port",
    "mh-fallback": "-s mh -b mh-fallback",
    "sh": "-s sh",
    "sh-port": "-s sh -b sh-port",
    "sh-both": "-s sh -b sh-fallback,sh-port",
    "kube-router": "-s sh",
    "both": "-s nq",
    "unknown": "-s lc",
    "malformed": "-s lc",
}
"""What ipvsadm shows of each."""
BALANCER = {
    name: (f"198.51.100.{n}", f"2001:db8:198::{n:x}") for n, name in enumerate(ANNOTATIONS, 1)
}

BOTH = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One with a Service for each scheduler, reachable from outside, where no source is translated."""
    with Lab() as built:
        built.apply(*nodes())
        endpoints = [Endpoint.of(built.pods[pod]) for pod in BACK_ENDS]
        for n, (name, annotations) in enumerate(ANNOTATIONS.items(), 1):
            vips = (f"10.96.7.{n}", f"fd00:10:96::7:{n:x}")
            built.apply(
                service(
                    f"shop/{name}", vips, PORTS, annotations=annotations, ingress=BALANCER[name]
                ),
                *slices(f"shop/{name}", PORTS, endpoints),
            )
        built.start_headgate(NODE, f"--ipvs-scheduler={NODE_SCHEDULER}", mode="ipvs")
        built.wait_synced()
        yield built


@contextlib.contextmanager
def held(lab: Lab, name: str, family: int, count: int) -> Iterator[list[Connection]]:
    """So many connections at the same time, opened one after the other."""
    with contextlib.ExitStack() as closing:
        opened = []
        for _ in range(count):
            one = lab.hold(SENDER, Target(BALANCER[name][family], 80))
            closing.callback(one.close)
            opened.append(one)
        yield opened


def who(opened: list[Connection]) -> list[str]:
    """Who answers on each."""
    return [str(one.ask().by) for one in opened]


@pytest.fixture(scope="module")
def kernel(lab: Lab) -> dict[str, Held]:
    return ipvs.servers(lab, NODE)


@BOTH
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_kernel_has_the_scheduler_and_serves(
    lab: Lab, kernel: dict[str, Held], name: str, family: int
) -> None:
    address = BALANCER[name][family]
    key = f"-t [{address}]:80" if family else f"-t {address}:80"
    assert kernel[key].options == OPTIONS[name]
    assert len(kernel[key].weights) == len(BACK_ENDS)
    answers = lab.connect_many(SENDER, address, 80, count=6)
    assert {answer.kind for answer in answers} == {Outcome.ANSWERED}


@BOTH
@pytest.mark.parametrize("name", ["rr", "wrr"])
def test_round_robin_takes_turns(lab: Lab, name: str, family: int) -> None:
    with held(lab, name, family, 12) as opened:
        order = who(opened)
    assert set(order[:3]) == set(BACK_ENDS)
    assert order == order[:3] * 4


@BOTH
@pytest.mark.parametrize("name", ["plain", "wlc", "sed", "nq"])
def test_who_has_the_fewest_connections_is_next(lab: Lab, name: str, family: int) -> None:
    """Two of them, sed and nq, estimate the delay by the connections that are active."""
    with held(lab, name, family, 9) as opened:
        before = who(opened)
        assert Counter(before) == dict.fromkeys(BACK_ENDS, 3)
        for one, pod in zip(opened, before, strict=True):
            if pod == "pod-b1":
                one.close()
        left = f"{lab.pods['pod-b1'].addresses[family]}"
        ipvs.until(lab, NODE, lambda: _active(lab, name, family)[left] == 0)
        with held(lab, name, family, 3) as later:
            assert who(later) == ["pod-b1"] * 3


def _active(lab: Lab, name: str, family: int) -> dict[str, int]:
    """Active connections, by the address of the real server."""
    address = BALANCER[name][family]
    place = f"[{address}]:80" if family else f"{address}:80"
    return {
        real.rpartition(":")[0].strip("[]"): active
        for real, (active, _) in ipvs.connections(lab, NODE, "-t", place).items()
    }


@BOTH
def test_a_source_has_its_endpoint(lab: Lab, family: int) -> None:
    """By sh: it looks at the address of the client, and with sh-port at its port, too."""
    with held(lab, "sh", family, 12) as opened:
        assert len(set(who(opened))) == 1
    with held(lab, "sh-port", family, 30) as opened:
        assert len(set(who(opened))) > 1  # that all ports fall on one: 2 in 100,000,000,000,000


@BOTH
def test_a_destination_has_its_endpoint(lab: Lab, family: int) -> None:
    with held(lab, "dh", family, 6) as opened:
        assert len(set(who(opened))) == 1


def test_the_log_names_what_is_no_scheduler(lab: Lab) -> None:
    lines = [line.text for line in lab.headgate(NODE).lines]
    for name, value in (("unknown", "nosuch"), ("malformed", "no such")):
        told = [line for line in lines if f"shop/{name}" in line and value in line]
        assert told, "\n".join(lines)
        assert all(line.startswith(("W", "E")) for line in told), told


def test_a_flag_that_is_no_scheduler_is_refused(lab: Lab) -> None:
    program = Path(sys.executable).with_name("headgate")
    command = [str(program), "run", "--mode=ipvs", "--ipvs-scheduler=nosuch", "--once"]
    with namespaces.inside(lab.network["node-b"]):
        done = subprocess.run(
            [*command, f"--manifests={lab.manifests.folder}", "--hostname-override=node-b"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "nosuch" in done.stderr
    for known in ("rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh"):
        assert known in done.stderr.replace(",", " ").split(), done.stderr
    assert not ipvs.servers(lab, "node-b")
