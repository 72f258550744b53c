"""Which API server do both proxies follow, and how is something changed in it?

A real one where KUBEBUILDER_ASSETS names the programs, else the small one of `tests.apiserver`. It
listens on loopback in the network namespace of the caller, in processes of its own, so that none
of its work is done by whoever measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from tests.apiserver.real import RealApiServer, assets
from tests.bench.cluster import Json, Size
from tests.bench.whole.flow import Flow
from tests.bench.whole.stored import stored
from tests.bench.whole.writing import Connection

FAKE = "fake API server"
_STOP_SECONDS = 30.0
_GIVEN = frozenset({"resourceVersion", "uid", "creationTimestamp", "managedFields"})
"""What a real server gives to an object's metadata, and refuses or forgets when it is told."""


class ApiServer:
    """An API server that holds a cluster."""

    def __init__(
        self,
        name: str,
        kubeconfig: Path,
        connection: Connection,
        process: subprocess.Popen[str] | None = None,
    ) -> None:
        """Of the small one also its process."""
        self.name = name
        self.kubeconfig = kubeconfig
        self.url = connection.url
        self._connection = connection
        self._process = process

    def write(self, method: str, document: Json) -> float:
        """Create (POST), replace (PUT) or delete (DELETE) an object, whatever version it names.

        Returns time.monotonic() when the answer was read. Raises Refused.
        """
        return self._connection.write(method, document)

    @property
    def can_flow(self) -> bool:
        """Whether it can change EndpointSlices by itself."""
        return self._process is not None

    def flow(self, of: Size, rate: float, seconds: float) -> None:
        """Begin to change so many EndpointSlices a second, for so long; none of Service 0.

        Raises ValueError if there is no other Service, or if it cannot.
        """
        if self._process is None:
            raise ValueError(f"{self.name} changes nothing by itself")
        if of.services == 1:
            raise ValueError(f"{of}: nothing to change but what is left alone")
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rate} {seconds}\n")
        self._process.stdin.flush()

    def flowed(self) -> int:
        """Wait until that is over; how many changes there were. Raises RuntimeError."""
        assert self._process is not None
        return msgspec.json.decode(_said(self._process), type=Flow).changes


@contextmanager
def serving(
    of: Size, folder: Path, tell: Callable[[str], None] = print, *, fake: bool = False
) -> Iterator[ApiServer]:
    """Serve a cluster, with its node and namespaces, as long as the body runs.

    `folder` is for its files; `tell` is told what takes long; `fake`: by the small one, even where
    there is a real one. Raises RuntimeError if it does not start.
    """
    programs = None if fake else assets()
    with _fake(of, folder, tell) if programs is None else _real(programs, of, folder, tell) as api:
        yield api


@contextmanager
def _fake(of: Size, folder: Path, tell: Callable[[str], None]) -> Iterator[ApiServer]:
    tell(f"{FAKE}: {of}")
    command = [sys.executable, "-m", "tests.bench.whole.fake_server", f"{of[0]}x{of[1]}"]
    with _running(command) as process:
        url = _said(process)
        with closing(Connection(url)) as connection:
            kubeconfig = _kubeconfig(folder, {"server": url}, {})
            yield ApiServer(FAKE, kubeconfig, connection, process)


@contextmanager
def _real(
    programs: Path, of: Size, folder: Path, tell: Callable[[str], None]
) -> Iterator[ApiServer]:
    tell(f"kube-apiserver: {of}")
    server = RealApiServer(programs, folder, stored(of))
    try:
        cluster: Json = {"server": server.url, "certificate-authority": str(server.certificate)}
        kubeconfig = _kubeconfig(folder, cluster, {"token": server.token})
        context = server.client_context
        with closing(
            Connection(server.url, token=server.token, context=context, withheld=_GIVEN)
        ) as connection:
            yield ApiServer(f"kube-apiserver {server.version}", kubeconfig, connection)
    finally:
        server.stop()


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with its standard input."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.communicate(timeout=_STOP_SECONDS)


def _said(process: subprocess.Popen[str]) -> str:
    """The next line that it prints. Raises RuntimeError if it ended."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if not said:
        raise RuntimeError(f"{process.args!r} broke off: its standard error says why")
    return said


def _kubeconfig(folder: Path, cluster: Json, user: Json) -> Path:
    """A file that names the server and who asks it; JSON, which is YAML too."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": user}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path
