"""Does a running headgate do what it is told, and leave the rules when it ends?

Real processes and the real kernel, in the test's own network.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import pytest

from modes import registry
from modes.base import Missing
from tests.unit.proxy.build import endpoints, node, service, together

SHOP = together(service(), endpoints("10.244.1.2"), node())


def in_kernel(name: str = "nftables") -> dict[str, tuple[str, ...]]:
    """The endpoints of each Service in this network's kernel, as a mode programmed it."""
    return {of.name: of.frontends[0].endpoints for of in registry.look(name).services}


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


PATIENCE_SECONDS = 60


class Headgate:
    """A process, and what it says; it is killed when nobody ends it in time."""

    def __init__(self, *arguments: str, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [
                *prefix,
                sys.executable,
                "-m",
                "proxy",
                "--hostname-override=node-a",
                "--cluster-cidr=10.244.0.0/16",
                "-v=2",
                *arguments,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        self._watchdog.start()

    def until(self, event: str) -> str:
        """The next line of the log that tells of this event."""
        for line in self._log:
            if f'] "{event}"' in line:
                return line
        pytest.fail(f"ended without {event}")

    def rest(self) -> list[str]:
        """What is said until it ends."""
        return list(self._log)

    def status(self) -> int:
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        self._log.close()

    @property
    def _log(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


Start = Callable[..., Headgate]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a headgate that does not outlive the test."""
    running: list[Headgate] = []

    def started(*arguments: str, prefix: Sequence[str] = ()) -> Headgate:
        running.append(Headgate(*arguments, prefix=prefix))
        return running[-1]

    yield started
    for headgate in running:
        headgate.kill()


@pytest.fixture
def headgate(start: Start, manifests: Path) -> Headgate:
    return start("--manifests", str(manifests))


@pytest.fixture(autouse=True)
def clean_kernel() -> Iterator[None]:
    yield
    for name in registry.MODES:
        mode = registry.create(name)
        with suppress(Missing):
            mode.cleanup()
        mode.close()


def test_a_saved_file_is_in_the_kernel_at_once(headgate: Headgate, manifests: Path) -> None:
    assert "mode=nftables services=1 changed=1" in headgate.until("Synced")
    assert in_kernel() == {"shop/pay:http": ("10.244.1.2:8080",)}
    manifests.write_text(SHOP.replace("10.244.1.2", "10.244.1.9"))
    headgate.until("Synced")
    assert in_kernel() == {"shop/pay:http": ("10.244.1.9:8080",)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_rules_stay_when_it_ends(headgate: Headgate, number: signal.Signals) -> None:
    headgate.until("Synced")
    headgate.process.send_signal(number)
    if number is not signal.SIGKILL:
        assert headgate.status() == 0
        [line] = headgate.rest()
        assert line.rstrip().endswith(f'] "Stopping; the rules stay" reason={number.name}')
    else:
        assert headgate.status() == -number
    assert in_kernel() == {"shop/pay:http": ("10.244.1.2:8080",)}


def test_the_next_one_keeps_what_the_last_one_left(
    headgate: Headgate, manifests: Path, start: Start
) -> None:
    headgate.until("Synced")
    headgate.process.kill()
    headgate.status()
    after = start("--manifests", str(manifests), "--once")
    lines = after.rest()
    assert after.status() == 0
    assert any('"Kept the rules that were there"' in line for line in lines)
    assert any("elements=+0-0" in line for line in lines)


def test_a_new_address_of_the_node_is_served(headgate: Headgate, manifests: Path) -> None:
    manifests.write_text(
        SHOP.replace("clusterIP:", "type: NodePort\n  clusterIP:").replace(
            "port: 80\n", "port: 80\n    nodePort: 30080\n"
        )
    )
    headgate.until("Synced")
    ip("link add eth9 type veth peer name eth10")
    try:
        ip("addr add 192.168.0.11/24 dev eth9")
        while "elements=+0-0" in headgate.until("Synced"):
            pass
        listed = subprocess.run(
            ["nft", "list", "set", "ip", "headgate", "nodeport-ips"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "192.168.0.11" in listed.stdout
    finally:
        ip("link del eth9")


def test_while_the_manifests_are_missing_the_rules_stay(
    headgate: Headgate, manifests: Path, start: Start
) -> None:
    headgate.until("Synced")
    headgate.process.kill()
    headgate.status()
    manifests.unlink()
    after = start("--manifests", str(manifests))
    assert "does not exist yet" in after.until("Skipped")
    after.process.terminate()
    assert after.status() == 0
    assert not [line for line in after.rest() if "Synced" in line]
    assert in_kernel() == {"shop/pay:http": ("10.244.1.2:8080",)}


def test_two_at_once_do_not_fight(headgate: Headgate, manifests: Path, start: Start) -> None:
    """One that shall stay waits for its turn, one that shall not is refused."""
    headgate.until("Synced")
    once = start("--manifests", str(manifests), "--once")
    pid = headgate.process.pid
    reason = f"a headgate runs in this network namespace already (pid {pid}): end it first"
    assert once.rest() == [f"headgate: {reason}\n"]
    assert once.status() == 2
    second = start("--manifests", str(manifests))
    assert f"pid={pid}" in second.until("Waiting for another headgate to end")
    impatient = start("--manifests", str(manifests))
    impatient.until("Waiting for another headgate to end")
    impatient.process.send_signal(signal.SIGTERM)
    assert impatient.status() == 128 + signal.SIGTERM
    headgate.process.kill()
    second.until("Synced")


@pytest.mark.parametrize("command", [["cleanup"], ["cleanup", "--mode=ipvs"], ["--cleanup"]])
def test_nobody_cleans_up_behind_one_that_runs(headgate: Headgate, command: list[str]) -> None:
    headgate.until("Synced")
    before = in_kernel()
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *command], capture_output=True, text=True, check=False
    )
    pid = headgate.process.pid
    reason = f"a headgate runs in this network namespace already (pid {pid}): end it first"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"headgate: {reason}\n")
    assert in_kernel() == before != {}


def test_the_first_process_of_a_container_ends_when_it_is_told_to(
    headgate: Headgate, manifests: Path, start: Start
) -> None:
    """The kernel ends no such process by a signal that it has not asked for."""
    headgate.until("Synced")
    container = start(
        "--manifests", str(manifests), prefix=("unshare", "--pid", "--fork", "--kill-child")
    )
    container.until("Waiting for another headgate to end")
    unshare = container.process.pid
    (first,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    assert container.status() == 128 + signal.SIGTERM


@pytest.mark.parametrize(("mode", "routed"), [("iptables", "1"), ("nftables", "0")])
def test_an_init_container_sets_sysctls_and_nothing_else(
    start: Start, mode: str, routed: str
) -> None:
    """It needs neither a cluster nor its turn; NodePorts on localhost need a sysctl."""
    netfilter = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")
    route_localnet = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
    route_localnet.write_text("0")
    flag = "--conntrack-tcp-timeout-established=12345s"
    prepared = start("--init-only", "--mode", mode, flag)
    assert "Prepared" in prepared.until("Prepared")
    assert prepared.status() == 0
    assert netfilter.read_text() == "12345\n"
    assert route_localnet.read_text() == f"{routed}\n"
    assert in_kernel("nftables") == {}
    saved = subprocess.run(["iptables-nft-save"], capture_output=True, text=True, check=True)
    assert "KUBE" not in saved.stdout
    route_localnet.write_text("0")


def test_once_programs_and_ends(manifests: Path, start: Start) -> None:
    done = start("--manifests", str(manifests), "--once")
    assert done.status() == 0
    assert in_kernel() == {"shop/pay:http": ("10.244.1.2:8080",)}


def test_once_with_something_refused_programs_the_rest_and_says_so(
    manifests: Path, start: Start
) -> None:
    manifests.write_text(together(SHOP, service("cart", "10.96.7.8", port=70000)))
    done = start("--manifests", str(manifests), "--once")
    assert done.status() == 1
    [line] = [line for line in done.rest() if line.startswith("W")]
    where = SHOP.count("\n") + 2
    assert line.rstrip().endswith(
        f'"Skipped" object="{manifests}:{where}: Service shop/cart" field=spec.ports[0].port'
        ' value=70000 reason="must be 1-65535"'
    )
    assert in_kernel() == {"shop/pay:http": ("10.244.1.2:8080",)}


def test_once_with_a_malformed_file_does_not_wait_for_it(manifests: Path, start: Start) -> None:
    manifests.write_text("kind: [")
    assert start("--manifests", str(manifests), "--once").status() == 1


def figures(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        body: bytes = answer.read()
    return body.decode()


def test_metrics_tell_of_syncs(manifests: Path, start: Start) -> None:
    headgate = start("--manifests", str(manifests), "--metrics-bind-address=127.0.0.1:10249")
    headgate.until("Synced")
    count = 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}'
    assert f"{count} 1.0\n" in figures(10249)


def test_who_does_not_get_the_port_of_metrics_works_all_the_same(
    manifests: Path, start: Start
) -> None:
    with socket.create_server(("127.0.0.1", 10249)):
        headgate = start("--manifests", str(manifests))
        assert 'address=127.0.0.1:10249 reason="Address already in use"' in headgate.until(
            "Not served yet"
        )
        headgate.until("Synced")


def test_who_wants_no_metrics_listens_nowhere(manifests: Path, start: Start) -> None:
    headgate = start("--manifests", str(manifests), "--metrics-bind-address=")
    headgate.until("Synced")
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        figures(10249)


def test_whoever_holds_the_lock_of_iptables_delays_a_sync_and_is_named(
    manifests: Path, start: Start
) -> None:
    headgate = start("--manifests", str(manifests), "--mode=iptables", "--iptables-variant=legacy")
    assert "lock_wait" not in headgate.until("Synced")
    metric = "headgate_xtables_lock_wait_seconds_total "
    assert f"{metric}0.0\n" in figures(10249)
    with Path("/run/xtables.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifests.write_text(SHOP.replace("10.244.1.2", "10.244.1.9"))
        waiting = headgate.until("Waiting for the xtables lock")
        assert waiting.startswith("W")
        assert f"(pid {os.getpid()})" in waiting
        # Who is waited for may have rules of its own to write; ours are as they were.
        assert in_kernel("iptables") == {"shop/pay:http": ("10.244.1.2:8080",)}
    assert "changed=1" in (synced := headgate.until("Synced"))
    assert int(synced.rpartition("lock_wait=")[2].removesuffix("ms\n")) >= 5_000
    assert in_kernel("iptables") == {"shop/pay:http": ("10.244.1.9:8080",)}
    [line] = [line for line in figures(10249).splitlines() if line.startswith(metric)]
    assert float(line.removeprefix(metric)) >= 5


def balanced(count: int) -> str:
    """So many Services with a healthCheckNodePort, 32000 and on, in YAML."""
    local = "type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort"
    found = (service(f"web-{n:03}", f"10.96.1.{n}") for n in range(count))
    return together(
        *(
            of.replace("clusterIP", f"{local}: {32000 + n}\n  clusterIP")
            for n, of in enumerate(found)
        )
    )


def probed(path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:10256/{path}", timeout=10) as answer:
        status: int = answer.status
        return status


def test_no_number_of_health_checks_and_clients_stops_the_rest(
    manifests: Path, start: Start
) -> None:
    """As 1,000 Services do with the 1,024 files that a process may have by default."""
    manifests.write_text(together(SHOP, balanced(200)))
    headgate = start(
        f"--manifests={manifests}",
        "--nodeport-addresses=0.0.0.0/0",
        prefix=("prlimit", "--nofile=256:256"),
    )
    for _ in range(200 - 256 // 2):
        headgate.until("No health checks")
    with ExitStack() as stack:
        for port in (*range(32000, 32060), *[10249] * 60, *[10256] * 60):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            stack.enter_context(client).sendall(b"G")
        assert (probed("healthz"), probed("livez")) == (200, 200)
        manifests.write_text(together(SHOP, service("new", "10.96.9.9"), balanced(200)))
        assert "changed=1" in headgate.until("Synced")
        ip("address add 192.168.77.1/32 dev lo")
        try:
            headgate.until("Synced")
        finally:
            ip("address delete 192.168.77.1/32 dev lo")
        assert (probed("healthz"), probed("livez")) == (200, 200)


def test_as_many_files_are_used_as_may_be(manifests: Path, start: Start) -> None:
    manifests.write_text(together(SHOP, balanced(200)))
    headgate = start(
        f"--manifests={manifests}",
        "--nodeport-addresses=0.0.0.0/0",
        prefix=("prlimit", "--nofile=256:1024"),
    )
    assert "before=256 now=1024" in headgate.until("Raised the limit of open files")
    for _ in range(200):
        headgate.until("Health checks")


def test_no_process_is_started(headgate: Headgate, manifests: Path) -> None:
    headgate.until("Synced")
    children = Path(f"/proc/{headgate.process.pid}/task/{headgate.process.pid}/children")
    for address in ("10.244.1.3", "10.244.1.4"):
        manifests.write_text(SHOP.replace("10.244.1.2", address))
        headgate.until("Synced")
        assert children.read_text() == ""


def test_this_network_is_the_tests_own() -> None:
    assert Path("/proc/self/ns/net").readlink() != Path(f"/proc/{os.getppid()}/ns/net").readlink()
