"""Does the profile say what took the time, and the floor what the kernel needs? No time is judged."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import floor, profile
from tests.bench.cluster import Size
from tests.bench.profile import step_of, steps
from tests.bench.sampler import PROGRAMS, Place, Sampler, collapsed
from tests.lab import modes, sandbox

SMALL = Size(60, 3)
PATIENCE_SECONDS = 30.0
SYNC = Place("proxy.sync", "Sync.run")
PLANS = Place("endpoints.state", "ClusterState.plans")
PACK = Place("endpoints.addresses", "pack")
RENDER = Place("modes.nftables.elements", "render")
SEND = Place("tests.bench.instruments", "MeasuredSocket.sendall")


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing() -> Iterator[None]:
    """What was started may have changed this process: what follows gets a network without it."""
    yield
    sandbox.enter_private()


def spin(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def spin_until(sampler: Sampler, samples: int) -> None:
    """Use the processor until there are so many samples."""
    until = time.process_time() + PATIENCE_SECONDS
    while sampler.samples < samples and time.process_time() < until:
        spin(0.01)
    assert sampler.samples >= samples


def test_time_is_that_of_the_function_that_takes_it() -> None:
    began = time.process_time()
    with Sampler() as sampler:
        spin_until(sampler, 1000)
    used = time.process_time() - began
    spun = sum(
        seconds for stack, seconds in sampler.stacks.items() if stack[-1].name == spin.__name__
    )
    # Of that the samples themselves are none, and on a busy machine they are most.
    assert 0 < spun < used
    assert spun > 0.9 * sum(sampler.stacks.values())
    assert PROGRAMS not in {stack[0] for stack in sampler.stacks}


def test_an_alarm_that_nobody_heard_is_not_the_last() -> None:
    with Sampler() as sampler:
        hears = signal.signal(signal.SIGALRM, lambda *_: None)
        spin(0.01)
        signal.signal(signal.SIGALRM, hears)
        spin_until(sampler, sampler.samples + 1)


def test_programs_are_told_apart_however_short_the_look() -> None:
    with Sampler() as sampler:
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert sampler.stacks[PROGRAMS,] > 0.005


def test_no_alarm_is_left_by_one_that_is_heard_late() -> None:
    with Sampler() as sampler:
        spin_until(sampler, 1)
    taken = sampler.samples
    sampler._take(signal.SIGALRM, None)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert sampler.samples == taken


@pytest.mark.parametrize(
    ("stack", "step"),
    [
        ((), "other"),
        ((SYNC,), "sync"),
        ((SYNC, PLANS), "plan"),
        ((SYNC, PLANS, PACK), "plan"),
        ((SYNC, RENDER, PACK), "render"),
        ((SYNC, Place("modes.iptables.rendering", "render"), PACK), "render"),
        ((SYNC, Place("modes.nftables.mode", "NftablesMode.apply")), "compare"),
        ((SYNC, Place("modes.nftables.kernel", "Kernel.transact")), "transport"),
        ((SYNC, Place("modes.nftables.kernel", "Kernel.transact"), SEND), "the kernel"),
        ((PROGRAMS,), "programs"),
        ((Place("another.elements", "render"),), "other"),
    ],
)
def test_a_sample_belongs_to_the_innermost_step(stack: tuple[Place, ...], step: str) -> None:
    assert step_of(stack) == step


def test_looking_at_a_stopwatch_is_no_step() -> None:
    fold = Place("tests.bench.instruments", "MeasuredState.fold")
    leaves = Place("contextlib", "_GeneratorContextManager.__exit__")
    looks = Place("tests.bench.instruments", "Instant.now")
    assert profile.is_measuring((SYNC, fold))
    assert profile.is_measuring((SYNC, fold, leaves))
    assert profile.is_measuring((SYNC, SEND, looks, Place("namedtuple_Instant", "<lambda>")))
    assert not profile.is_measuring((SYNC, leaves))
    assert not profile.is_measuring((SYNC, fold, Place("endpoints.slices", "contribution")))
    assert not profile.is_measuring((SYNC, SEND))
    assert not profile.is_measuring(())


def test_steps_are_ordered_and_say_where() -> None:
    found = steps({(SYNC, PLANS): 1.0, (SYNC, PLANS, PACK): 3.0, (SYNC, RENDER, PACK): 12.0})
    assert [(step.name, step.seconds, step.share) for step in found] == [
        ("render", 12.0, 0.75),
        ("plan", 4.0, 0.25),
    ]
    assert found[1].where == [("addresses.pack", 0.75), ("state.ClusterState.plans", 0.25)]


def test_collapsed_stacks_are_lines_of_names_and_microseconds() -> None:
    text = collapsed("root", {(SYNC, PLANS): 0.0015, (): 0.25, (SYNC,): 4e-7})
    assert text == (
        "root 250000\nroot;proxy.sync.Sync.run;endpoints.state.ClusterState.plans 1500\n"
    )


@pytest.mark.parametrize("back_end", modes.offered())
def test_a_profile_knows_the_steps_of_each_mode(
    back_end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stacks"
    words = ["--mode", back_end, "--size", "60x3", "--changes", "10", "--stacks", str(file)]
    assert profile.main(words) == 0
    told = capsys.readouterr().out
    assert f"{back_end}, 60 x 3" in told
    for what in ("the load", *profile.CHANGES):
        assert re.search(rf"^{what} +\S* +share", told, re.MULTILINE)
    writing = "the kernel" if back_end == "nftables" else "programs"
    for step in ("render", writing):
        assert re.search(rf"^{step} +\d", told, re.MULTILINE)
    lines = file.read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"[^;]+(;[\w.<>]+| [\w ]+)* \d+", line) for line in lines)
    assert not any("tests.bench.profile" in line or "_pytest" in line for line in lines)


def test_the_floor_is_that_of_one_transaction_and_of_single_changes() -> None:
    found = floor.floor(SMALL, 6)
    assert found.size == SMALL
    assert found.transactions == 1
    assert found.longest == found.load
    assert found.bytes_sent > 60 * 3 * 40  # key and data of a slot, with their headers
    for took in (found.load, found.slot, found.verdict):
        assert 0 < took.seconds < 5
        assert 0 < took.cpu < 5
    assert {len(row) for row in floor.rows([found, found])} == {3}


def test_what_is_replayed_is_what_headgate_sends() -> None:
    tape = floor.recorded(SMALL, 6)
    assert (len(tape.load), len(tape.replaced), len(tape.resized)) == (1, 6, 6)
    # The first that chooses among two makes the chain for it.
    assert 5 * max(map(len, tape.replaced + tape.resized)) < len(tape.load[0])


def test_a_transaction_that_is_refused_is_no_floor() -> None:
    tape = floor.recorded(SMALL, 2)
    with sandbox.own_network(), floor.opened() as kernel, pytest.raises(OSError, match="ENOENT"):
        list(floor.replayed(kernel, tape.resized))
