"""How do objects reach the nodes of a real cluster? By an API server, which may die at any time.

    headgate ── router:6443, a process that can be killed ── Wire ── FakeApiServer

The wire (tests/apiserver) is where answers are cut or falsified; objects and their history survive
a killed process, as in etcd.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from endpoints.names import ObjectName
from endpoints.objects import Kind
from tests.apiserver.fake import FakeApiServer
from tests.apiserver.wire import Wire
from tests.lab import namespaces, relay, topology
from tests.lab.manifests import Document

PORT = 6443


class ApiServer:
    """An API server on the router: for every node a machine on its network."""

    url = f"http://{topology.ROUTER_INSIDE[0]}:{PORT}"

    def __init__(self, router: int) -> None:
        """Serve nothing yet but be there; the router's namespace is an open descriptor."""
        self._router = router
        self._process: subprocess.Popen[str] | None = None
        with namespaces.inside(router):  # threads and sockets stay where they are made
            self.server = FakeApiServer()
            self.wire = Wire(self.server)
        self.start()

    @property
    def is_alive(self) -> bool:
        """Whether it accepts connections."""
        return self._process is not None

    def start(self) -> None:
        """Serve again, on the same port; returns when it does. Raises ValueError if it serves."""
        if self._process is not None:
            raise ValueError(f"{self.url} is served already")
        command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.lab.relay"]
        command += [topology.ROUTER_INSIDE[0], str(PORT), str(urlsplit(self.wire.url).port)]
        with namespaces.inside(self._router):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said != relay.LISTENING:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
        self._process = process

    def kill(self) -> None:
        """End it by SIGKILL; returns when it is dead. Raises ValueError if it is."""
        if self._process is None:
            raise ValueError(f"{self.url} is dead already")
        process, self._process = self._process, None
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def cut(self) -> None:
        """Break every connection, while it goes on to accept new ones."""
        self.wire.cut()

    def compact(self) -> None:
        """Forget the past: who resumes a watch after this has to list everything again."""
        self.server.compact()

    def apply(self, objects: Iterable[Document]) -> None:
        """Save objects: new ones are added, known ones are replaced; even while it is dead."""
        for one in objects:
            self.server.create(dict(one))

    def delete(self, objects: Iterable[Document]) -> None:
        """Take objects away, even while it is dead. Raises KeyError if one is not there."""
        for one in objects:
            metadata = one["metadata"]
            assert isinstance(metadata, Mapping)
            name = ObjectName(metadata.get("namespace", ""), metadata["name"])
            self.server.delete(Kind(str(one["kind"])), name)

    def close(self) -> None:
        """End everything."""
        if self.is_alive:
            self.kill()
        self.wire.close()
        self.server.stop()
