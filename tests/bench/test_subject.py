"""Is a whole proxy run, weighed and counted as it says?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tests.bench import processes
from tests.bench.cluster import Size
from tests.bench.whole import content, subject
from tests.bench.whole.calls import counted
from tests.bench.whole.cost import Peak
from tests.bench.whole.observer import Observer, held_at, open_observer
from tests.bench.whole.results import Calls, Memory
from tests.bench.whole.server import ApiServer, serving
from tests.bench.whole.subject import Subject, configuration
from tests.lab import sandbox
from tests.unit.proxy.configured import configured

SMALLEST = Size(5, 2)
ZONE = content.NOWHERE
CHANGES = 4
PATIENCE_SECONDS = 60.0
REST_SECONDS = 0.5
TICK = 1 / os.sysconf("SC_CLK_TCK")
KUBE_PROXY = os.environ.get("KUBE_PROXY")
NO_TRACE = "nobody may be traced here, or there is no strace"
BACK_ENDS = ("nftables", "iptables-nft", "iptables-legacy")


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    """What runs leaves its rules: each test, and who comes after, has a network without."""
    sandbox.enter_private()
    yield
    sandbox.enter_private()


class Followed(NamedTuple):
    """What is known of a proxy that followed some changes."""

    version: str
    first: float
    """Seconds of the processors when the kernel held everything."""
    last: float
    """After the changes."""
    resident: float
    memory: Memory
    calls: Calls | None
    complaint: str


def followed(program: str, back_end: str, folder: Path) -> Followed:
    """Run a proxy, take away one endpoint and bring it back, and end it."""
    with running(program, back_end, folder) as (proxy, observer, server):
        number = 0

        def change() -> None:
            nonlocal number
            number += 1
            lacking = sorted(content.wanted(SMALLEST, 1, ZONE).endpoints or ())[: number % 2]
            (document,) = content.slices(SMALLEST, 1, lacking)
            server.write("PUT", document)
            wait(observer, proxy, [content.wanted(SMALLEST, 1, ZONE, lacking)])

        first = proxy.cpu()
        for _ in range(2):
            change()  # the first that has one endpoint brings what those with one endpoint share
        rest(proxy)
        found = counted(proxy.pid, change, CHANGES)
        last, resident, complaint = proxy.cpu(), proxy.resident(), proxy.complaint("is well")
        began = time.monotonic()
        proxy.stop()
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        with pytest.raises(ProcessLookupError):
            os.kill(proxy.pid, 0)
        return Followed(proxy.version, first, last, resident, proxy.memory(), found, complaint)


@contextmanager
def running(
    program: str, back_end: str, folder: Path
) -> Iterator[tuple[Subject, Observer, ApiServer]]:
    """A proxy whose rules are all in the kernel."""
    executable = KUBE_PROXY if program == "kube-proxy" else None
    with serving(SMALLEST, folder) as server:
        proxy = Subject(program, executable, back_end, server, folder)
        observer = open_observer(back_end, program)
        before = time.monotonic()
        try:
            assert before <= proxy.start() <= time.monotonic()
            numbers = range(SMALLEST.services)
            wait(observer, proxy, [content.wanted(SMALLEST, n, ZONE) for n in numbers])
            yield proxy, observer, server
        finally:
            proxy.stop()
            observer.close()


def wait(observer: Observer, proxy: Subject, pending: list[content.Wanted]) -> None:
    held_at(observer, pending, time.monotonic() + PATIENCE_SECONDS, proxy.check)


def rest(proxy: Subject) -> None:
    """Return when it has done what a start asks for, such as looking for what others left."""
    pause = threading.Event()  # nobody sets it
    used, since = proxy.cpu(), time.monotonic()
    while (now := time.monotonic()) - since < REST_SECONDS:
        pause.wait(REST_SECONDS / 10)
        if (more := proxy.cpu()) - used > TICK:
            used, since = more, now


def sane(found: Followed, program: str, back_end: str) -> None:
    """What holds for each of them."""
    assert 0.02 < found.first <= found.last < PATIENCE_SECONDS
    assert 20 < found.resident <= found.memory.own < 200
    assert f"{program} ({back_end}) is well; its log ends:\n  " in found.complaint


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_headgate_is_weighed_and_counted(back_end: str, tmp_path: Path) -> None:
    found = followed("headgate", back_end, tmp_path)
    sane(found, "headgate", back_end)
    assert found.version.startswith("headgate ")
    assert "node=node-0" in found.complaint
    if back_end != "nftables":
        assert 1 < found.memory.children < found.memory.own
    if found.calls is None:
        pytest.skip(NO_TRACE)
    if back_end == "nftables":
        # docs/performance.md: replaced, and removed or added.
        assert found.calls.sends == 1
        assert 2 <= found.calls.messages <= 4
        assert 224 <= found.calls.bytes_sent <= 413
        assert found.calls.child_processes == 0
    else:
        assert found.calls.child_processes == 1
        assert found.calls.messages >= found.calls.sends >= 1


@pytest.mark.skipif(KUBE_PROXY is None, reason="KUBE_PROXY names no kube-proxy")
@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_kube_proxy_is_weighed_and_counted(back_end: str, tmp_path: Path) -> None:
    found = followed("kube-proxy", back_end, tmp_path)
    sane(found, "kube-proxy", back_end)
    assert found.version.startswith("v")
    assert 1 < found.memory.children < found.memory.own
    if found.calls is None:
        pytest.skip(NO_TRACE)
    assert found.calls.child_processes >= 1
    assert found.calls.messages >= found.calls.sends >= 1
    assert found.calls.bytes_sent > 200


def test_what_ended_by_itself_is_told_with_its_log(tmp_path: Path) -> None:
    with running("headgate", "nftables", tmp_path) as (proxy, _, _):
        proxy.check()
        memory = proxy.memory()
        os.kill(proxy.pid, signal.SIGKILL)
        os.waitid(os.P_PID, proxy.pid, os.WEXITED | os.WNOWAIT)
        for ask in (proxy.check, proxy.cpu, proxy.resident):
            with pytest.raises(RuntimeError, match=r"(?s)status -9; its log ends:.*Starting"):
                ask()
        assert proxy.memory().own >= memory.own
        assert proxy.start() > 0  # once more
        proxy.check()


STUBBORN = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "Kubernetes v1.99.0"; exit; fi
trap "" TERM
for program in iptables iptables-restore ip6tables-save; do $program --version; done
echo "deaf to $*"
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(
    ("back_end", "named"), [("iptables-nft", "(nf_tables)"), ("iptables-legacy", "(legacy)")]
)
def test_who_does_not_end_is_killed(
    back_end: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(subject, "_PATIENCE_SECONDS", 0.5)
    program = tmp_path / "kube-proxy"
    program.write_text(STUBBORN)
    program.chmod(0o755)
    with serving(SMALLEST, tmp_path) as server:
        stubborn = Subject("kube-proxy", str(program), back_end, server, tmp_path)
        assert stubborn.version == "v1.99.0"
        stubborn.stop()  # it does not run, and that is no fault
        stubborn.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "deaf to --config=" not in stubborn.complaint("speaks"):
            assert time.monotonic() < deadline, stubborn.complaint("does not speak")
        with pytest.raises(TimeoutError, match="ignored SIGTERM; its log ends:") as raised:
            stubborn.stop()
        assert str(raised.value).count(named) == 3
        with pytest.raises(ProcessLookupError):
            os.kill(stubborn.pid, 0)
        stubborn.stop()  # once is enough


@pytest.mark.parametrize(
    ("program", "executable"), [("headgate", "/bin/true"), ("kube-proxy", None), ("cilium", None)]
)
def test_no_other_program_is_run(program: str, executable: str | None, tmp_path: Path) -> None:
    with serving(SMALLEST, tmp_path) as server, pytest.raises(ValueError, match=program):
        Subject(program, executable, "nftables", server, tmp_path)


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs"])
def test_headgate_does_all_that_the_configuration_says(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(msgspec.json.encode(configuration(mode, "headgate 0.1.0", Path("/k"))))
    found = configured(f"--config={file}")
    assert (found.warnings, found.notes) == ((), ())
    assert (found.mode, found.kubeconfig) == (mode, "/k")
    assert found.node.cluster_cidrs == ("10.128.0.0/9",)
    assert found.min_sync_seconds == 0.001
    assert not any(
        (
            found.conntrack.max_per_core,
            found.conntrack.min,
            found.conntrack.tcp_established_seconds,
            found.conntrack.tcp_close_wait_seconds,
        )
    )


@pytest.mark.parametrize(
    ("version", "mode", "opened"),
    [
        ("v1.30.5", "nftables", True),
        ("v1.30.5", "iptables", False),
        ("v1.32.9+k3s1", "nftables", True),
        ("v1.33.0", "nftables", False),
        ("v1.36.2", "nftables", False),
        ("headgate 0.1.0", "nftables", False),
    ],
)
def test_a_feature_gate_is_opened_only_where_there_is_one(
    version: str, mode: str, opened: bool
) -> None:
    document = configuration(mode, version, Path("/k"))
    assert document.get("featureGates") == ({"NFTablesProxyMode": True} if opened else None)


FAMILY = """
import os, signal, subprocess, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
child = "import time\\n" + "held = b'x' * (30 << 20)\\nwhile time.process_time() < 0.2: pass\\nprint(); input()"
held = b"x" * (80 << 20)
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
children = [subprocess.Popen([sys.executable, "-c", child], **pipes) for _ in range(2)]
for one in children:
    one.stdout.readline()
