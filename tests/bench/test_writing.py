"""Does a connection to an API server outlive that nothing is written for a long time?"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.bench.cluster import Json
from tests.bench.whole import writing
from tests.bench.whole.writing import Connection

SERVICE: Json = {"kind": "Service", "metadata": {"namespace": "shop", "name": "pay"}}


class Server(http.server.ThreadingHTTPServer):
    """Counts its connections, and answers everything well."""

    daemon_threads = True
    connections = 0

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(("idle_seconds", "connections"), [(3600.0, 1), (-1.0, 3)])
def test_what_was_idle_for_long_is_not_trusted(
    server: Server, monkeypatch: pytest.MonkeyPatch, idle_seconds: float, connections: int
) -> None:
    monkeypatch.setattr(writing, "_IDLE_SECONDS", idle_seconds)
    with closing(Connection(f"http://127.0.0.1:{server.server_port}")) as connection:
        times = [connection.write("PUT", SERVICE) for _ in range(3)]
    assert times == sorted(times)
    assert server.connections == connections
