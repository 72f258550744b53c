"""Does the demo say ok only where it is ok?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import story
from tests.lab.demo import Demo, other_program
from tests.lab.lab import Lab
from tests.lab.modes import offered
from tests.lab.story import Found

STEPS = [
    story.node_port,
    story.local_policy,
    story.hairpin,
    story.affinity,
    story.no_endpoints,
]


def run_demo(text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.lab.demo"],
        env={**os.environ, "MODE": "", "HOLD": "", **environment},
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("mode", ["", "iptables-nft", "iptables-legacy"])
def test_every_step_is_ok_and_no_connection_fails(mode: str) -> None:
    done = run_demo(MODE=mode)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert done.stdout.count(" ok   ") == 2 * len(STEPS) + 1
    bars = re.findall(r"^  pod-[abc]1 .* #+ +(\d+\.\d)%$", done.stdout, re.MULTILINE)
    assert len(bars) == 6
    assert sum(map(float, bars)) == pytest.approx(200, abs=0.5)
    last = r" ok   ([\d,]+) connections, 0 failed, 24 endpoint changes, each in .* [\d.]+ ms \(med"
    found = re.search(last, done.stdout)
    assert found is not None
    assert int(found[1].replace(",", "")) > 1000


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_hold_leaves_a_shell_on_a_node(mode: str) -> None:
    ask = "head -1 < /dev/tcp/10.96.7.7/80; ip netns exec client ip -br address show eth0; exit 3\n"
    done = run_demo(ask, HOLD="1", MODE=mode)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pod-[abc]6 ", done.stdout, re.MULTILINE)
    assert "203.0.113.7/24" in done.stdout


@pytest.mark.parametrize("mode", ["nftables", "iptables", *offered()])
def test_the_other_program_lists_the_services_of_the_mode(lab: Lab, mode: str) -> None:
    story.furnish(lab)
    lab.start_headgate("node-a", mode=mode)
    try:
        lab.wait_synced()
        assert "shop/pay:http" in lab.exec("node-a", other_program(mode).split())
    finally:
        lab.stop_headgate("node-a")
        lab.exec("node-a", [str(Path(sys.executable).with_name("headgate")), "cleanup"])


def test_a_headgate_that_does_not_start_is_told_with_its_own_words() -> None:
    done = run_demo(MODE="no-such-mode")
    assert done.returncode == 1
    assert "no-such-mode" in done.stderr.split("its log ends:")[1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("family", [0, 1])
def test_no_step_is_ok_without_headgate(
    lab: Lab, family: int, step: Callable[[Lab, int], Found]
) -> None:
    assert not step(lab, family).ok


def test_one_step_that_is_not_ok_makes_the_demo_fail(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Demo(lab)
    demo.show_spread(0)
    assert not demo.ok
    demo.show("the next step", Found(ok=True, text="fine"))
    assert not demo.ok
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "spread                               FAILED   600 failed",
        "the next step                        ok   fine",
    ]


def test_a_lopsided_spread_is_not_ok(lab: Lab) -> None:
    pods = [*lab.pods.values()][:3]
    assert story.Spread(dict(zip(pods, (190, 210, 200), strict=True)), 0).ok
    assert not story.Spread(dict(zip(pods, (300, 150, 150), strict=True)), 0).ok
    assert not story.Spread(dict(zip(pods, (199, 200, 200), strict=True)), 1).ok
