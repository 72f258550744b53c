"""Does the command line answer in one clear line, with the right exit status?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from modes.base import EnvironmentFault, KernelFault
from proxy.cli import main
from proxy.desired.choice import NOBODY
from proxy.flags import COMMANDS

HEADGATE = [sys.executable, "-m", "proxy"]
NO_SYSCTLS = [
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
]


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("rnu", "rnu: unknown command (did you mean run?)"),
        ("frobnicate", "frobnicate: unknown command"),
        ("run --moed=x", "--moed: unknown flag of headgate run (did you mean --mode?)"),
        ("--moed x", "--moed: unknown flag of headgate run (did you mean --mode?)"),
        # An abbreviation that works today means something else when a flag is added.
        ("--manif x", "--manif: unknown flag of headgate run (did you mean --manifests?)"),
        ("run extra", "extra: unexpected argument of headgate run"),
        ("probe --mode x", "--mode: unknown flag of headgate probe"),
        ("--manifests", "--manifests: expected one argument"),
        ("render --mode nftables --node a", NOBODY),
        ("--config=/missing/a.conf", "--config: /missing/a.conf: No such file or directory"),
        (
            "--master 10.0.0.1",
            "--master: 10.0.0.1: must be the URL of a server: https://HOST[:PORT]",
        ),
        (
            "--master http://10.0.0.1:99999",
            "--master: http://10.0.0.1:99999: must be the URL of a server: https://HOST[:PORT]",
        ),
        ("--feature-gates=A", "--feature-gates: A: 'A': must be NAME=true or NAME=false"),
        ("--feature-gates=A=x", "--feature-gates: A=x: A: x: must be true or false"),
        ("--kube-api-burst=ten", "--kube-api-burst: ten: must be an integer"),
        ("--iptables-sync-period=0", "--iptables-sync-period: 0: must be above zero"),
        (
            "--iptables-sync-period=30",
            "--iptables-sync-period: 30: must be a duration, like 90s, 15m or 1h30m",
        ),
        ("--version=maybe", "--version: maybe: must be true or false"),
        ("--cluster_cidr=x", "--cluster-cidr: x: is no CIDR"),
        ("--log_dirr=x", "--log-dirr: unknown flag of headgate run (did you mean --log-dir?)"),
        (
            "dump pay",
            "SERVICE: pay: must be namespace/name, namespace/name:port or ADDR:PORT[/PROTO]",
        ),
        ("explain", "the following arguments are required: ADDR:PORT[/PROTO]"),
        ("--mode=nft", "--mode: nft: must be one of auto, nftables, iptables, ipvs"),
        ("probe -o yaml", "-o: yaml: must be text or json"),
        ("dump -o yaml", "-o: yaml: must be text, json or native"),
        (
            "explain 10.0.0.1:80 --mode=auto --manifests . --node a",
            "--mode: auto: must name a mode: no kernel is asked which one works",
        ),
        (
            "render --mode nftables --iptables-masquerade-bit=32 --manifests . --node a",
            "--iptables-masquerade-bit: 32: must be a number, 0 to 31",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], command: str, refusal: str
) -> None:
    assert main(command.split()) == 2
    assert capsys.readouterr() == ("", f"headgate: {refusal}\n")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert main(["help"]) == 0
    assert capsys.readouterr().out == text


def test_nothing_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")


@pytest.mark.parametrize(
    "command",
    [
        "version",
        "--version",
        "run --version",
        "--version=true",
        "--v=2 --version=T --alsologtostderr",
    ],
)
def test_version(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(command.split()) == 0
    assert capsys.readouterr().out == "headgate 0.1.0\n"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: headgate {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["cleanup", "--cleanup", "--cleanup=true", "--cleanup=1 --config=/missing"]
)
def test_cleanup_without_anything_to_clean(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command.split()) == 0
    assert capsys.readouterr().out == (
        "nftables: nothing of ours was there\niptables: nothing of ours was there\n"
    )


def test_cleanup_of_one_mode_asks_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cleanup", "--mode", "nftables"]) == 0
    assert capsys.readouterr().out == "nftables: nothing of ours was there\n"
    assert main(["cleanup", "--mode", "ebpf"]) == 2
    assert capsys.readouterr().err == (
        "headgate: --mode: ebpf: must be one of auto, nftables, iptables, ipvs\n"
    )


class Cleaned:
    """A mode that has nothing, or cannot say."""

    fault: Exception | None = None

    def cleanup(self) -> bool:
        if self.fault:
            raise self.fault
        return True

    def close(self) -> None:
        """Nothing is open."""


class Absent(Cleaned):
    fault = EnvironmentFault("there is no iptables (nft): install iptables-nft-restore")


class Kept(Cleaned):
    fault = KernelFault("Device or resource busy")


def unreadable(*_: object) -> NoReturn:
    raise KernelFault("table nat holds rules of nft that iptables-nft-save cannot read")


def test_what_the_kernel_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modes.registry.look", unreadable)
    assert main(["dump", "--mode=iptables"]) == 1
    reason = "table nat holds rules of nft that iptables-nft-save cannot read"
    assert capsys.readouterr() == ("", f"headgate: {reason}\n")


@pytest.mark.parametrize(
    ("iptables", "status", "out", "err"),
    [
        (Cleaned, 0, "nftables: removed\niptables: removed\n", ""),
        (Absent, 0, "nftables: removed\n", f"headgate: iptables: {Absent.fault}\n"),
        (Kept, 1, "nftables: removed\n", "headgate: iptables: Device or resource busy\n"),
    ],
)
def test_a_mode_that_cannot_be_cleaned_keeps_no_other_from_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    iptables: type[Cleaned],
    status: int,
    out: str,
    err: str,
) -> None:
    modes: dict[str, type[Cleaned]]
    modes = {"nftables": Cleaned, "iptables": iptables, "ipvs": Absent}
    monkeypatch.setattr("proxy.cleanup.create", lambda name, **_: modes[name]())
    assert main(["cleanup"]) == status
    assert capsys.readouterr() == (out, f"{err}headgate: ipvs: {Absent.fault}\n")


def imported(*arguments: str) -> set[str]:
    """The top-level modules that a command line imports."""
    code = (
        "import sys\nfrom proxy.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["explain", "--help"], ["version"]])
def test_small_commands_import_no_large_libraries(arguments: list[str]) -> None:
    assert not imported(*arguments) & {
        "kubernetes",
        "netaddr",
        "prometheus_client",
        "pyroute2",
        "urllib3",
        "yaml",
    }


def test_explain_imports_no_client_and_no_netlink(tmp_path: Path) -> None:
    arguments = ["explain", "10.0.0.1:80", "--node=a", f"--manifests={tmp_path}"]
    assert not imported(*arguments) & {
        "kubernetes",
        "netaddr",
        "prometheus_client",
        "pyroute2",
        "urllib3",
    }


def test_a_reader_that_leaves_early_is_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*HEADGATE, "render", "--mode=nftables", "--node=a", f"--manifests={tmp_path}"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_cluster_that_nothing_leads_to_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    missing = tmp_path / "kubeconfig"
    reasons = {
        f"--kubeconfig={missing}": f"--kubeconfig: {missing}: does not exist",
        "--kubeconfig=": (
            "no --kubeconfig is given, and this is no pod of a cluster: KUBERNETES_SERVICE_HOST"
        ),
    }
    for argument, reason in reasons.items():
        # In a network namespace of its own: it may set sysctls before it looks for the cluster.
        done = subprocess.run(
            ["unshare", "-n", *HEADGATE, "run", argument, *NO_SYSCTLS],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert line.startswith(f"headgate: {reason}")


def test_without_privilege_one_line_and_status_2(tmp_path: Path) -> None:
    for command in (["probe"], ["dump"], ["cleanup"], [f"--manifests={tmp_path}"]):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *HEADGATE, *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, command
        assert done.stdout == ""
        assert done.stderr == (
            "headgate: nf_tables does not answer us: CAP_NET_ADMIN is missing (run as root)\n"
        )
