"""Which request do these bytes make, and which bytes answer it? Pure.

As much of HTTP/1.1 (RFC 9112) as probes and scrapers need: one request a connection, whose body
nobody reads, and one answer, after which the connection ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

MAX_HEAD = 8192
"""Bytes of a request line and its headers, at most."""
NOSNIFF = ("X-Content-Type-Options", "nosniff")

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(rb"(?:\r?\n)*([!-~]+) ([!-~]+) HTTP/1\.\d\r?\n")


class Request(NamedTuple):
    """What is asked for."""

    method: str
    path: str
    """Without the query."""


class Answer(NamedTuple):
    """What is said to it."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()
    """Others than those that follow from the rest."""


Respond = Callable[[Request], Answer]


class NotARequest(ValueError):
    """These bytes never become one."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def request(received: bytes | bytearray) -> Request | None:
    """The request that begins so; None: the rest of its head is still to come.

    Raises NotARequest.
    """
    if _END_OF_HEAD.search(received) is None:
        if len(received) > MAX_HEAD:
            raise NotARequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return None
    line = _REQUEST_LINE.match(received)
    if line is None:
        raise NotARequest(HTTPStatus.BAD_REQUEST)
    method, target = (part.decode("ascii") for part in line.groups())
    return Request(method, target.partition("?")[0])


def refusal(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    """An answer that says no more than its status: `404 Not Found`."""
    body = f"{status.value} {status.phrase}\n".encode()
    return Answer(body, status=status, headers=(NOSNIFF, *headers))


def encoded(answer: Answer, *, with_body: bool) -> bytes:
    """The bytes of an answer; a request of method HEAD gets them without the body."""
    status = HTTPStatus(answer.status)
    headers = (
        ("Content-Type", answer.content_type),
        *answer.headers,
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
    )
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join((*lines, "", "")).encode()
    return head + answer.body if with_body else head
