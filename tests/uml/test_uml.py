"""Do the tests pass that need another kernel than this machine's?

A kernel boots for each part of BOOTS. Then pytest runs in it, once for each line, and each line is a
test here, which shows what failed there.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.uml import inner, kernel

BOOTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "stories": {
        "IPVS: the stories": ["tests/packets/test_scenarios.py", "-k=ipvs"],
        "IPVS: chance and number": [
            *("tests/packets/test_uniform.py", "tests/packets/test_affinity.py", "-k=ipvs"),
        ],
        "IPVS: everything is replaced": ["tests/packets/test_churn.py", "-k=ipvs"],
        "IPVS: restarts": ["tests/packets/test_restart.py", "-k=ipvs and (killed or IPv4)"],
        "IPVS: schedulers": ["tests/packets/test_ipvs_schedulers.py"],
        "IPVS: switching": ["tests/packets/test_switching.py", "-k=ipvs"],
        "IPVS: senders are followed": ["tests/packets/test_conntrack.py", "-k=ipvs and IPv4"],
        "IPVS: faults are named": ["tests/packets/test_faults.py", "-k=ipvs and IPv4"],
    },
    "all else": {
        "SCTP in the lab": ["tests/lab/test_sctp.py"],
        "SCTP Services": ["tests/packets/test_scenarios.py", "-k=iptables-legacy and protocols"],
        "IPVS over netlink": ["tests/kernel/ipvs", "-k=not nft"],
        "conntrack without zones": ["tests/kernel/conntrack"],
        "IPVS: random clusters": ["tests/laws/test_packets.py", "-k=ipvs"],
        "IPVS: the bench": ["tests/bench/test_ipvs.py", "tests/bench/test_observer_ipvs.py"],
        "IPVS: the observer": [
            "tests/bench/test_observer.py",
            "tests/bench/test_whole.py",
            "-k=ipvs and not kube_proxy",
        ],
        "IPVS: connections are counted": ["tests/packets/test_top.py", "-k=ipvs and each"],
        "IPVS: what it has otherwise": ["tests/packets/test_ipvs_only.py"],
        "IPVS: draining": ["tests/packets/test_ipvs_draining.py"],
        "IPVS: others": ["tests/packets/test_ipvs_foreign.py"],
        "IPVS: rules of others": ["tests/packets/test_foreign.py", "-k=ipvs and legacy and IPv4"],
        "IPVS: takeover": ["tests/packets/test_ipvs_takeover.py"],
        "IPVS: traces": ["tests/packets/test_ipvs_trace.py"],
        "IPVS: drift": ["tests/packets/test_drift.py", "-k=ipvs"],
        "IPVS: giving way": ["tests/packets/test_ipvs_retiring.py"],
        "IPVS: a pod's rights": ["tests/unit/deploy/test_capabilities.py", "-k=ipvs"],
    },
}
"""What runs inside: the arguments of pytest, by what they are about. Two kernels at the same time,
for a kernel of this kind has one processor."""

RUNS = [name for runs in BOOTS.values() for name in runs]

MODULES = (
    *("br_netfilter", "ip_vs"),  # nobody loads the first by using it; by the other it is known
    *("veth", "sctp", "nf_conntrack_netlink"),
    *("iptable_nat", "iptable_filter", "ip6table_nat", "ip6table_filter"),
)
"""By their names. Others are loaded by whoever needs them, as on a real node."""

PATIENCE_SECONDS = 1200.0

pytestmark = pytest.mark.skipif(bool(kernel.why_not()), reason=kernel.why_not())


@contextmanager
def boot_folder() -> Iterator[Path]:
    """A folder in the memory of this machine."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="uml-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def complaints(request: pytest.FixtureRequest) -> Mapping[str, Sequence[str]]:
    """What the tests of each run that is asked for complain of."""
    chosen = {
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "complaints" in item.fixturenames
    }
    boots = [{name: runs[name] for name in runs if name in chosen} for runs in BOOTS.values()]
    with ThreadPoolExecutor() as pool:
        return {
            name: found for told in pool.map(_booted, filter(None, boots)) for name, found in told
        }


def _booted(runs: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Boot a kernel for these runs; what each complains of."""
    with boot_folder() as folder:
        command = inner.command(kernel.FOLDER_INSIDE, runs.values())
        ended = kernel.run(folder, command, MODULES, PATIENCE_SECONDS)
        assert ended.status == 0, str(ended)
        return [(name, inner.complaints(folder, number)) for number, name in enumerate(runs)]


@pytest.mark.parametrize("name", RUNS)
def test_the_tests_pass_there(complaints: Mapping[str, Sequence[str]], name: str) -> None:
    if complaints[name]:
        pytest.fail("\n\n".join(complaints[name]), pytrace=False)


def test_a_kernel_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """Not a process, and not what its command wrote."""
    written = tmp_path / "written"
    with boot_folder() as folder:
        lines = ["set -e", f"mkdir -p {shlex.quote(str(tmp_path))}"]
        lines += [f"echo there > {written}", f"cat {written}", "sleep infinity"]
        with kernel.start(folder, "\n".join(lines)) as process:
            _wait_until_it_says("there", process)
            namespace = Path(f"/proc/{process.pid}/ns/pid_for_children").readlink()
            pidfds = [os.pidfd_open(pid) for pid in _processes_in(namespace)]
            process.kill()
            for pidfd in pidfds:
                assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0], "a process lives on"
                os.close(pidfd)
    assert len(pidfds) > 1
    assert not written.exists()


def _wait_until_it_says(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.strip() == word:
            return
    pytest.fail(f"user-mode Linux ended:\n{''.join(said)}")


def _processes_in(namespace: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/pid").readlink() == namespace:
                found.append(int(process.name))
        except FileNotFoundError:  # it ended meanwhile
            continue
    return found
