"""Does the server answer what it has, refuse the rest, and outlive bad clients?"""

from __future__ import annotations

import http.client
import json
import logging
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.message import Message

import msgspec
import pytest

from modes.base import ApplyReport, EnvironmentFault
from proxy import open_files
from proxy.config import Listener
from proxy.observer import Synced
from proxy.serving import server, web
from proxy.serving.health import Health
from proxy.serving.http_messages import MAX_HEAD, Answer
from proxy.serving.server import Serving, health_pages, metrics_pages, serve
from proxy.serving.web import listening
from tests.unit.endpoints.build import NODE_A

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
HOME = "127.0.0.1"


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another thread does soon."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline


class OnPurposeError(Exception):
    """What a page says that cannot be made."""


def _fail() -> Answer:
    raise OnPurposeError


PAGES = {
    "/metrics": lambda: Answer(b"one 1\n", "text/x-figures"),
    "/sick": lambda: Answer(b"{}", "application/json", 503, (("X-Weight", "0"),)),
    "/large": lambda: Answer(bytes(64 << 20)),
    "/broken": _fail,
}


@pytest.fixture
def serving() -> Iterator[Serving]:
    listening_now = serve(Listener(HOME, 0), PAGES)
    yield listening_now
    listening_now.stop()


def ask(
    port: int, method: str, path: str, address: str = HOME, body: bytes | None = None
) -> tuple[int, Message, bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", "/metrics", 200, "text/x-figures", b"one 1\n"),
        ("GET", "/metrics?name[]=one", 200, "text/x-figures", b"one 1\n"),
        ("HEAD", "/metrics", 200, "text/x-figures", b""),
        ("GET", "/sick", 503, "application/json", b"{}"),
        ("HEAD", "/sick", 503, "application/json", b""),
        ("GET", "/", 404, "text/plain; charset=utf-8", b"404 Not Found\n"),
        ("GET", "/metrics/", 404, "text/plain; charset=utf-8", b"404 Not Found\n"),
        ("HEAD", "/metricsx", 404, "text/plain; charset=utf-8", b""),
        ("POST", "/metrics", 405, "text/plain; charset=utf-8", b"405 Method Not Allowed\n"),
    ],
)
def test_answers(
    serving: Serving, method: str, path: str, status: int, content_type: str, body: bytes
) -> None:
    found, headers, said = ask(serving.port, method, path)
    assert (found, headers["Content-Type"], said) == (status, content_type, body)


