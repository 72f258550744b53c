"""Who answers HTTP? A thread that listens, and one for each request; GET and HEAD only."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, NamedTuple

from proxy import log

_PATIENCE_SECONDS = 10


class Page(NamedTuple):
    """What a path answers; the body is made when it is asked for."""

    content_type: str
    body: Callable[[], bytes]


Pages = Mapping[str, Page]


class Server:
    """Answers each path of `pages` with 200 and all others with 404, until it is stopped."""

    def __init__(self, address: str, port: int, pages: Pages) -> None:
        """Listen; port 0 stands for any free one. Raises OSError where that cannot be."""
        self._listener = _Listener(address, port, pages)
        self.port: int = self._listener.server_address[1]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"http:{self.port}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; requests that are being answered go on."""
        self._stopping = True
        self._listener.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._thread.join()
        self._listener.server_close()

    def _run(self) -> None:
        while not self._stopping:
            self._listener.handle_request()


class _Listener(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), partial(_Request, pages))

    def handle_error(self, *_: object) -> None:
        """A client that goes away is nobody's fault; anything else is ours."""
        error = sys.exception()
        if isinstance(error, OSError):
            log.info("A client of HTTP left", v=4, reason=error)
        else:
            log.error("A request of HTTP failed", exc_info=error)


class _Request(BaseHTTPRequestHandler):
    server_version, sys_version = "headgate", ""
    error_content_type, error_message_format = "text/plain", "%(code)d %(message)s\n"
    timeout = _PATIENCE_SECONDS

    def __init__(self, pages: Pages, *connection: Any) -> None:
        self._pages = pages
        super().__init__(*connection)

    def do_GET(self) -> None:
        if body := self._headers():
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._headers()

    def _headers(self) -> bytes:
        page = self._pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return b""
        body = page.body()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its own name)
        log.info("HTTP", v=6, said=format % args)
