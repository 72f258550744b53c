"""Does the server answer what it has, refuse the rest, and outlive bad clients?"""

from __future__ import annotations

import http.client
import logging
import socket
import struct
from collections.abc import Iterator

import pytest

from proxy.server import Page, Server

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class OnPurposeError(Exception):
    """What a page says that cannot be made."""


def _fail() -> bytes:
    raise OnPurposeError


PAGES = {
    "/metrics": Page("text/x-figures", lambda: b"one 1\n"),
    "/large": Page("text/plain", lambda: bytes(64 << 20)),
    "/broken": Page("text/plain", _fail),
}


@pytest.fixture
def server() -> Iterator[Server]:
    listening = Server("127.0.0.1", 0, PAGES)
    yield listening
    listening.stop()


def ask(
    server: Server, method: str, path: str, address: str = "127.0.0.1"
) -> tuple[int, str | None, bytes]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection(address, server.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", "/metrics", 200, "text/x-figures", b"one 1\n"),
        ("GET", "/metrics?name[]=one", 200, "text/x-figures", b"one 1\n"),
        ("HEAD", "/metrics", 200, "text/x-figures", b""),
        ("GET", "/", 404, "text/plain", b"404 Not Found\n"),
        ("GET", "/metrics/", 404, "text/plain", b"404 Not Found\n"),
        ("HEAD", "/metricsx", 404, "text/plain", b""),
        ("POST", "/metrics", 501, "text/plain", b"501 Unsupported method ('POST')\n"),
    ],
)
def test_answers(
    server: Server, method: str, path: str, status: int, content_type: str, body: bytes
) -> None:
    assert ask(server, method, path) == (status, content_type, body)


def test_ipv6() -> None:
    server = Server("::1", 0, PAGES)
    assert ask(server, "GET", "/metrics", "::1")[0] == 200
    server.stop()


def test_an_address_that_is_taken(server: Server) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        Server("127.0.0.1", server.port, PAGES)


def test_nobody_listens_after_the_end() -> None:
    server = Server("127.0.0.1", 0, PAGES)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", "/metrics")
    # The address is free at once for the next one.
    again = Server("127.0.0.1", server.port, PAGES)
    assert ask(again, "GET", "/metrics")[0] == 200
    again.stop()


def test_who_says_nothing_keeps_nobody_waiting(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert ask(server, "GET", "/metrics")[0] == 200


def test_who_leaves_in_the_middle_is_no_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO - 4, logger="headgate")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        client.recv(1)
    while "left" not in caplog.text:
        assert ask(server, "GET", "/metrics")[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_page_that_cannot_be_made_costs_no_other(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "GET", "/broken")
    assert ask(server, "GET", "/metrics")[0] == 200
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.message == "A request of HTTP failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is OnPurposeError