def test_headers(serving: Serving) -> None:
    _, headers, _ = ask(serving.port, "HEAD", "/sick")
    assert (headers["X-Weight"], headers["Content-Length"]) == ("0", "2")
    _, headers, _ = ask(serving.port, "PUT", "/metrics", body=bytes(1 << 20))
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET /metrics HTTP/1.0\n\n", b"200 OK"),
        (b"\r\nGET /metrics HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /broken HTTP/1.1\r\n\r\n", b"200 OK"),
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics\r\n\r\n", b"400 Bad Request"),
        (b"GET /m\xc3\xa4 HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nX: " + bytes(MAX_HEAD), b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_a_request(serving: Serving, said: bytes, status: bytes) -> None:
    with socket.create_connection((HOME, serving.port), timeout=10) as client:
        client.sendall(said)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")


def test_a_request_that_comes_byte_by_byte(serving: Serving) -> None:
    with socket.create_connection((HOME, serving.port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n":
            client.sendall(bytes([byte]))
        assert client.makefile("rb").read().endswith(b"\r\n\r\none 1\n")


def test_a_large_answer_arrives_as_it_is(serving: Serving) -> None:
    assert ask(serving.port, "GET", "/large")[2] == bytes(64 << 20)


def test_ipv6() -> None:
    of = serve(Listener("::1", 0), PAGES)
    assert ask(of.port, "GET", "/metrics", "::1")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        ask(of.port, "GET", "/metrics")
    of.stop()


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_wildcard_is_that_of_both_families(wildcard: str) -> None:
    of = serve(Listener(wildcard, 0), PAGES)
    for address in (HOME, "::1"):
        assert ask(of.port, "GET", "/metrics", address)[0] == 200
    of.stop()


def test_an_address_that_is_taken_is_served_when_it_is_free(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.01)
    port = serving.port
    later = serve(Listener(HOME, port), {"/new": lambda: Answer(b"new")})
    assert (later.port, ask(port, "GET", "/new")[0]) == (0, 404)
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert vars(record)["fields"] == {
        "address": f"127.0.0.1:{port}",
        "reason": "Address already in use",
    }
    serving.stop()
    until(lambda: later.port > 0)
    assert ask(port, "GET", "/new")[2] == b"new"
    later.stop()


def test_an_address_that_is_taken_fails_where_it_shall(serving: Serving) -> None:
    taken = Listener(HOME, serving.port)
    reason = f"cannot listen on 127.0.0.1:{serving.port}: Address already in use"
    with pytest.raises(EnvironmentFault, match=reason):
        serve(taken, PAGES, hard_fail=True)


def test_nobody_listens_after_the_end(serving: Serving) -> None:
    silent = socket.create_connection((HOME, serving.port), timeout=10)
    assert ask(serving.port, "GET", "/metrics")[0] == 200
    serving.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(serving.port, "GET", "/metrics")
    assert silent.recv(1) == b""
    silent.close()
    # The address is free at once for the next one.
    again = serve(Listener(HOME, serving.port), PAGES, hard_fail=True)
    assert ask(again.port, "GET", "/metrics")[0] == 200
    again.stop()


def test_who_leaves_in_the_middle_is_no_error(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO - 4, logger="headgate")
    with socket.create_connection((HOME, serving.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        client.recv(1)
    until(
        lambda: ask(serving.port, "GET", "/metrics")[0] == 200 and "left" in caplog.text,
    )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_page_that_cannot_be_made_costs_no_other(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(serving.port, "GET", "/broken")
    assert ask(serving.port, "GET", "/metrics")[0] == 200
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.message == "A request of HTTP failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is OnPurposeError


def test_thousands_of_silent_clients_keep_nobody_waiting(serving: Serving) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOME, serving.port), timeout=3))
            for _ in range(2 * open_files.for_clients())
        ]
        assert ask(serving.port, "GET", "/metrics")[0] == 200
        # The first had to make room, long before their time was over; the last are still welcome.
        assert silent[0].recv(1) == b""
        silent[-1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.1 200"


def test_who_is_slow_is_left() -> None:
    served = web.Web("impatient", patience_seconds=0.2)
    listener = listening(HOME, 0)
    port = listener.getsockname()[1]
    served.call(lambda: served.open(listener, lambda _: Answer(b"")))
    with socket.create_connection((HOME, port), timeout=10) as client:
        client.sendall(b"GET / HT")
        assert client.recv(1) == b""
    served.stop()


def test_a_process_that_is_out_of_files_goes_on_later(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web, "_PAUSE_SECONDS", 0.05)
    assert ask(serving.port, "GET", "/metrics")[0] == 200
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client:
        client.settimeout(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            client.connect((HOME, serving.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            until(lambda: "No client of HTTP is accepted" in caplog.text)
            accepted = serving._web._selector
            for _ in range(3):  # it tries again, and says so once
                until(lambda: len(accepted.get_map()) == 1)
                until(lambda: len(accepted.get_map()) == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert client.recv(12) == b"HTTP/1.1 200"
    assert caplog.text.count("No client of HTTP is accepted") == 1


class Figures:
    content_type = "text/x-figures"

    def text(self) -> bytes:
        return b"two 2\n"


def test_the_pages_of_the_metrics_address() -> None:
    of = serve(
        Listener(HOME, 0), metrics_pages(Figures(), "nftables", lambda: {"mode": "nftables"})
    )
    told = {path: ask(of.port, "GET", path) for path in ("/metrics", "/proxyMode", "/healthz")}
    assert [(status, body) for status, _, body in told.values()] == [
        (200, b"two 2\n"),
        (200, b"nftables"),
        (200, b"ok"),
    ]
    assert told["/metrics"][1]["Content-Type"] == "text/x-figures"
    assert told["/proxyMode"][1]["X-Content-Type-Options"] == "nosniff"
    status, headers, body = ask(of.port, "GET", "/configz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"kubeproxy.config.k8s.io": {"mode": "nftables"}}
    of.stop()


def test_the_pages_of_the_health_address() -> None:
    health = Health(lambda: 0.0, lambda: 0.0, 30)
    counted: list[tuple[str, int]] = []
    of = serve(
        Listener(HOME, 0), health_pages(health, lambda path, status: counted.append((path, status)))
    )
    assert ask(of.port, "GET", "/livez")[0] == 200
    status, headers, body = ask(of.port, "GET", "/healthz")
    assert (status, headers["Content-Type"]) == (503, "application/json")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(body)["healthy"] is False
    health.synced(Synced(1.0, ApplyReport(), full=True, services=1, node=NODE_A))
    assert ask(of.port, "GET", "/livez")[0] == 200
    assert ask(of.port, "HEAD", "/healthz")[0] == 503  # no Node
    assert ask(of.port, "GET", "/")[0] == 404
    assert counted == [("/livez", 200), ("/healthz", 503), ("/livez", 200), ("/healthz", 503)]
    of.stop()
    assert msgspec.json.decode(body)["reason"] == "the first sync is not done yet"


def test_two_threads_serve_two_addresses(serving: Serving) -> None:
    hold, held = threading.Event(), threading.Event()

    def stuck() -> Answer:
        held.set()
        hold.wait()
        return Answer(b"at last")

    other = serve(Listener(HOME, 0), {"/": stuck})
    with socket.create_connection((HOME, other.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        held.wait()
        assert ask(serving.port, "GET", "/metrics")[0] == 200
        hold.set()
        assert client.makefile("rb").read().endswith(b"at last")
    other.stop()


def test_who_wants_no_figures_does_not_pay_for_them() -> None:
    program = "import sys, proxy.serving.server, proxy.serving.health_ports; print(*sys.modules)"
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(made.stdout.split())
    assert "proxy.serving.web" in modules
    assert not modules & {"prometheus_client", "http.server", "asyncio", "kubernetes"}
