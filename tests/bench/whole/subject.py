"""What does the proxy that is measured use, from its start to its end?

headgate or kube-proxy, with the same KubeProxyConfiguration: whoever changes from one to the other
changes nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from modes.xtables.host import host_variant
from modes.xtables.variant import AUTO
from tests.bench import processes
from tests.bench.cluster import SETTINGS, Json
from tests.bench.whole.cost import Peak
from tests.bench.whole.results import Memory
from tests.lab import sandbox
from tests.lab.modes import BACK_ENDS

_ALWAYS_NFTABLES = (1, 33)
"""Before it, a feature gate of kube-proxy's opens its mode nftables."""
_PATIENCE_SECONDS = 30.0
_END_OF_LOG = 30
_IPTABLES = ("iptables", "iptables-save", "iptables-restore")
_IP6TABLES = ("ip6tables", "ip6tables-save", "ip6tables-restore")
_MULTI = {"nft": "xtables-nft-multi", "legacy": "xtables-legacy-multi"}
"""The one program of each variant, which does what its name says."""
_ADMINISTRATORS = "/usr/sbin:/sbin"
"""Not in the PATH of everyone."""


class Api(Protocol):
    """An API server that can be followed."""

    @property
    def kubeconfig(self) -> Path:
        """A file that says how to reach it."""


class Subject:
    """A proxy that runs in the network namespace of whoever starts it.

    The kernel kills it together with the thread that started it.
    """

    def __init__(
        self, program: str, executable: str | None, back_end: str, api: Api, folder: Path
    ) -> None:
        """A program, `headgate` or `kube-proxy`, and the file to execute for the latter.

        Its configuration and its log are kept in the folder; back ends as in `tests.lab.modes`.

        Raises:
            NotSandboxedError: the network is the machine's.
            ValueError: there is no such program, or no file is named for kube-proxy.
            FileNotFoundError: something that it needs is not there.
            RuntimeError: it does not tell its version.
        """
        sandbox.require_sandbox()
        self._program, self._back_end = program, back_end
        self._environment = dict(os.environ)
        self._environment["PATH"] = f"{os.environ['PATH']}:{_ADMINISTRATORS}"
        self._process: subprocess.Popen[bytes] | None = None
        self._peak: Peak | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{program}-{back_end}.log"
        mode, variant = BACK_ENDS[back_end]
        file = folder / f"{program}-{back_end}.json"
        match program, executable:
            case "headgate", None:
                command = [sys.executable, "-m", "proxy"]
                self.version = _said([*command, "version"])
                self._command = [
                    *command,
                    "run",
                    *([f"--iptables-variant={variant}"] * bool(variant)),
                ]
            case "kube-proxy", str():
                self._command = [executable]
                self.version = _said([*self._command, "--version"]).removeprefix("Kubernetes ")
                if mode == "ipvs":  # headgate finds out which iptables works here
                    variant = host_variant(AUTO).variant
                if variant:
                    named = _named(variant, self._environment["PATH"], folder)
                    self._environment["PATH"] = f"{named}:{self._environment['PATH']}"
            case _:
                raise ValueError(f"program {program!r}, to be executed {executable!r}")
        self._command.append(f"--config={file}")
        file.write_bytes(msgspec.json.encode(configuration(mode, self.version, api.kubeconfig)))

    def start(self) -> float:
        """Start it, for the first time or again; time.monotonic() just before."""
        sandbox.require_sandbox()
        self.stop()
        with self._log.open("wb") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        self._peak = Peak(self._process.pid)
        return began

    def stop(self) -> None:
        """End it, if it runs. Raises TimeoutError if it does not end by SIGTERM; it is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._weighed().stop()
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise TimeoutError(self.complaint("ignored SIGTERM")) from None

    @property
    def pid(self) -> int:
        """Its process. Raises RuntimeError if it was never started."""
        if self._process is None:
            raise RuntimeError(f"{self._program} was not started")
        return self._process.pid

    def check(self) -> None:
        """Raise RuntimeError, with the end of its log, if it has ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            self._weighed().stop()
            raise RuntimeError(self.complaint(f"ended, status {status}"))

    def cpu(self) -> float:
        """Seconds of the processors since it was started: its own, and of all that it started."""
        with self._known():
            return processes.family_seconds(self.pid)

    def memory(self) -> Memory:
        """The most that was resident since it was started; also after its end."""
        return self._weighed().memory()

    def resident(self) -> float:
        """Megabytes (2**20 bytes) that are resident now, of itself."""
        with self._known():
            return processes.megabytes(self.pid, "VmRSS")

    def complaint(self, why: str) -> str:
        """A sentence about it, with the end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()
        end = "\n".join(f"  {line}" for line in lines[-_END_OF_LOG:])
        return f"{self._program} ({self._back_end}) {why}; its log ends:\n{end}"

    def _weighed(self) -> Peak:
        if self._peak is None:
            raise RuntimeError(f"{self._program} was not started")
        return self._peak

    @contextmanager
    def _known(self) -> Iterator[None]:
        """Say so if the reason for an error is that it has ended."""
        try:
            yield
        except (OSError, KeyError):
            self.check()
            raise


def configuration(mode: str, version: str, kubeconfig: Path) -> Json:
    """The KubeProxyConfiguration for both programs; a version like `v1.36.2` or `headgate 0.1.0`.

    It leaves the machine's own settings alone: whatever would be written there is 0.
    """
    document: Json = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": SETTINGS.name,
        "clusterCIDR": ",".join(SETTINGS.cluster_cidrs),
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        **{of: {"minSyncPeriod": "1ms"} for of in ("nftables", "iptables", "ipvs")},
    }
    found = re.match(r"v(\d+)\.(\d+)", version)
    if found and mode == "nftables" and tuple(map(int, found.groups())) < _ALWAYS_NFTABLES:
        document["featureGates"] = {"NFTablesProxyMode": True}
    return document


def _named(variant: str, path: str, folder: Path) -> Path:
    """A folder in which the usual names of iptables are those of one variant."""
    program = shutil.which(_MULTI[variant], path=path)
    if program is None:
        raise FileNotFoundError(f"{_MULTI[variant]} is not in {path}")
    named = folder.resolve() / f"iptables-{variant}"
    named.mkdir(exist_ok=True)
    for name in (*_IPTABLES, *_IP6TABLES):
        with suppress(FileExistsError):
            (named / name).symlink_to(program)
    return named


def _said(command: Sequence[str]) -> str:
    """The one line that a program says. Raises RuntimeError if it says none."""
    asked = " ".join(command)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{asked}: {error}") from error
    if done.returncode != 0:
        raise RuntimeError(f"{asked} ended, status {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