burn(0.1)
print("both live", flush=True)
input()
for one in children:
    one.communicate(b"\\n")
print("both ended", flush=True)
input()
copy = os.fork()
if not copy:
    print("a copy lives", flush=True)
    signal.pause()
input()
os.kill(copy, 9)
"""


def test_a_family_is_weighed_while_it_lives_and_afterwards() -> None:
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        peak = Peak(parent.pid)
        assert parent.stdout.readline() == "both live\n"
        assert len(processes.descendants(parent.pid)) == 2
        alive = processes.family_seconds(parent.pid)
        assert alive > 0.5
        assert processes.child_seconds(parent.pid) == 0
        print(file=parent.stdin, flush=True)
        assert parent.stdout.readline() == "both ended\n"
        assert processes.descendants(parent.pid) == frozenset()
        assert processes.family_seconds(parent.pid) > alive - 3 * TICK
        assert 60 < peak.memory().children < 100
        print(file=parent.stdin, flush=True)
        assert parent.stdout.readline() == "a copy lives\n"
        (copy,) = processes.descendants(parent.pid)
        assert not processes.is_itself(copy, parent.pid)
        threading.Event().wait(0.1)  # it is weighed meanwhile
        memory = peak.memory()
        assert 80 < memory.own < 120
        assert memory.children < 100
        print(file=parent.stdin, flush=True)
        peak.stop()
    assert peak.memory().own == memory.own
