"""Does the small API server behave like the real one? Here is the real one: kube-apiserver and etcd.

Both come from the folder that KUBEBUILDER_ASSETS names, as setup-envtest fills it. They listen on
loopback only, keep everything in one temporary folder, and end with the object.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.requests import named_in, path_of
from tests.apiserver.store import Json
from tests.apiserver.wire import connect

START_SECONDS = 90.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.1
_TRANSACTION_PUTS, _TRANSACTION_BYTES = 128, 1_000_000
"""etcd takes no more in one, by default; and 1.5 MiB of a request."""
_TOKEN = "a-token-of-this-test-only"


class RealApiServer:
    """A kube-apiserver of its own, with an etcd behind it."""

    def __init__(
        self, assets: Path, folder: Path, stored: Iterable[tuple[str, bytes]] = ()
    ) -> None:
        """Start both programs; `stored` is in etcd, by key, before the server reads it."""
        self._assets = assets
        self._folder = folder
        self._etcd_port, self._peer_port, self._port = _free_ports(3)
        self.url = f"https://127.0.0.1:{self._port}"
        self.token = _TOKEN
        self.headers = {"Authorization": f"Bearer {_TOKEN}"}
        _make_keys(folder)
        self.certificate = folder / "serving.crt"
        self.client_context: ssl.SSLContext | None = ssl.create_default_context(
            cafile=self.certificate
        )
        self._created: list[tuple[Kind, ObjectName]] = []
        self._etcd = self._start_etcd()
        try:
            self._store(stored)
            self._server = self._start_server()
        except BaseException:
            _end(self._etcd)
            raise

    @property
    def version(self) -> str:
        """Of the programs, as `v1.36.2`."""
        command = [str(self._assets / "kube-apiserver"), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return said.removeprefix("Kubernetes").strip()

    def create(self, document: Json) -> None:
        kind = Kind(document["kind"])
        name = named_in(document)
        self._request("POST", path_of(kind, ObjectName(name.namespace, "")), document)
        self._created.append((kind, name))

    def patch(self, kind: Kind, name: ObjectName, changes: Json) -> None:
        """Change an object by a merge patch (RFC 7386)."""
        self._request("PATCH", path_of(kind, name), changes)

    def delete(self, kind: Kind, name: ObjectName) -> None:
        self._request("DELETE", path_of(kind, name))
        self._created.remove((kind, name))

    def clear(self) -> None:
        """Delete what was created, so that the next test finds what this one found."""
        for kind, name in list(self._created):
            self.delete(kind, name)

    def compact(self) -> None:
        """Forget the past, in etcd and in the server's own cache of what happened lately."""
        anything = base64.b64encode(b"compacted").decode()  # etcd remembers the revision it keeps
        step = self._ask_etcd("/v3/kv/put", {"key": anything, "value": anything})
        revision = step["header"]["revision"]
        self._ask_etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        self._server.kill()  # asked to end, it would wait for those who watch
        self._server.wait()
        self._server = self._start_server()

    def stop(self) -> None:
        _end(self._server)
        _end(self._etcd)

    def _start_etcd(self) -> subprocess.Popen[bytes]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        process = self._start(
            "etcd",
            [
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",  # nothing here has to outlive a loss of power
            ],
        )
        self._await(process, "etcd", lambda: self._ask_etcd("/v3/maintenance/status", {}))
        return process

    def _start_server(self) -> subprocess.Popen[bytes]:
        process = self._start(
            "kube-apiserver",
            [
                f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--tls-cert-file={self.certificate}",
                f"--tls-private-key-file={self._folder / 'serving.key'}",
                f"--cert-dir={self._folder}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=AlwaysAllow",
                "--anonymous-auth=false",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._folder / 'accounts.key'}",
                f"--service-account-signing-key-file={self._folder / 'accounts.key'}",
                "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--feature-gates=WatchList=true",  # initial events; on by default since 1.32
            ],
        )

        def ready() -> None:
            self._request("GET", "/readyz")
            # What it makes by itself when it is up: the namespace, and last the Service.
            self._request("GET", "/api/v1/namespaces/default/services/kubernetes")

        self._await(process, "kube-apiserver", ready)
        return process

    def _start(self, program: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{program}.log").open("ab") as log:
            command = [str(self._assets / program), *arguments]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def _await(
        self, process: subprocess.Popen[bytes], program: str, ready: Callable[[], object]
    ) -> None:
        """Ask until the answer comes. Raises RuntimeError with the end of the log if none does."""
        pace = threading.Event()
        deadline = time.monotonic() + START_SECONDS
        problem: Exception = TimeoutError("never asked")
        while process.poll() is None and time.monotonic() < deadline:
            try:
                ready()
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                problem = error
                pace.wait(_POLL_SECONDS)
            else:
                return
        _end(process)
        log = (self._folder / f"{program}.log").read_text(errors="replace")
        raise RuntimeError(f"{program} does not serve: {problem}\n{log[-3000:]}")

    def _request(self, method: str, path: str, document: Json | None = None) -> bytes:
        """The body of an answer. Raises RuntimeError if it is a refusal."""
        patch = "application/merge-patch+json"
        content = patch if method == "PATCH" else "application/json"
        connection = connect(self)
        try:
            body = None if document is None else json.dumps(document)
            headers = self.headers | {"Content-Type": content}
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return answer

    def _store(self, stored: Iterable[tuple[str, bytes]]) -> None:
        """Put something into etcd, as much at once as it takes."""
        size, waiting = 0, list[Json]()
        for key, value in stored:
            if size + len(value) > _TRANSACTION_BYTES or len(waiting) == _TRANSACTION_PUTS:
                self._ask_etcd("/v3/kv/txn", {"success": waiting})
                size, waiting = 0, []
            put = {"key": base64.b64encode(key.encode()).decode()}
            put["value"] = base64.b64encode(value).decode()
            waiting.append({"requestPut": put})
            size += len(value)
        if waiting:
            self._ask_etcd("/v3/kv/txn", {"success": waiting})

    def _ask_etcd(self, path: str, question: Json) -> Json:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=10)
        try:
            connection.request("POST", path, body=json.dumps(question))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise RuntimeError(f"etcd: {path}: {response.status} {answer[:500]!r}")
        parsed: Json = json.loads(answer)
        return parsed


def _make_keys(folder: Path) -> None:
    """A certificate that is its own authority, a key for service accounts, one token."""
    self_signed = ["-x509", "-nodes", "-days", "2", "-subj", "/CN=headgate-test"]
    files = ["-keyout", "serving.key", "-out", "serving.crt"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    for command in (
        ["openssl", "req", "-newkey", "rsa:2048", *self_signed, *files, *names],
        ["openssl", "genrsa", "-out", "accounts.key", "2048"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; nobody else is in this network namespace to take them."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def assets() -> Path | None:
    """The folder with both programs; None if the environment names none.

    Raises FileNotFoundError if it names one that lacks a program.
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        return None
    for program in ("etcd", "kube-apiserver"):
        if not (Path(named) / program).is_file():
            raise FileNotFoundError(f"KUBEBUILDER_ASSETS={named} holds no {program}")
    return Path(named)
