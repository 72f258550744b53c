"""Which API server do both proxies follow, and how is something changed in it?

A real one where KUBEBUILDER_ASSETS names the programs, else the small one of `tests.apiserver`. It
listens on loopback in the network namespace of the caller, in processes of its own, so that none
of its work is done by whoever measures.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from endpoints.names import ObjectName
from tests.apiserver.requests import named_in, path_of
from tests.bench.cluster import Json, Size

FAKE = "fake API server"
_ANSWER_SECONDS = 60.0
_STOP_SECONDS = 30.0


class Refused(RuntimeError):
    """The server did not do what it was asked to."""


class Connection:
    """A connection to an API server that is kept open."""

    def __init__(self, url: str, *, token: str = "", context: ssl.SSLContext | None = None) -> None:
        """Connect when something is asked first. A context: the server is asked over TLS.

        http.client switches Nagle's algorithm off by itself.
        """
        place = urlsplit(url).netloc
        self._connection = (
            http.client.HTTPConnection(place, timeout=_ANSWER_SECONDS)
            if context is None
            else http.client.HTTPSConnection(place, timeout=_ANSWER_SECONDS, context=context)
        )
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def write(self, method: str, document: Json) -> float:
        """Create (POST), replace (PUT) or delete (DELETE) an object, whatever version it names.

        Returns time.monotonic() when the answer was read. Raises Refused.
        """
        name = named_in(document)
        place = ObjectName(name.namespace, "") if method == "POST" else name
        path = path_of(str(document["kind"]), place)
        body = b"" if method == "DELETE" else msgspec.json.encode(_unversioned(document))
        self._connection.request(method, path, body=body, headers=self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        answered = time.monotonic()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(f"{method} {path}: {response.status} {answer[:500].decode()}")
        return answered

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class ApiServer:
    """An API server that holds a cluster."""

    def __init__(self, name: str, url: str, kubeconfig: Path, connection: Connection) -> None:
        self.name = name
        self.url = url
        self.kubeconfig = kubeconfig
        self._connection = connection

    def write(self, method: str, document: Json) -> float:
        """Create (POST), replace (PUT) or delete (DELETE) an object, whatever version it names.

        Returns time.monotonic() when the answer was read. Raises Refused.
        """
        return self._connection.write(method, document)


@contextmanager
def serving(of: Size, folder: Path, tell: Callable[[str], None] = print) -> Iterator[ApiServer]:
    """Serve a cluster, with its node and namespaces, as long as the body runs.

    `folder` is for its files; `tell` is told what takes long. Raises RuntimeError if it does not
    start.
    """
    tell(f"{FAKE}: {of}")
    command = [sys.executable, "-m", "tests.bench.whole.fake_server", f"{of[0]}x{of[1]}"]
    with _running(command) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait(_STOP_SECONDS)}")
        with closing(Connection(url)) as connection:
            yield ApiServer(FAKE, url, _kubeconfig(folder, {"server": url}, {}), connection)


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with its standard input."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.communicate(timeout=_STOP_SECONDS)


def _unversioned(document: Json) -> Json:
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    kept = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    return document | {"metadata": kept}


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
